package arpc_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Slowly has a client look for a connection every other second or so.
var v2Slowly = arpc.WithReconnect(time.Second, time.Second, arpc.Forever)

// v2Out connects a client to a server that echoes, and cuts the line for good.
func v2Out(t *testing.T, opts ...arpc.Option) (*arpc.Client, *rowLine, *arpc.Server) {
	t.Helper()
	line := &rowLine{net: memconn.Listen()}
	s := rowServe(t, line.net)
	s.Handler.Handle("/echo", rowEcho)
	s.Handler.HandleStream("/echo", func(st *arpc.Stream) {
		for msg, err := range st.RecvSeq() {
			if err == nil {
				st.Send(msg)
			}
		}
	})
	c := rowDial(t, line.Dial, append([]arpc.Option{v2Slowly}, opts...)...)
	line.setDown(true)
	line.cut()
	synctest.Wait()
	require.Equal(t, arpc.StateReconnecting, c.State())
	return c, line, s
}

// v2Sends are the ways to begin something that take a context.
var v2Sends = map[string]func(ctx context.Context, c *arpc.Client) error{
	"CallWith":   func(ctx context.Context, c *arpc.Client) error { return c.CallWith(ctx, "/echo", "x", nil) },
	"NotifyWith": func(ctx context.Context, c *arpc.Client) error { return c.NotifyWith(ctx, "/echo", "x") },
	"OpenStream": func(ctx context.Context, c *arpc.Client) error {
		st, err := c.OpenStream(ctx, "/echo")
		if err != nil {
			return err
		}
		defer st.Close()
		if err := st.Send("x"); err != nil {
			return err
		}
		return st.Recv(new(string))
	},
}

// v2TimedSends are those that take a timeout.
var v2TimedSends = map[string]func(c *arpc.Client, timeout time.Duration) error{
	"Call":   func(c *arpc.Client, timeout time.Duration) error { return c.Call("/echo", "x", nil, timeout) },
	"Notify": func(c *arpc.Client, timeout time.Duration) error { return c.Notify("/echo", "x", timeout) },
	"PushMsg": func(c *arpc.Client, timeout time.Duration) error {
		return c.PushMsg(c.NewMessage(arpc.CmdNotify, "/echo", "x"), timeout)
	},
	"CallAsync": func(c *arpc.Client, timeout time.Duration) error {
		called := make(chan error, 1)
		if err := c.CallAsync("/echo", "x", func(ctx *arpc.Context) { called <- ctx.Bind(nil) }, timeout); err != nil {
			return err
		}
		return <-called
	},
}

// v2AllSends calls f with each way to begin something, at the same time.
func v2AllSends(c *arpc.Client, f func(name string, send func() error)) {
	var all sync.WaitGroup
	defer all.Wait()
	for name, send := range v2Sends {
		all.Go(func() { f(name, func() error { return send(context.Background(), c) }) })
	}
	for name, send := range v2TimedSends {
		all.Go(func() { f(name, func() error { return send(c, time.Hour) }) })
	}
}

func TestV2WithoutAConnectionEverythingFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := v2Out(t)
		start := time.Now()
		v2AllSends(c, func(name string, send func() error) {
			err := send()
			assert.ErrorIs(t, err, arpc.ErrDisconnected, name)
			assert.True(t, arpc.SafeToRetry(err), name)
		})
		_, err := c.Ping(t.Context())
		require.ErrorIs(t, err, arpc.ErrDisconnected)
		require.Equal(t, start, time.Now())
	})
}

func TestV2WaitForReadyWaitsForTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, line, _ := v2Out(t, arpc.WithWaitForReady(true))
		start := time.Now()
		time.AfterFunc(time.Minute, func() { line.setDown(false) })
		v2AllSends(c, func(name string, send func() error) {
			assert.NoError(t, send(), name)
			assert.GreaterOrEqual(t, time.Since(start), time.Minute, name)
			assert.LessOrEqual(t, time.Since(start), time.Minute+2*time.Second, name)
		})
	})
}

func TestV2ContextSaysWhetherACallWaits(t *testing.T) {
	for name, send := range v2Sends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, line, _ := v2Out(t)
				time.AfterFunc(time.Minute, func() { line.setDown(false) })
				require.NoError(t, send(arpc.ContextWithWaitForReady(t.Context(), true), c))
			})
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := v2Out(t, arpc.WithWaitForReady(true))
				ctx := arpc.ContextWithWaitForReady(t.Context(), true)
				require.ErrorIs(t, send(arpc.ContextWithWaitForReady(ctx, false), c), arpc.ErrDisconnected)
			})
		})
	}
}

func TestV2WaitEndsWithTheContext(t *testing.T) {
	for name, send := range v2Sends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := v2Out(t, arpc.WithWaitForReady(true))
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start := time.Now()
				err := send(ctx, c)
				suiteUnsent(t, err, arpc.CodeDeadlineExceeded)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 3*time.Second, time.Since(start))

				errEnough := errors.New("enough")
				caused, stop := context.WithCancelCause(t.Context())
				time.AfterFunc(2*time.Second, func() { stop(errEnough) })
				err = send(caused, c)
				suiteUnsent(t, err, arpc.CodeCanceled)
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, errEnough)
				require.Equal(t, 5*time.Second, time.Since(start))
			})
		})
	}
}

func TestV2WaitEndsWithTheTimeout(t *testing.T) {
	for name, send := range v2TimedSends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := v2Out(t, arpc.WithWaitForReady(true))
				start := time.Now()
				suiteUnsent(t, send(c, 3*time.Second), arpc.CodeDeadlineExceeded)
				require.Equal(t, 3*time.Second, time.Since(start))
			})
		})
	}
}

// The wait for a connection and the wait for the answer share the timeout.
func TestV2TimeSpentWaitingIsTakenFromTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, line, s := v2Out(t, arpc.WithWaitForReady(true))
		left := make(chan time.Duration, 1)
		s.Handler.Handle("/slow", func(ctx *arpc.Context) {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			<-ctx.Done()
		})
		start := time.Now()
		time.AfterFunc(6*time.Second, func() { line.setDown(false) })
		err := c.Call("/slow", nil, nil, 10*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, arpc.SafeToRetry(err))
		require.Equal(t, 10*time.Second, time.Since(start))
		require.LessOrEqual(t, <-left, 4*time.Second)
	})
}

// TimeZero says not to wait for anything.
func TestV2NotificationThatMustNotWaitFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := v2Out(t, arpc.WithWaitForReady(true))
		start := time.Now()
		time.AfterFunc(time.Hour, c.Stop)
		require.ErrorIs(t, c.Notify("/echo", "x", arpc.TimeZero), arpc.ErrDisconnected)
		require.ErrorIs(t, c.PushMsg(c.NewMessage(arpc.CmdNotify, "/echo", "x"), arpc.TimeZero), arpc.ErrDisconnected)
		require.Equal(t, start, time.Now())
	})
}

func TestV2WaitEndsWhenTheClientIsClosed(t *testing.T) {
	stops := map[string]func(c *arpc.Client){
		"Stop":     (*arpc.Client).Stop,
		"Shutdown": func(c *arpc.Client) { c.Shutdown(context.Background()) },
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := v2Out(t, arpc.WithWaitForReady(true))
				time.AfterFunc(time.Minute, func() { stop(c) })
				start := time.Now()
				v2AllSends(c, func(name string, send func() error) {
					err := send()
					assert.ErrorIs(t, err, arpc.ErrClosed, name)
					assert.True(t, arpc.SafeToRetry(err), name)
				})
				require.Equal(t, time.Minute, time.Since(start))
			})
		})
	}
}

func TestV2WaitEndsWhenTheClientGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := v2Out(t, arpc.WithWaitForReady(true), arpc.WithReconnect(time.Second, time.Second, 3))
		start := time.Now()
		v2AllSends(c, func(name string, send func() error) {
			err := send()
			assert.ErrorIs(t, err, arpc.ErrClosed, name)
			assert.ErrorIs(t, err, errRowDown, name)
			assert.ErrorContains(t, err, "gave up after 3 attempts", name)
			assert.True(t, arpc.SafeToRetry(err), name)
		})
		require.LessOrEqual(t, time.Since(start), 3*time.Second)
	})
}

func TestV2AcceptedClientNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln, arpc.WithWaitForReady(true))
		v2Caller(t, ln).sayHello(wire.CmdPing, wire.Hello{})
		c := rowClient(t, s)
		c.Stop()
		suiteUnsent(t, c.CallWith(t.Context(), "/x", nil, nil), arpc.CodeUnavailable)
	})
}

func TestV2CallsThatWaitedComeBehindTheConnectedHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := arpc.NewHandler(), new(v2Log)
		c, line, s := v2Out(t, arpc.WithHandler(h), arpc.WithWaitForReady(true))
		h.HandleConnected(func(c *arpc.Client) {
			time.Sleep(time.Second)
			assert.NoError(t, c.Call("/login", nil, nil, time.Minute))
			time.Sleep(time.Second)
			assert.NoError(t, c.Call("/login", nil, nil, time.Minute))
		})
		s.Handler.Handle("/login", func(ctx *arpc.Context) { log.add("login"); ctx.Write(nil) })
		s.Handler.Handle("/work", func(ctx *arpc.Context) { log.add("work"); ctx.Write(nil) })
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() { assert.NoError(t, c.CallWith(t.Context(), "/work", nil, nil)) })
		}
		synctest.Wait()
		line.setDown(false)
		waiting.Wait()
		require.Equal(t, []string{"login", "login", "work", "work", "work"}, log.all())
	})
}

func TestV2WaitInsideAHandlerDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behind, line, _ := v2Out(t, arpc.WithWaitForReady(true))
		front := memconn.Listen()
		s := rowServe(t, front)
		relay := func(ctx *arpc.Context) { ctx.Write(behind.CallWith(ctx, "/echo", "x", nil)) }
		s.Handler.Handle("/relay", relay)
		s.Handler.Handle("/ordered", relay, false)
		s.Handler.Handle("/echo", rowEcho)
		c := rowDial(t, front.Dial)
		start := time.Now()
		var relayed sync.WaitGroup
		for _, method := range []string{"/relay", "/ordered"} {
			relayed.Go(func() { assert.NoError(t, c.Call(method, nil, nil, time.Hour), method) })
		}
		suiteRequireEcho(t, c)
		require.Less(t, time.Since(start), time.Second)
		line.setDown(false)
		relayed.Wait()
	})
}

// A handler outlives the connection of its request, and waits for the next one.
func TestV2HandlerOfALostConnectionMayWaitForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, result := arpc.NewHandler(arpc.WithWaitForReady(true)), make(chan error, 1)
		line := &rowLine{net: memconn.Listen()}
		s := rowServe(t, line.net)
		s.Handler.Handle("/echo", rowEcho)
		h.Handle("/work", func(ctx *arpc.Context) {
			line.setDown(true)
			line.cut()
			<-ctx.Done()
			time.AfterFunc(time.Minute, func() { line.setDown(false) })
			result <- ctx.Client.CallWith(context.Background(), "/echo", "x", nil)
		}, false)
		rowDial(t, line.Dial, arpc.WithHandler(h), v2Slowly)
		require.Error(t, rowClient(t, s).Call("/work", nil, nil, time.Hour))
		require.NoError(t, <-result)
	})
}

// Whatever the moment of a cut is, who waits for connections hears only of what may
// have been sent.
func TestV2WhoWaitsForReadyIsNotToldOfWhatWasNeverSent(t *testing.T) {
	v2Worlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho),
			arpctest.ClientOptions(arpc.WithWaitForReady(true), arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)))
		var all sync.WaitGroup
		stop := make(chan struct{})
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					for name, send := range v2Sends {
						if name == "OpenStream" {
							continue // its messages wait for nothing
						}
						err := send(context.Background(), p.Client)
						assert.False(t, arpc.SafeToRetry(err), "%s: %v", name, err)
					}
				}
			})
		}
		for range 50 {
			p.Peer().Stop()
			assert.NoError(t, p.Client.CallWith(arpc.ContextWithIdempotent(t.Context()), "/echo", "x", nil))
		}
		close(stop)
		all.Wait()
	})
}
