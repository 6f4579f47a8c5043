package arpc_test

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
)

// Predecessors dialled 10,000 times in 100 ms, or once a second for ever and all
// clients in step.
func TestRow28_ReconnectingBacksOff(t *testing.T) {
	for name, outage := range map[string]func(net.Conn) error{
		"nobody listens":            func(net.Conn) error { return errRowDown },
		"the peer closes at once":   func(nc net.Conn) error { nc.Close(); return nil },
		"the peer breaks at once":   func(nc net.Conn) error { rowCut(nc); return nil },
		"the peer says nonsense":    func(nc net.Conn) error { nc.Write(make([]byte, 99)); return nil },
		"the dialer panics":         func(net.Conn) error { panic("on purpose") },
		"the dialer returns no one": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				s.Handler.Handle("/echo", rowEcho)
				log := &rowDialLog{start: time.Now()}
				c, err := arpc.NewClient(func() (net.Conn, error) {
					switch {
					case !log.add():
						return ln.Dial()
					case outage == nil:
						return nil, nil
					}
					near, far := memconn.Pipe()
					return near, outage(far)
				})
				require.NoError(t, err)
				log.setDown(true)
				rowCut(c.Conn())
				time.Sleep(10 * time.Minute)
				log.setDown(false)
				rowCheckBackOff(t, log.times()[1:])

				time.Sleep(11 * time.Second)
				require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
				rowCut(c.Conn())
				time.Sleep(101 * time.Millisecond)
				require.NoError(t, c.Call("/echo", nil, nil, rowPatience), "after a success it begins with short waits")
				c.Stop()
				s.Stop()
			})
		})
	}
}

// rowDialLog notes when a client dials.
type rowDialLog struct {
	start time.Time

	mu    sync.Mutex
	down  bool
	dials []time.Duration // since start
}

// add notes a dial and reports whether the line is down.
func (l *rowDialLog) add() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials = append(l.dials, time.Since(l.start))
	return l.down
}

func (l *rowDialLog) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

func (l *rowDialLog) times() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dials)
}

// rowCheckBackOff looks at when a client dialled in an outage of ten minutes,
// with the default waits: random, up to 100 ms at first and 10 s in the end.
func rowCheckBackOff(t *testing.T, dials []time.Duration) {
	require.InDelta(t, 128, len(dials), 48)
	require.LessOrEqual(t, dials[0], 100*time.Millisecond)
	ceiling, short, long := 100*time.Millisecond, 0, 0
	last := time.Duration(0)
	for i, at := range dials {
		wait := at - last
		last = at
		require.LessOrEqual(t, wait, ceiling, "before attempt %d", i+1)
		ceiling = min(2*ceiling, 10*time.Second)
		switch {
		case wait < 3*time.Second:
			short++
		case wait > 7*time.Second:
			long++
		}
	}
	require.Greater(t, short, 15, "the waits are random")
	require.Greater(t, long, 15, "the waits are random")
}

// The same failure when a server restarts: its clients do not come in step.
func TestRow28_ClientsOfARestartedServerDoNotComeInStep(t *testing.T) {
	const n = 200
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		h := arpc.NewHandler()
		log := &rowDialLog{}
		lines := make([]*rowLine, n)
		for i := range lines {
			lines[i] = &rowLine{net: ln}
			c, err := arpc.NewClient(func() (net.Conn, error) {
				log.add()
				return lines[i].Dial()
			}, arpc.WithHandler(h))
			require.NoError(t, err)
			t.Cleanup(c.Stop)
		}
		log.start = time.Now()
		for _, line := range lines {
			line.setDown(true)
			line.cut()
		}
		time.Sleep(time.Second)
		dials := log.times()[n:]
		require.Greater(t, len(dials), n)
		require.Less(t, len(dials), 8*n)
		early := 0
		for _, at := range dials {
			if at < time.Millisecond {
				early++
			}
		}
		require.Less(t, early, n/8)
		for _, line := range lines {
			line.setDown(false)
		}
		s.Stop()
	})
}

// A limit of attempts counts connections that were of no use too.
func TestRow28_ClientGivesUpAfterItsAttempts(t *testing.T) {
	for name, dial := range map[string]func() (net.Conn, error){
		"nobody listens":          func() (net.Conn, error) { return nil, errRowDown },
		"the peer closes at once": func() (net.Conn, error) { near, far := memconn.Pipe(); far.Close(); return near, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				var dials atomic.Int64
				c, err := arpc.NewClient(func() (net.Conn, error) {
					if dials.Add(1) == 1 {
						return ln.Dial()
					}
					return dial()
				}, arpc.WithReconnect(time.Second, time.Second, 5))
				require.NoError(t, err)
				rowCut(c.Conn())
				time.Sleep(time.Minute)
				require.True(t, rowIsClosed(c.Done()))
				require.EqualValues(t, 6, dials.Load())
				require.ErrorContains(t, c.Err(), "WithReconnect")
				require.ErrorIs(t, c.Call("/x", nil, nil, rowPatience), arpc.ErrClosed)
				c.Stop()
				s.Stop()
			})
		})
	}
}

// Predecessors started a goroutine for each message, without limit.
func TestRow29_HandlersOfAConnectionAreLimited(t *testing.T) {
	const limit, n = 10, 500
	for name, c := range map[string]struct {
		mode   []bool
		most   int32
		detach bool
	}{
		"concurrent": {[]bool{true}, limit, false},
		"default":    {nil, limit, false},
		"ordered":    {[]bool{false}, 1, false},
		"detached":   {nil, limit, true},
	} {
		rowVersions(t, name, func(t *testing.T, version arpc.Option) {
			synctest.Test(t, func(t *testing.T) {
				s, client := rowPair(t, memconn.Listen(), arpc.WithMaxInflight(limit), version)
				release := make(chan struct{})
				var running suiteGauge
				var answered atomic.Int64
				work := func(ctx *arpc.Context) {
					running.enter()
					<-release
					running.leave()
					assert.NoError(t, ctx.Write(nil))
				}
				s.Handler.Handle("/work", func(ctx *arpc.Context) {
					if c.detach {
						go work(ctx.Detach())
						return
					}
					work(ctx)
				}, c.mode...)
				before := runtime.NumGoroutine()
				go func() {
					for range n { // the peer waits, or has to be kept waiting
						assert.NoError(t, client.CallAsync("/work", nil, func(ctx *arpc.Context) {
							assert.NoError(t, ctx.Bind(nil))
							answered.Add(1)
						}, arpc.TimeForever))
					}
				}()
				time.Sleep(time.Second) // the handlers pass for slow
				synctest.Wait()
				require.Equal(t, c.most, running.now.Load())
				require.LessOrEqual(t, runtime.NumGoroutine(), before+limit+5)
				close(release)
				time.Sleep(time.Second)
				synctest.Wait()
				require.EqualValues(t, n, answered.Load())
				require.Equal(t, c.most, running.most.Load())
				client.Stop()
				s.Stop()
			})
		})
	}
}

// The same failure for notifications, whose sender has to wait.
func TestRow29_NotificationsOfAConnectionAreLimited(t *testing.T) {
	const limit, n = 10, 500
	for name, mode := range map[string][]bool{"concurrent": {true}, "ordered": {false}, "default": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := []arpc.Option{arpc.WithMaxInflight(limit), arpc.WithSendQueue(50, 1<<20), arpc.WithWriteTimeout(0)}
				s, c := rowPair(t, memconn.Listen(memconn.WithBuffer(1<<10)), opts...)
				release := make(chan struct{})
				var handled, sent atomic.Int64
				s.Handler.Handle("/told", func(*arpc.Context) { <-release; handled.Add(1) }, mode...)
				before := runtime.NumGoroutine()
				go func() {
					for range n {
						assert.NoError(t, c.Notify("/told", nil, arpc.TimeForever))
						sent.Add(1)
					}
				}()
				time.Sleep(time.Second)
				synctest.Wait()
				require.Less(t, sent.Load(), int64(n/2), "the sender waits")
				require.LessOrEqual(t, runtime.NumGoroutine(), before+limit+6)
				close(release)
				time.Sleep(time.Second)
				synctest.Wait()
				require.EqualValues(t, n, handled.Load())
				c.Stop()
				s.Stop()
			})
		})
	}
}

// The same failure for streams.
func TestRow29_StreamsOfAConnectionAreLimited(t *testing.T) {
	const limit = 10
	rowVersions(t, "streams", func(t *testing.T, version arpc.Option) {
		synctest.Test(t, func(t *testing.T) {
			ln := memconn.Listen()
			s := rowServe(t, ln, arpc.WithMaxStreams(limit))
			s.Handler.Handle("/echo", rowEcho)
			var running atomic.Int64
			s.Handler.HandleStream("/stream", func(st *arpc.Stream) {
				running.Add(1)
				<-st.Context().Done()
			})
			c := rowDial(t, ln.Dial, version)
			refused := 0
			var streams []*arpc.Stream
			for range 10 * limit {
				st, err := c.OpenStream(t.Context(), "/stream")
				if err != nil { // it knows the limit
					require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
					refused++
					continue
				}
				require.NoError(t, st.Send("x"))
				streams = append(streams, st)
			}
			synctest.Wait()
			require.EqualValues(t, limit, running.Load())
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			for _, st := range streams {
				if err := st.RecvContext(ended, nil); !errors.Is(err, context.Canceled) {
					refused++
				}
			}
			require.Equal(t, 9*limit, refused)
			require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
			c.Stop()
			s.Stop()
		})
	})
}

// At predecessors one failed accept stopped the server.
func TestRow31_ServerSurvivesAcceptsThatFailForAMoment(t *testing.T) {
	for name, fail := range map[string]error{
		"no descriptors left":        &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)},
		"no descriptors left at all": &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.ENFILE)},
		"a timeout":                  &net.OpError{Op: "accept", Err: os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := &rowFlakyListener{Listener: memconn.Listen(), fails: 20, err: fail}
				s := rowServe(t, ln)
				s.Handler.Handle("/echo", rowEcho)
				c := rowDial(t, ln.Listener.Dial, arpc.WithHelloTimeout(rowPatience))
				require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
				require.Zero(t, ln.fails)
				c.Stop()
				s.Stop()
			})
		})
	}
}

// rowFlakyListener fails to accept some times.
type rowFlakyListener struct {
	*memconn.Listener
	fails int
	err   error
}

func (l *rowFlakyListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, l.err
	}
	return l.Listener.Accept()
}

// An error that stays is not tried again for ever, and connections outlive it.
func TestRow31_ServeReturnsAnErrorThatStays(t *testing.T) {
	ln := &rowFlakyListener{Listener: memconn.Listen()}
	s := arpc.NewServer()
	s.Handler.Handle("/echo", rowEcho)
	served := make(chan error, 1)
	c1 := make(chan net.Conn, 1)
	go func() {
		nc, err := ln.Listener.Dial()
		assert.NoError(t, err)
		c1 <- nc
	}()
	first := true
	go func() {
		served <- s.Serve(&rowAcceptFunc{ln, func() (net.Conn, error) {
			if first {
				first = false
				return ln.Listener.Accept()
			}
			return nil, errRowDown
		}})
	}()
	nc := rowNext(t, "dial", c1)
	err := rowNext(t, "Serve returns", served)
	require.ErrorIs(t, err, errRowDown)
	require.NotErrorIs(t, err, arpc.ErrServerClosed)
	c := rowDial(t, func() (net.Conn, error) { return nc, nil })
	require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
	rowSoon(t, "Stop returns", s.Stop)
}

type rowAcceptFunc struct {
	net.Listener
	accept func() (net.Conn, error)
}

func (l rowAcceptFunc) Accept() (net.Conn, error) { return l.accept() }

// A listener of any type will do, comparable or not.
func TestRow31_AnyListenerWillDo(t *testing.T) {
	rowInChild(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, rowAcceptFunc{ln, ln.Accept})
		s.Handler.Handle("/echo", rowEcho)
		require.NoError(t, rowDial(t, ln.Dial).Call("/echo", nil, nil, rowPatience))
		rowSoon(t, "Stop returns", s.Stop)
	})
}

// A server that waits to accept again can be stopped at once.
func TestRow31_ServerThatCannotAcceptCanBeStopped(t *testing.T) {
	ln := &rowFlakyListener{Listener: memconn.Listen(), fails: math.MaxInt, err: &net.OpError{Op: "accept", Err: syscall.EMFILE}}
	s := rowServe(t, ln)
	rowSoon(t, "Stop returns", s.Stop)
}

// At predecessors goroutines and table entries of closed connections stayed.
func TestRow32_ClosedConnectionsLeaveNothing(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s := rowServe(t, ln)
		s.Handler.Handle("/echo", rowEcho)
		s.Handler.Handle("/never", func(ctx *arpc.Context) { <-ctx.Done() })
		s.Handler.HandleStream("/stream", func(st *arpc.Stream) { st.Recv(nil); st.Recv(nil) })
		h := arpc.NewHandler(arpc.WithReconnect(time.Hour, time.Hour, 1))
		rowComeAndGo(t, 100, ln, h) // makes what is made once
		rowEventually(t, "all clients are gone", func() bool { return len(s.Clients()) == 0 })
		goroutines, memory := runtime.NumGoroutine(), rowMemory()
		rowComeAndGo(t, 1000, ln, h)
		rowEventually(t, "all clients are gone", func() bool { return len(s.Clients()) == 0 })
		rowEventually(t, "all goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
		grown := rowShrinks(512<<10, func() int64 { return rowMemory() - memory })
		require.Less(t, grown, int64(512<<10), "bytes that stay of 1000 connections")
	})
}

// rowComeAndGo makes n connections, some at the same time, uses each for all
// there is, and ends it in the middle.
func rowComeAndGo(t *testing.T, n int, ln rowNet, h *arpc.Handler) {
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for range n / 10 {
				c, err := arpc.NewClient(ln.Dial, arpc.WithHandler(h))
				if !assert.NoError(t, err) {
					return
				}
				st, err := c.OpenStream(context.Background(), "/stream")
				assert.NoError(t, err)
				assert.NoError(t, st.Send("x"))
				called := make(chan bool, 1)
				assert.NoError(t, c.CallAsync("/never", "x", func(*arpc.Context) { called <- true }, rowPatience))
				assert.NoError(t, c.Call("/echo", "x", nil, rowPatience))
				if i%2 == 0 {
					rowCut(c.Conn())
				}
				c.Stop()
				<-called
			}
		})
	}
	rowSoon(t, "connections come and go", all.Wait)
}

// A predecessor's Close left the port open.
func TestRow33_StopFreesThePort(t *testing.T) {
	const rounds = 20
	taken := 0 // by us, or now and then by somebody else in the moment between
	for i := range rounds {
		addr := rowServeAndStop(t, i)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Log(err)
			taken++
			continue
		}
		require.NoError(t, ln.Close())
	}
	require.Less(t, taken, rounds/4)
}

// rowServeAndStop serves on a port, in one of several ways, and returns its
// address when the server has stopped.
func rowServeAndStop(t *testing.T, way int) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	s, served := arpc.NewServer(), make(chan error, 1)
	s.Handler.Handle("/echo", rowEcho)
	go func() { served <- s.Serve(ln) }()
	if way%4 != 0 { // else it may be stopped before it has begun to serve
		c := rowDial(t, func() (net.Conn, error) { return net.Dial("tcp", addr) }, arpc.WithReconnect(0, 0, 0))
		require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
	}
	if way%2 == 0 {
		s.Stop()
	} else {
		require.NoError(t, s.Shutdown(t.Context()))
	}
	require.ErrorIs(t, rowNext(t, "Serve returns", served), arpc.ErrServerClosed)
	return addr
}
