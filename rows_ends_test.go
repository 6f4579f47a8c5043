package arpc_test

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// At a predecessor a write deadline that had expired made every later write
// fail, on a connection that was never closed.
func TestRow19_ExpiredWriteDeadlineEndsTheConnection(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		silent := rowSilent(t, ln)
		dial := ln.Dial
		c := rowDial(t, func() (net.Conn, error) { return dial() }, arpc.WithWriteTimeout(50*time.Millisecond))
		rowNext(t, "accepted", silent)
		dial = rowNewEcho(t).Dial
		lost := make(chan struct{})
		c.OnDisconnected(func(*arpc.Client) { close(lost) })
		rowSoon(t, "the sends end", func() {
			for !rowIsClosed(lost) {
				c.Notify("/x", make([]byte, 64<<10), rowPatience)
			}
		})
		rowEventually(t, "a new one works", func() bool { return c.Call("/echo", nil, nil, rowPatience) == nil })
	})
}

// The same with the default of ten seconds, and with the cause.
func TestRow19_ExpiredWriteDeadlineIsTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		silent := rowSilent(t, ln)
		c := rowDial(t, ln.Dial, arpc.WithReconnect(time.Hour, time.Hour, 1), arpc.WithKeepalive(0, 0))
		rowNext(t, "accepted", silent)
		start := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- c.Call("/x", make([]byte, 1<<20), nil, arpc.TimeForever) }()
		err := rowNext(t, "the call ends", ended)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.False(t, arpc.SafeToRetry(err))
		require.ErrorContains(t, err, "WithWriteTimeout")
		require.Equal(t, 10*time.Second, time.Since(start))
		require.Equal(t, arpc.StateReconnecting, c.State())
		c.Stop()
	})
}

// A deadline that was met does not harm what is written after it.
func TestRow19_WriteDeadlineThatWasMetIsForgotten(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c := rowPair(t, memconn.Listen(), arpc.WithWriteTimeout(time.Second))
			s.Handler.Handle("/echo", rowEcho)
			for range 5 {
				require.NoError(t, c.Call("/echo", make([]byte, 200<<10), nil, rowPatience))
				time.Sleep(time.Minute)
			}
			require.NoError(t, c.Err())
			c.Stop()
			s.Stop()
		})
	})
	t.Run("tcp", func(t *testing.T) {
		const timeout = 200 * time.Millisecond
		s, c := rowPair(t, rowTCP(t), arpc.WithWriteTimeout(timeout))
		s.Handler.Handle("/echo", rowEcho)
		for range 2 {
			require.NoError(t, c.Call("/echo", make([]byte, 8<<20), nil, rowPatience)) // more than a socket takes at once
			time.Sleep(timeout + timeout/4)
		}
		require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
		require.NoError(t, c.Err())
	})
}

// At a predecessor Stop during a redial left a live connection behind.
func TestRow20_StopDuringARedialLeavesNoConnection(t *testing.T) {
	ln := rowNewEcho(t)
	dialling, late := make(chan struct{}, 1), make(chan struct{})
	second := &rowNoted{closed: make(chan struct{})}
	first := true
	c := rowDial(t, func() (net.Conn, error) {
		if first {
			first = false
			return ln.Dial()
		}
		dialling <- struct{}{}
		<-late
		var err error
		second.Conn, err = ln.Dial()
		return second, err
	})
	rowCut(c.Conn())
	rowNext(t, "the client dials again", dialling)
	stopped := make(chan struct{})
	go func() { defer close(stopped); c.Stop() }()
	rowNext(t, "the client is closed", c.Done())
	close(late)
	rowNext(t, "Stop returns", stopped)
	rowNext(t, "the late connection is closed", second.closed)
	require.Empty(t, dialling)
	require.Equal(t, arpc.StateClosed, c.State())
	require.ErrorIs(t, c.Call("/echo", nil, nil, rowPatience), arpc.ErrClosed)
}

// rowNoted tells when it is closed.
type rowNoted struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (n *rowNoted) Close() error {
	n.once.Do(func() { close(n.closed) })
	return n.Conn.Close()
}

// The same failure when the user's code, told of the outage, stops the client.
func TestRow20_StopWorksInEveryHook(t *testing.T) {
	for name, set := range map[string]func(h *arpc.Handler, line *rowLine, stop func(*arpc.Client)){
		"disconnected": func(h *arpc.Handler, _ *rowLine, stop func(*arpc.Client)) { h.HandleDisconnected(stop) },
		"connected": func(h *arpc.Handler, _ *rowLine, stop func(*arpc.Client)) {
			var n atomic.Int32
			h.HandleConnected(func(c *arpc.Client) {
				if n.Add(1) == 2 {
					stop(c)
				}
			})
		},
		"reconnect, connected": func(h *arpc.Handler, _ *rowLine, stop func(*arpc.Client)) {
			h.HandleReconnect(func(c *arpc.Client, _ int, _ error) { stop(c) })
		},
		"reconnect, failed": func(h *arpc.Handler, line *rowLine, stop func(*arpc.Client)) {
			h.HandleDisconnected(func(*arpc.Client) { line.setDown(true) })
			h.HandleReconnect(func(c *arpc.Client, _ int, _ error) { stop(c) })
		},
		"before recv": func(h *arpc.Handler, line *rowLine, stop func(*arpc.Client)) { rowStopInIO(h, h.BeforeRecv, stop) },
		"before send": func(h *arpc.Handler, line *rowLine, stop func(*arpc.Client)) { rowStopInIO(h, h.BeforeSend, stop) },
	} {
		t.Run(name, func(t *testing.T) {
			line, h := &rowLine{net: rowNewEcho(t)}, arpc.NewHandler()
			stopped := make(chan struct{})
			var once sync.Once
			set(h, line, func(c *arpc.Client) {
				once.Do(func() { c.Stop(); close(stopped) })
			})
			opts := []arpc.Option{arpc.WithHandler(h), arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)}
			c, err := arpc.NewClient(line.Dial, opts...)
			require.NoError(t, err)
			c.Set("up", true)
			go c.Call("/echo", nil, nil, rowPatience)
			line.cut()
			rowNext(t, "Stop returns", stopped)
			rowSoon(t, "Stop returns again", c.Stop)
		})
	}
}

// rowStopInIO stops the client in a hook of its second connection.
func rowStopInIO(h *arpc.Handler, add func(func(net.Conn) error), stop func(*arpc.Client)) {
	var second atomic.Pointer[arpc.Client]
	var n atomic.Int32
	h.HandleConnected(func(c *arpc.Client) {
		if n.Add(1) == 2 {
			second.Store(c)
			go c.Call("/echo", nil, nil, rowPatience)
		}
	})
	add(func(net.Conn) error {
		if c := second.Load(); c != nil {
			stop(c)
		}
		return nil
	})
}

// The same failure, with the hooks that tell of single messages.
func TestRow20_StopWorksInHooksOfMessages(t *testing.T) {
	for name, frame := range map[string]wire.Header{
		"session miss":    {Cmd: wire.CmdResponse, Seq: 1 << 60},
		"message dropped": {Cmd: wire.CmdNotify, Seq: 1},
	} {
		t.Run(name, func(t *testing.T) {
			h, stopped := arpc.NewHandler(), make(chan struct{})
			stop := func(c *arpc.Client, _ *arpc.Message) { c.Stop(); close(stopped) }
			h.HandleSessionMiss(stop)
			h.HandleMessageDropped(stop)
			ln := memconn.Listen()
			rowServe(t, ln, arpc.WithHandler(h))
			p := rowCaller(t, ln)
			require.NoError(t, p.write(frame, "/nowhere", ""))
			rowNext(t, "Stop returns", stopped)
			p.ended()
		})
	}
}

// A predecessor's Close did nothing after its Shutdown.
func TestRow20_ShutdownAndStopWorkInAnyOrder(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stop := func(stop func(), _ func(context.Context) error) { stop() }
	shutdown := func(_ func(), shutdown func(context.Context) error) { shutdown(context.Background()) }
	hurry := func(_ func(), shutdown func(context.Context) error) { shutdown(ended) }
	for name, order := range map[string][]func(func(), func(context.Context) error){
		"Shutdown, Stop":                 {shutdown, stop},
		"Stop, Shutdown":                 {stop, shutdown},
		"Shutdown that gives up, Stop":   {hurry, stop},
		"Shutdown that gives up, again":  {hurry, shutdown},
		"Shutdown, Shutdown, Stop, Stop": {shutdown, shutdown, stop, stop},
	} {
		t.Run(name, func(t *testing.T) {
			rowEach(t, func(t *testing.T, ln rowNet) {
				s, c := rowPair(t, ln)
				s.Handler.Handle("/echo", rowEcho)
				require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
				for _, f := range order {
					rowSoon(t, "the client ends", func() { f(c.Stop, c.Shutdown) })
				}
				require.True(t, rowIsClosed(c.Done()))
				require.ErrorIs(t, c.Call("/echo", nil, nil, rowPatience), arpc.ErrClosed)

				other := rowDial(t, ln.Dial)
				for _, f := range order {
					rowSoon(t, "the server ends", func() { f(s.Stop, s.Shutdown) })
				}
				require.Empty(t, s.Clients())
				require.ErrorIs(t, s.Serve(memconn.Listen()), arpc.ErrServerClosed)
				rowEventually(t, "its clients hear of it", func() bool { return other.State() != arpc.StateConnected })
			})
		})
	}
}

// A predecessor dialled 28 times when it was asked to restart.
func TestRow20_RestartDialsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		s.Handler.Handle("/echo", rowEcho)
		line := &rowLine{net: ln}
		c := rowDial(t, line.Dial, arpc.WithReconnect(rowNever, rowNever, arpc.Forever))
		for i := range 10 {
			require.Equal(t, 1+i, line.count())
			require.NoError(t, c.Restart())
			synctest.Wait()
			require.Equal(t, 2+i, line.count())
			time.Sleep(time.Minute)
			require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
			require.Len(t, s.Clients(), 1)
		}
		line.cut()
		synctest.Wait()
		require.Equal(t, 11, line.count(), "an outage is no restart: it waits")
		require.NoError(t, c.Restart())
		synctest.Wait()
		require.Equal(t, 12, line.count())
		require.NoError(t, c.Call("/echo", nil, nil, rowPatience))

		line.setDown(true)
		require.NoError(t, c.Restart())
		synctest.Wait()
		require.Equal(t, 13, line.count(), "a restart that fails waits before it tries again")
		c.Stop()
		require.ErrorIs(t, c.Restart(), arpc.ErrClosed)
		s.Stop()
		require.Equal(t, 13, line.count())
	})
}

// A restart that comes while the client dials anyway is that dial.
func TestRow20_RestartDuringADialIsNotKeptForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		dials, hold := 0, make(chan struct{})
		c := rowDial(t, func() (net.Conn, error) {
			if dials++; dials == 2 {
				<-hold
			}
			return ln.Dial()
		}, arpc.WithReconnect(rowNever, rowNever, arpc.Forever))
		require.NoError(t, c.Restart())
		synctest.Wait()
		require.Equal(t, 2, dials)
		require.NoError(t, c.Restart())
		close(hold)
		synctest.Wait()
		require.Equal(t, arpc.StateConnected, c.State())
		rowCut(c.Conn())
		synctest.Wait()
		require.Equal(t, 2, dials, "an outage is no restart: it waits")
		c.Stop()
		s.Stop()
	})
}
