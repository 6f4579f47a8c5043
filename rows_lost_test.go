package arpc_test

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// A predecessor gave the late answer to a call of the old connection to a new
// call with the same number.
func TestRow01_AnswerOfAnOldConnectionNeverReachesANewCall(t *testing.T) {
	t.Run("the peer sends it to a dialled client", func(t *testing.T) {
		ln, missed := memconn.Listen(), new(atomic.Int64)
		peers := rowScript(t, ln)
		h := arpc.NewHandler()
		h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { missed.Add(1) })
		c := rowDial(t, ln.Dial, arpc.WithHandler(h))
		rowStaleAnswers(t, missed, func() (*rowPeer, *arpc.Client) {
			p := rowNext(t, "the client dials", peers)
			rowEventually(t, "connected", func() bool { return c.State() == arpc.StateConnected })
			return p, c
		})
	})
	t.Run("the peer sends it to a server", func(t *testing.T) {
		ln, missed := memconn.Listen(), new(atomic.Int64)
		h := arpc.NewHandler()
		h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { missed.Add(1) })
		s := rowServe(t, ln, arpc.WithHandler(h))
		rowStaleAnswers(t, missed, func() (*rowPeer, *arpc.Client) {
			rowEventually(t, "the old client is gone", func() bool { return len(s.Clients()) == 0 })
			return rowCaller(t, ln), rowClient(t, s)
		})
	})
	t.Run("our handler sends it", rowStaleHandlers)
}

func rowStaleAnswers(t *testing.T, missed *atomic.Int64, connect func() (*rowPeer, *arpc.Client)) {
	p, c := connect()
	old := make(chan error, 1)
	go func() { old <- c.Call("/old", nil, nil, rowPatience) }()
	asked := p.next()
	rowCut(p.nc)
	require.Error(t, rowNext(t, "the old call ends", old))

	p, c = connect()
	var rsp string
	done := make(chan error, 1)
	go func() { done <- c.Call("/new", nil, &rsp, rowPatience) }()
	f := p.next()
	require.Equal(t, "/new", f.method)
	stale := int64(0)
	send := func(seq uint64) {
		if seq != f.Seq || seq == asked.Seq {
			stale++
			require.NoError(t, p.write(wire.Header{Cmd: wire.CmdResponse, Seq: seq}, "/old", "stale"))
		}
	}
	send(asked.Seq)
	for i := range uint64(300) {
		send(i)
		send(asked.Seq + i)
		send(asked.Seq&^0xffffffff + i)
		send(asked.Seq + i<<32)
		send(asked.Seq - i<<32)
	}
	require.NoError(t, p.answer(f, "new"))
	require.NoError(t, rowNext(t, "the new call ends", done))
	require.Equal(t, "new", rsp)
	rowEventually(t, "all the others are counted", func() bool { return missed.Load() == stale })
}

// rowStaleHandlers has handlers answer on the side that dials, which is the one
// that lives on, after their connection is gone.
func rowStaleHandlers(t *testing.T) {
	ln := memconn.Listen()
	s := rowServe(t, ln)
	c := rowDial(t, ln.Dial)
	release := make(chan chan struct{}, 10)
	wrote := make(chan error, 10)
	c.Handler.Handle("/hold", func(ctx *arpc.Context) {
		go1 := make(chan struct{})
		release <- go1
		<-go1
		wrote <- ctx.Write("stale")
	})
	c.Handler.Handle("/detach", func(ctx *arpc.Context) {
		later := ctx.Detach()
		go1 := make(chan struct{})
		release <- go1
		go func() {
			<-go1
			wrote <- later.Write("stale")
		}()
	})
	c.Handler.Handle("/new", func(ctx *arpc.Context) {
		for range 2 {
			close(<-release)
			assert.Error(t, <-wrote)
		}
		ctx.Write("new")
	})
	ended := make(chan error, 2)
	onServer := rowClient(t, s)
	for _, method := range []string{"/hold", "/detach"} {
		go func() { ended <- onServer.Call(method, nil, nil, rowPatience) }()
	}
	rowEventually(t, "both are held", func() bool { return len(release) == 2 })
	rowCut(c.Conn())
	for range 2 {
		require.Error(t, rowNext(t, "the old call ends", ended))
	}
	rowEventually(t, "the old client is gone", func() bool {
		list := s.Clients()
		return len(list) == 1 && list[0] != onServer
	})
	var rsp string
	require.NoError(t, rowClient(t, s).Call("/new", nil, &rsp, rowPatience))
	require.Equal(t, "new", rsp)
}

// A predecessor lost all pending callbacks but one when the connection ended.
func TestRow02_EveryPendingCallbackRunsOnceWhenTheConnectionEnds(t *testing.T) {
	const n = 1000
	for name, end := range map[string]func(*arpc.Client, *rowPeer){
		"cut":     func(_ *arpc.Client, p *rowPeer) { rowCut(p.nc) },
		"closed":  func(_ *arpc.Client, p *rowPeer) { p.nc.Close() },
		"garbage": func(_ *arpc.Client, p *rowPeer) { p.writeRaw(make([]byte, 100)) },
		"stop":    func(c *arpc.Client, _ *rowPeer) { c.Stop() },
		"restart": func(c *arpc.Client, _ *rowPeer) { c.Restart() },
		"answers come meanwhile": func(_ *arpc.Client, p *rowPeer) {
			for range n / 4 {
				p.answer(p.next(), "")
			}
			go func() {
				for f := range p.frames {
					p.answer(f, "")
				}
			}()
			rowCut(p.nc)
		},
	} {
		t.Run(name, func(t *testing.T) {
			rowEach(t, func(t *testing.T, ln rowNet) {
				peers := rowScript(t, ln)
				c := rowDial(t, ln.Dial)
				p := rowNext(t, "the client dials", peers)
				var ran rowTally
				var all sync.WaitGroup
				all.Add(n)
				for i := range n {
					require.NoError(t, c.CallAsync("/never", nil, func(ctx *arpc.Context) {
						if ran.add(strconv.Itoa(i)) == 1 {
							defer all.Done()
						}
						if name != "answers come meanwhile" {
							assert.Error(t, ctx.Bind(nil))
						}
					}, rowPatience))
				}
				end(c, p)
				rowSoon(t, "all callbacks run", all.Wait)
				require.NoError(t, rowDial(t, rowNewEcho(t).Dial).Call("/echo", nil, nil, rowPatience))
				require.Equal(t, n, ran.total(), "some ran twice")
			})
		})
	}
}

// rowNewEcho returns the network of a server that answers /echo.
func rowNewEcho(t testing.TB) rowNet {
	ln := memconn.Listen()
	rowServe(t, ln).Handler.Handle("/echo", rowEcho)
	return ln
}

// A predecessor wrote a call that was made during an outage to the dead socket,
// and the call never ended.
func TestRow03_CallDuringAnOutageFailsAtOnceAndMayBeRepeated(t *testing.T) {
	line := &rowLine{net: rowNewEcho(t)}
	c := rowDial(t, line.Dial)
	lost := make(chan struct{})
	c.OnDisconnected(func(*arpc.Client) { close(lost) })
	line.setDown(true)
	line.cut()
	rowNext(t, "the connection is lost", lost)

	for name, send := range map[string]func() error{
		"Call":       func() error { return c.Call("/echo", "x", nil, arpc.TimeForever) },
		"CallWith":   func() error { return c.CallWith(t.Context(), "/echo", "x", nil) },
		"Notify":     func() error { return c.Notify("/echo", "x", arpc.TimeForever) },
		"TimeZero":   func() error { return c.Notify("/echo", "x", arpc.TimeZero) },
		"NotifyWith": func() error { return c.NotifyWith(t.Context(), "/echo", "x") },
		"PushMsg":    func() error { return c.PushMsg(c.NewMessage(arpc.CmdNotify, "/echo", "x"), arpc.TimeForever) },
		"OpenStream": func() error { _, err := c.OpenStream(t.Context(), "/echo"); return err },
		"CallAsync": func() error {
			return c.CallAsync("/echo", "x", func(*arpc.Context) { assert.Fail(t, "a callback beside an error") }, arpc.TimeForever)
		},
	} {
		var err error
		rowSoon(t, name, func() { err = send() })
		require.ErrorIs(t, err, arpc.ErrDisconnected, name)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), name)
		require.True(t, arpc.SafeToRetry(err), name)
		require.False(t, arpc.IsRemote(err), name)
	}
	line.setDown(false)
	rowEventually(t, "the client comes back", func() bool { return c.Call("/echo", "x", nil, rowPatience) == nil })
}

// The same failure at the moment of the cut: calls without a deadline end too,
// and say truly whether they may be repeated.
func TestRow03_CallsEndWheneverTheConnectionIsCut(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		var ran rowTally
		s := rowServe(t, ln)
		s.Handler.Handle("/once", func(ctx *arpc.Context) {
			ran.add(string(ctx.Body()))
			ctx.Write(nil)
		})
		line := &rowLine{net: ln}
		c := rowDial(t, line.Dial)
		stop := make(chan struct{})
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				for j := 0; !rowIsClosed(stop); j++ {
					id := fmt.Sprint(i, "-", j)
					err := c.Call("/once", id, nil, arpc.TimeForever)
					switch n := ran.of(id); {
					case err == nil:
						assert.Equal(t, 1, n)
					case arpc.SafeToRetry(err):
						assert.Zero(t, n, "ran, and is said to be safe to repeat: %v", err)
						rowReconnected(t, c)
					}
				}
			})
		}
		for range 40 {
			before := ran.total()
			rowEventually(t, "calls get through", func() bool { return ran.total() > before+20 })
			line.cut()
		}
		close(stop)
		rowSoon(t, "all calls end", callers.Wait)
	})
}

func rowIsClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A predecessor sent requests that had waited in its queue on the next
// connection, after it had reported them as failed.
func TestRow04_WhatWaitedToBeSentIsNotSentOnTheNextConnection(t *testing.T) {
	const n = 300
	silent := memconn.Listen(memconn.WithBuffer(512)) // nobody reads
	real, ran := memconn.Listen(), new(rowTally)
	s := rowServe(t, real)
	s.Handler.Handle("/once", func(ctx *arpc.Context) {
		ran.add(string(ctx.Body()))
		ctx.Write(nil)
	})
	s.Handler.Handle("/echo", rowEcho)
	accepted := rowSilent(t, silent)
	dial := silent.Dial
	c := rowDial(t, func() (net.Conn, error) { return dial() })
	dial = real.Dial

	// Once a write is stuck, everything that follows has surely not been sent.
	stuck := c.Conn().(*memconn.Conn)
	hello := stuck.BytesWritten()
	require.NoError(t, c.Notify("/once", make([]byte, 4<<10), rowPatience))
	rowEventually(t, "a write is stuck", func() bool { return stuck.BytesWritten() > hello })

	errs := make([]error, n)
	var all sync.WaitGroup
	all.Add(n)
	for i := range n {
		require.NoError(t, c.CallAsync("/once", strconv.Itoa(i), func(ctx *arpc.Context) {
			defer all.Done()
			errs[i] = ctx.Bind(nil)
		}, rowPatience))
		require.NoError(t, c.Notify("/once", "told "+strconv.Itoa(i), rowPatience))
	}
	rowNext(t, "accepted", accepted).(*memconn.Conn).Cut()
	rowSoon(t, "all callbacks run", all.Wait)
	rowEventually(t, "the client comes back", func() bool { return c.Call("/echo", nil, nil, rowPatience) == nil })
	require.Zero(t, ran.total())

	repeated := 0
	for i, err := range errs {
		require.Error(t, err)
		if arpc.SafeToRetry(err) {
			repeated++
			require.NoError(t, c.Call("/once", strconv.Itoa(i), nil, rowPatience))
			require.Equal(t, 1, ran.of(strconv.Itoa(i)))
		}
	}
	require.Positive(t, repeated)
	require.Equal(t, repeated, ran.total())
}

// The same failure when the connection breaks at any byte of what is sent.
func TestRow04_RequestCutAnywhereRunsAtMostOnce(t *testing.T) {
	const n = 20
	ln, ran := memconn.Listen(), new(rowTally)
	s := rowServe(t, ln)
	s.Handler.Handle("/once", func(ctx *arpc.Context) {
		ran.add(string(ctx.Body()))
		ctx.Write(nil)
	})
	for cut := int64(0); cut < 30*n; cut += 7 {
		c := rowDial(t, ln.Dial)
		c.Conn().(*memconn.Conn).CutAfter(cut)
		errs := make([]error, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { errs[i] = c.Call("/once", fmt.Sprint(cut, "-", i), nil, arpc.TimeForever) })
		}
		rowSoon(t, "all calls end", all.Wait)
		for i, err := range errs {
			switch ran := ran.of(fmt.Sprint(cut, "-", i)); {
			case err == nil:
				require.Equal(t, 1, ran)
			case arpc.SafeToRetry(err):
				require.Zero(t, ran)
			}
		}
		c.Stop()
	}
}

// The same failure from the other side: a request that was handled is never
// said to be safe to repeat, however soon behind it the connection ends.
func TestRow04_RequestThatRanIsNeverSafeToRepeat(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s := rowServe(t, ln)
		var ran rowTally
		s.Handler.Handle("/die", func(ctx *arpc.Context) {
			ran.add(string(ctx.Body()))
			rowCut(ctx.Client.Conn())
		})
		var callers sync.WaitGroup
		for i := range 8 {
			c := rowDial(t, ln.Dial)
			callers.Go(func() {
				for j := 0; ran.of(fmt.Sprint(i, "-", j-1)) > 0 || j == 0; j++ {
					if j == 100 {
						return
					}
					rowRunOnce(t, c, fmt.Sprint(i, "-", j), &ran)
				}
			})
		}
		rowSoon(t, "all calls end", callers.Wait)
	})
}

// rowRunOnce repeats a request for as long as that is said to be safe.
func rowRunOnce(t *testing.T, c *arpc.Client, id string, ran *rowTally) {
	for {
		err := c.Call("/die", id, nil, rowPatience)
		if !assert.Error(t, err) || !arpc.SafeToRetry(err) {
			return
		}
		if !assert.Zero(t, ran.of(id), "ran, and is said to be safe to repeat: %v", err) {
			return
		}
		rowReconnected(t, c)
	}
}
