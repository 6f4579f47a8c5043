package arpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// What is under way when a server goes away ends there; what begins then goes to
// the next one.
func TestV2ShutdownLetsEverythingEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		c := f.client()
		call := engAsync(c, "/second")
		s := engOpen(t, t.Context(), c, "/echo")
		engSendAll(t, s, 0, 1)
		synctest.Wait()
		start := time.Now()
		old := f.replace()
		down := engShutdown(old)
		synctest.Wait()
		suiteNext(t, s.Draining())
		require.NoError(t, c.Call("/echo", nil, nil, time.Minute))
		require.NoError(t, c.Notify("/n", nil, time.Minute))
		require.NoError(t, engOpen(t, t.Context(), c, "/echo").Close())
		require.Equal(t, start, time.Now(), "the move takes no time")
		require.NoError(t, <-call)
		engSendAll(t, s, 1, 100)
		engRecvAll(t, s, 0, 100)
		require.Empty(t, down)
		require.NoError(t, s.CloseSend())
		require.ErrorIs(t, s.Recv(nil), io.EOF)
		require.NoError(t, <-down)
		require.Equal(t, arpc.StateConnected, c.State())
		require.Empty(t, old.Clients())
		require.Len(t, f.server.Clients(), 1)
	})
}

// No call fails, whatever kind it is, while servers go away one after the other.
func TestV2NoCallFailsWhileServersGoAway(t *testing.T) {
	ways := map[string]func(c *arpc.Client) error{
		"call": func(c *arpc.Client) error { return c.Call("/echo", "x", new(string), time.Minute) },
		"context": func(c *arpc.Client) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			return c.CallWith(ctx, "/echo", "x", new(string))
		},
		"async": func(c *arpc.Client) error {
			result := make(chan error, 1)
			err := c.CallAsync("/echo", "x", func(ctx *arpc.Context) { result <- ctx.Bind(new(string)) }, time.Minute)
			if err == nil {
				err = <-result
			}
			return err
		},
		"notify": func(c *arpc.Client) error {
			for range 10 {
				if err := c.Notify("/n", nil, time.Minute); err != nil {
					return err
				}
			}
			return c.Call("/echo", nil, nil, time.Minute) // so as not to be a flood
		},
		"stream": func(c *arpc.Client) error {
			s, err := c.OpenStream(context.Background(), "/echo")
			if err != nil {
				return err
			}
			defer s.Close()
			return errors.Join(s.Send("x"), s.Recv(nil))
		},
	}
	f := engNewFleet(t)
	c := f.client()
	var stop atomic.Bool
	var loops sync.WaitGroup
	for name, way := range ways {
		for range 4 {
			loops.Go(func() {
				for !stop.Load() {
					if err := way(c); err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			})
		}
	}
	for range 30 {
		suiteRequireEcho(t, c)
		require.NoError(t, suiteNext(t, engShutdown(f.replace())))
	}
	stop.Store(true)
	loops.Wait()
}

// engSlowCoder takes a second for each request that is not part of a stream.
type engSlowCoder struct{}

func (engSlowCoder) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	if m.Cmd() == arpc.CmdRequest || m.Cmd() == arpc.CmdNotify {
		time.Sleep(engSecond)
	}
	return m
}

func (engSlowCoder) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message { return m }

// What is on its way to being sent when the connection is left, and over before it
// is, goes to the next one.
func TestV2WhatIsBeingEncodedMovesToo(t *testing.T) {
	ways := map[string]func(c *arpc.Client) error{
		"call":   func(c *arpc.Client) error { return c.Call("/echo", nil, nil, time.Minute) },
		"notify": func(c *arpc.Client) error { return c.Notify("/n", nil, time.Minute) },
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := engNewFleet(t)
				c := f.client()
				c.Handler.UseCoder(engSlowCoder{})
				called := make(chan error, 1)
				go func() { called <- way(c) }()
				synctest.Wait()
				require.NoError(t, <-engShutdown(f.replace()))
				require.NoError(t, <-called)
			})
		})
	}
}

// The server that goes away may still ask for what it needs to finish.
func TestV2ServerThatGoesAwayMayCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		f.server.Handler.Handle("/ask", func(ctx *arpc.Context) {
			time.Sleep(engSecond)
			ctx.Error(ctx.Client.Call("/echo", nil, nil, time.Minute))
		})
		c := f.client()
		call := engAsync(c, "/ask")
		synctest.Wait()
		down := engShutdown(f.replace())
		require.NoError(t, <-call)
		require.NoError(t, <-down)
	})
}

// A client comes back when it is told to, within a fifth of that, and calls wait.
func TestV2ComeBackAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t, arpc.WithComeBackAfter(10*time.Second))
		c := f.client()
		start := time.Now()
		down := engShutdown(f.replace())
		synctest.Wait()
		require.Equal(t, arpc.StateReconnecting, c.State())
		require.ErrorIs(t, c.Call("/echo", nil, nil, engSecond), context.DeadlineExceeded)
		require.NoError(t, c.Call("/echo", nil, nil, time.Minute))
		require.NoError(t, <-down)
		require.Len(t, f.dials, 2)
		require.Equal(t, f.dials[1], time.Now())
		require.GreaterOrEqual(t, time.Since(start), 10*time.Second)
		require.LessOrEqual(t, time.Since(start), 12*time.Second)
	})
}

// When there is nowhere to go, calls fail at once and may be sent again; the client
// goes on looking.
func TestV2NowhereToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		c := f.client()
		call := engAsync(c, "/second")
		synctest.Wait()
		f.mu.Lock()
		f.down = errors.New("no route to host")
		f.mu.Unlock()
		down := engShutdown(f.replace())
		synctest.Wait()
		start := time.Now()
		suiteUnsent(t, c.Call("/echo", nil, nil, time.Minute), arpc.CodeUnavailable)
		_, err := c.OpenStream(t.Context(), "/echo")
		suiteUnsent(t, err, arpc.CodeUnavailable)
		require.Equal(t, start, time.Now())
		require.NoError(t, <-call)
		require.NoError(t, <-down)
		f.mu.Lock()
		f.down = nil
		f.mu.Unlock()
		ctx := arpc.ContextWithWaitForReady(t.Context(), true)
		require.NoError(t, c.CallWith(ctx, "/echo", nil, nil))
	})
}

// A client that does not come back says so, and its calls under way end well.
func TestV2GoAwayWithoutReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		c := f.client(arpc.WithReconnect(0, 0, 0))
		call := engAsync(c, "/second")
		synctest.Wait()
		down := engShutdown(f.replace())
		synctest.Wait()
		err := c.Call("/echo", nil, nil, time.Minute)
		suiteUnsent(t, err, arpc.CodeUnavailable)
		require.ErrorIs(t, err, arpc.ErrGoingAway)
		require.NoError(t, <-call)
		require.NoError(t, <-down)
		<-c.Done()
		require.Len(t, f.dials, 1)
	})
}

// The acknowledgement is the last that begins on a connection.
func TestV2GoAwayIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := engScripted(t, engAllFeatures)
		call := engAsync(c, "/x")
		request := p.next()
		goAway := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdGoAway}, "", "maintenance")
		p.write(goAway)
		require.Equal(t, wire.Header{Cmd: wire.CmdGoAway | wire.StreamEnd}, p.next().Header)
		require.ErrorIs(t, c.Call("/x", nil, nil, time.Minute), arpc.ErrGoingAway)
		require.ErrorIs(t, c.Notify("/x", nil, time.Minute), arpc.ErrGoingAway)
		p.write(goAway) // once more, for what it is worth
		require.Equal(t, wire.Header{Cmd: wire.CmdGoAway | wire.StreamEnd}, p.next().Header)
		p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdResponse, Seq: request.Seq}, "/x", ""))
		require.NoError(t, suiteNext(t, call))
	})
}

// Requests that a peer sent before it acknowledged are served. One that never does
// is not waited for longer than the hello timeout.
func TestV2PeerThatDoesNotAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t, arpc.WithHelloTimeout(3*time.Second))
		synctest.Wait()
		start := time.Now()
		down := engShutdown(s)
		require.Equal(t, wire.Header{BodyLen: uint32(len("shutting down")), Cmd: wire.CmdGoAway}, p.next().Header)
		time.Sleep(engSecond)
		p.requireAlive()
		time.Sleep(engSecond)
		p.requireAlive()
		time.Sleep(engSecond + 2*time.Millisecond)
		p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: 9}, "/echo", ""))
		f := p.next()
		require.Equal(t, uint64(9), f.Seq)
		require.Equal(t, arpc.CodeUnavailable, arpc.Code(f.meta.Code))
		_, err := p.receive()
		require.ErrorIs(t, err, io.EOF)
		p.nc.Close()
		require.NoError(t, suiteNext(t, down))
		require.Less(t, time.Since(start), 4*time.Second)
	})
}

func TestV2BothSidesGoAwayAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		c := f.client()
		call := engAsync(c, "/second")
		synctest.Wait()
		back := make(chan error, 1)
		go func() { back <- f.server.Clients()[0].Call("/second", nil, nil, time.Hour) }()
		synctest.Wait()
		start := time.Now()
		downClient, downServer := engShutdown(c), engShutdown(f.server)
		require.NoError(t, <-call)
		require.NoError(t, <-back)
		require.NoError(t, <-downClient)
		require.NoError(t, <-downServer)
		require.Less(t, time.Since(start), 2*engSecond)
		require.Len(t, f.dials, 1)
	})
}

// A client that shuts down tells the server, which begins nothing new with it.
func TestV2ClientTellsTheServerThatItGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		served := engServed(t, f.server.Handler, "/x")
		c := f.client()
		engOpen(t, t.Context(), c, "/x")
		far := suiteNext(t, served)
		call := engAsync(c, "/second")
		synctest.Wait()
		down := engShutdown(c)
		suiteNext(t, far.Draining())
		synctest.Wait()
		err := far.Client().Call("/echo", nil, nil, time.Minute)
		suiteUnsent(t, err, arpc.CodeUnavailable)
		require.ErrorIs(t, err, arpc.ErrGoingAway)
		require.ErrorIs(t, c.Call("/echo", nil, nil, time.Minute), arpc.ErrClosed)
		engSendAll(t, far, 0, 3)
		require.NoError(t, <-call)
		require.NoError(t, far.Close())
		require.Empty(t, down)
	})
}

// Peers of version 1 are not told; what they ask then is refused, as it was.
func TestV2GoAwayWithVersion1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := engNewFleet(t)
		c := f.client(engOld)
		call := engAsync(c, "/second")
		synctest.Wait()
		down := engShutdown(f.replace())
		synctest.Wait()
		require.ErrorContains(t, c.Call("/echo", nil, nil, time.Minute), "shutting down")
		require.NoError(t, <-call)
		require.NoError(t, <-down)
		require.NoError(t, c.CallWith(arpc.ContextWithWaitForReady(t.Context(), true), "/echo", nil, nil))
	})
}

// Who connects while a server goes away is not let in, rather than let in and
// refused: it goes elsewhere.
func TestV2ConnectWhileTheServerGoesAway(t *testing.T) {
	for _, late := range []time.Duration{time.Millisecond, 4 * time.Millisecond, 7 * time.Millisecond, 9 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			f := engNewFleet(t)
			slow := func() (net.Conn, error) {
				nc, err := f.dial()
				if err == nil {
					arpctest.FaultsOf(nc).Delay(late)
				}
				return nc, err
			}
			connected := make(chan *arpc.Client, 1)
			go func() {
				c, err := arpc.NewClient(slow, arpc.WithHandler(engHandler()))
				if err != nil {
					require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
					c, err = arpc.NewClient(slow, arpc.WithHandler(engHandler()))
				}
				require.NoError(t, err)
				connected <- c
			}()
			synctest.Wait()
			down := engShutdown(f.replace())
			c := suiteNext(t, connected)
			defer c.Stop()
			for range 10 {
				require.NoError(t, c.Call("/echo", nil, nil, time.Minute), "late by %v", late)
			}
			require.NoError(t, <-down)
		})
	}
}
