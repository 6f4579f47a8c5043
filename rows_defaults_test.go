package arpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// A predecessor's Shutdown cut answers that were on their way.
func TestRow39_ShutdownLetsRequestsBeAnswered(t *testing.T) {
	const n = 100
	rowEach(t, func(t *testing.T, ln rowNet) {
		s := arpc.NewServer()
		var began sync.WaitGroup
		began.Add(2 * n)
		release := make(chan struct{})
		slow := func(ctx *arpc.Context) {
			body := append([]byte(nil), ctx.Body()...)
			began.Done()
			<-release
			assert.NoError(t, ctx.Write(body))
		}
		s.Handler.Handle("/slow", slow)
		s.Handler.Handle("/detached", func(ctx *arpc.Context) { go slow(ctx.Detach()) })
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		clients := []*arpc.Client{rowDial(t, ln.Dial), rowDial(t, ln.Dial)}
		var callers sync.WaitGroup
		for id := range n {
			for i, method := range []string{"/slow", "/detached"} {
				callers.Go(func() {
					var rsp []byte
					assert.NoError(t, clients[i].Call(method, rowBytes(id, 50<<10), &rsp, rowPatience))
					assert.Equal(t, id, rowID(rsp))
				})
			}
		}
		rowSoon(t, "all begin", began.Wait)
		shut := make(chan error, 1)
		go func() { shut <- s.Shutdown(context.Background()) }()
		require.ErrorIs(t, rowNext(t, "Serve returns", served), arpc.ErrServerClosed)
		require.Empty(t, shut)
		close(release)
		rowSoon(t, "all are answered", callers.Wait)
		require.NoError(t, rowNext(t, "Shutdown returns", shut))
		require.Empty(t, s.Clients())
	})
}

// The same failure for what comes in the very moment of the Shutdown: what ran
// is answered.
func TestRow39_WhatRanDuringAShutdownIsAnswered(t *testing.T) {
	for round := range 10 {
		rowEach(t, func(t *testing.T, ln rowNet) {
			s := rowServe(t, ln)
			var ran, answered rowTally
			s.Handler.Handle("/once", func(ctx *arpc.Context) {
				ran.add(string(ctx.Body()))
				if rand.N(20) == 0 {
					time.Sleep(2 * time.Millisecond)
				}
				ctx.Write(nil)
			})
			var callers sync.WaitGroup
			for i := range 8 {
				c := rowDial(t, ln.Dial, arpc.WithReconnect(0, 0, 0))
				callers.Go(func() {
					for j := 0; ; j++ {
						id := fmt.Sprint(round, i, j)
						if c.Call("/once", id, nil, rowPatience) != nil {
							return
						}
						answered.add(id)
					}
				})
			}
			rowEventually(t, "calls get through", func() bool { return answered.total() > 100 })
			rowSoon(t, "Shutdown returns", func() { assert.NoError(t, s.Shutdown(context.Background())) })
			rowSoon(t, "all calls end", callers.Wait)
			require.Equal(t, ran.total(), answered.total())
		})
	}
}

// The same failure while a request that has come is still being decoded.
func TestRow39_ShutdownWaitsForARequestThatIsBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		hold := make(chan struct{})
		s.Handler.UseCoder(rowMinedCoder{decode: func() { <-hold }})
		s.Handler.Handle("/echo", rowEcho)
		c := rowDial(t, ln.Dial)
		called, shut := make(chan error, 1), make(chan error, 1)
		go func() { called <- c.Call("/echo", nil, nil, rowPatience) }()
		synctest.Wait()
		go func() { shut <- s.Shutdown(context.Background()) }()
		time.Sleep(time.Second)
		close(hold)
		if err := rowNext(t, "the call ends", called); err != nil {
			require.True(t, arpc.IsRemote(err), "refused, and told so: %v", err)
		}
		require.NoError(t, rowNext(t, "Shutdown returns", shut))
		c.Stop()
	})
}

// A client's Shutdown, too, waits for both directions.
func TestRow39_ClientShutdownLetsCallsEnd(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		release, began := make(chan struct{}), make(chan struct{}, 100)
		slow := func(ctx *arpc.Context) {
			began <- struct{}{}
			<-release
			assert.NoError(t, ctx.Write("done"))
		}
		s.Handler.Handle("/slow", slow)
		c.Handler.Handle("/slow", slow)
		var callers sync.WaitGroup
		for _, end := range []*arpc.Client{c, rowClient(t, s)} {
			for range 20 {
				callers.Go(func() {
					var rsp string
					assert.NoError(t, end.Call("/slow", nil, &rsp, rowPatience))
					assert.Equal(t, "done", rsp)
				})
			}
		}
		for range 40 {
			rowNext(t, "all begin", began)
		}
		shut := make(chan error, 1)
		go func() { shut <- c.Shutdown(context.Background()) }()
		rowEventually(t, "new calls are refused", func() bool {
			err := c.CallAsync("/slow", nil, func(*arpc.Context) {}, rowPatience)
			return errors.Is(err, arpc.ErrClosed) && arpc.SafeToRetry(err)
		})
		require.Empty(t, shut)
		close(release)
		rowSoon(t, "all calls end", callers.Wait)
		require.NoError(t, rowNext(t, "Shutdown returns", shut))
		require.Equal(t, arpc.StateClosed, c.State())
	})
}

// A predecessor wrote each message by itself unless told otherwise.
func TestRow40_MessagesShareWritesByDefault(t *testing.T) {
	t.Run("answers to requests that come together", func(t *testing.T) {
		const n = 200
		rowEach(t, func(t *testing.T, ln rowNet) {
			var writes atomic.Int64
			h := arpc.NewHandler()
			h.BeforeSend(func(net.Conn) error { writes.Add(1); return nil })
			h.Handle("/echo", rowEcho)
			rowServe(t, ln, arpc.WithHandler(h))
			p := rowCaller(t, ln)
			var all []byte
			for i := range uint64(n) {
				all = wire.AppendFrame(all, wire.Header{Cmd: wire.CmdRequest, Seq: i}, "/echo", "x")
			}
			require.NoError(t, p.writeRaw(all))
			for range n {
				p.next()
			}
			require.Less(t, writes.Load(), int64(n/4))
		})
	})
	t.Run("calls that are made together", func(t *testing.T) {
		const callers, rounds = 100, 30
		ln := rowTCP(t)
		var writes atomic.Int64
		h := arpc.NewHandler()
		h.BeforeSend(func(net.Conn) error { writes.Add(1); return nil })
		rowServe(t, ln).Handler.Handle("/echo", rowEcho)
		c := rowDial(t, ln.Dial, arpc.WithHandler(h))
		rowSoon(t, "all calls end", func() { rowCallers(t, c, callers, rounds) })
		require.Less(t, writes.Load(), int64(callers*rounds/2))
	})
	t.Run("calls that are made during a write", func(t *testing.T) {
		const callers = 100
		rowEach(t, func(t *testing.T, ln rowNet) {
			var writes atomic.Int64
			var armed atomic.Pointer[arpc.Client]
			h := arpc.NewHandler()
			h.BeforeSend(func(net.Conn) error {
				if c := armed.Load(); c != nil && writes.Add(1) == 1 {
					assert.Eventually(t, func() bool { return c.Inflight() == callers }, rowGuard, time.Millisecond, "all call")
				}
				return nil
			})
			rowServe(t, ln).Handler.Handle("/echo", rowEcho)
			c := rowDial(t, ln.Dial, arpc.WithHandler(h))
			armed.Store(c)
			rowSoon(t, "all calls end", func() { rowCallers(t, c, callers, 1) })
			require.LessOrEqual(t, writes.Load(), int64(2))
		})
	})
}

// rowCallers has so many callers call, each so often.
func rowCallers(t *testing.T, c *arpc.Client, callers, rounds int) {
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range rounds {
				assert.NoError(t, c.Call("/echo", "x", nil, rowPatience))
			}
		})
	}
	all.Wait()
}

// Predecessors' README files had programs that did not compile.
func TestRow41_ProgramsInTheDocumentationCompile(t *testing.T) {
	var files []string
	dir := t.TempDir()
	for _, program := range rowPrograms(t) {
		path := filepath.Join(dir, fmt.Sprint("program", len(files)), "main.go")
		require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(program.source), 0o600))
		files = append(files, path)
		out, err := exec.Command("go", "vet", path).CombinedOutput() // in this module
		assert.NoError(t, err, "the program in %s, line %d:\n%s", program.file, program.line, out)
	}
}

type rowProgram struct {
	file   string
	line   int
	source string
}

// rowPrograms returns the whole programs in the documentation: the blocks that
// begin with ```go and have a main package.
func rowPrograms(t *testing.T) (programs []rowProgram) {
	var texts []string
	if _, err := os.Stat("README.md"); err == nil {
		texts = append(texts, "README.md")
	}
	err := filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			texts = append(texts, path)
		}
		return err
	})
	require.NoError(t, err)
	for _, file := range texts {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for before, rest, ok := strings.Cut(string(text), "\n```go\n"); ok; {
			source, _, _ := strings.Cut(rest, "\n```")
			if strings.Contains("\n"+source, "\npackage main\n") {
				line := strings.Count(before, "\n") + 3
				programs = append(programs, rowProgram{file, line, source + "\n"})
			}
			var more string
			more, rest, ok = strings.Cut(rest, "\n```go\n")
			before += "\n```go\n" + more
		}
	}
	return programs
}

// A predecessor kept buffers as large as the largest message, for small ones.
func TestRow42_LargeMessageLeavesNoLargeBuffer(t *testing.T) {
	t.Run("tcp", func(t *testing.T) { rowLargeMessages(t, rowTCP(t), arpc.DefaultMaxBodyLen-100) })
	t.Run("memory", func(t *testing.T) { rowLargeMessages(t, memconn.Listen(), 12<<20) })
}

// rowLargeMessages sends one request of a size, and other messages that are
// large enough, over a connection that lives on.
func rowLargeMessages(t *testing.T, ln rowNet, size int) {
	const keeps, large = 3 << 20, 12 << 20
	s, c := rowPair(t, ln)
	s.Handler.Handle("/len", func(ctx *arpc.Context) { ctx.Write(fmt.Sprint(len(ctx.Body()))) })
	s.Handler.Handle("/back", func(ctx *arpc.Context) { ctx.Write(make([]byte, large)) })
	s.Handler.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(5 * time.Millisecond); ctx.Write(ctx.Body()[:5]) })
	s.Handler.HandleStream("/stream", func(st *arpc.Stream) {
		for b := range st.RecvSeq() {
			st.Send(b)
		}
	})
	small := func() {
		for _, method := range []string{"/len", "/slow"} {
			require.NoError(t, c.Call(method, "small", nil, rowPatience))
		}
	}
	small()
	before := rowMemory()
	for name, send := range map[string]func(){
		"a request":      func() { require.NoError(t, c.Call("/len", make([]byte, size), nil, rowPatience)) },
		"a slow request": func() { require.NoError(t, c.Call("/slow", make([]byte, large), nil, rowPatience)) },
		"a notification": func() { require.NoError(t, c.Notify("/len", make([]byte, large), rowPatience)) },
		"an answer": func() {
			var rsp []byte
			require.NoError(t, c.Call("/back", nil, &rsp, rowPatience))
			require.Equal(t, large, len(rsp))
		},
		"an asynchronous answer": func() {
			got := make(chan int, 1)
			require.NoError(t, c.CallAsync("/back", nil, func(ctx *arpc.Context) { got <- len(ctx.Body()) }, rowPatience))
			require.Equal(t, large, rowNext(t, "the callback runs", got))
		},
		"a stream message": func() {
			st, err := c.OpenStream(t.Context(), "/stream")
			require.NoError(t, err)
			require.NoError(t, st.Send(make([]byte, large)))
			var b []byte
			require.NoError(t, st.Recv(&b))
			require.Equal(t, large, len(b))
			require.NoError(t, st.Close())
		},
	} {
		send()
		small()
		grown := rowShrinks(keeps, func() int64 { return rowMemory() - before })
		require.Less(t, grown, int64(keeps), name)
	}
}

// A predecessor had data races on its route maps and its state.
func TestRow43_EverythingMayBeChangedWhileMessagesArrive(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		line := &rowLine{net: ln}
		s, c := rowServe(t, ln), rowDial(t, line.Dial)
		for _, h := range []*arpc.Handler{s.Handler, c.Handler} {
			h.Handle("/echo", rowEcho)
			h.Handle("/told", func(*arpc.Context) {})
			h.HandleStream("/stream", func(st *arpc.Stream) { st.Recv(nil) })
		}
		stop := make(chan struct{})
		var workers sync.WaitGroup
		loop := func(f func(i int)) {
			workers.Go(func() {
				for i := 0; !rowIsClosed(stop); i++ {
					f(i)
				}
			})
		}
		for range 3 {
			loop(func(i int) {
				c.Call("/echo", "x", nil, rowPatience)
				c.Notify("/told", "x", rowPatience)
				c.CallAsync("/echo", "x", func(*arpc.Context) {}, rowPatience)
				if st, err := c.OpenStream(context.Background(), "/stream"); err == nil {
					st.Send("x")
					st.Close()
				}
			})
		}
		loop(func(i int) {
			s.Broadcast("/told", "x", func(c *arpc.Client) bool { return c.State() == arpc.StateConnected })
			for _, onServer := range s.Clients() {
				onServer.Set("key", i)
				onServer.Get("key")
				onServer.Delete("key")
				onServer.Err()
				onServer.Conn().RemoteAddr()
			}
			c.State()
			c.Err()
			c.Set(i%10, i)
		})
		for i := range 60 {
			for _, h := range []*arpc.Handler{s.Handler, c.Handler} {
				rowChangeAll(h, i)
			}
			c.OnDisconnected(func(*arpc.Client) {})
			if i%20 == 10 {
				line.cut()
			}
		}
		rowEventually(t, "calls go on", func() bool { return c.Call("/late 59", nil, nil, rowPatience) == nil })
		close(stop)
		rowSoon(t, "all calls end", workers.Wait)
	})
}

// rowChangeAll calls everything that changes a handler.
func rowChangeAll(h *arpc.Handler, i int) {
	name := fmt.Sprint("/late ", i)
	h.Handle(name, rowEcho)
	h.HandleStream(name, func(*arpc.Stream) {})
	h.HandleNotFound(rowEcho)
	h.Register(fmt.Sprint("svc", i), rowService{})
	if i%10 == 0 {
		h.Use(func(ctx *arpc.Context) { ctx.Next() })
		h.UseCoder(rowMinedCoder{})
	}
	h.HandleConnected(func(*arpc.Client) {})
	h.HandleDisconnected(func(*arpc.Client) {})
	h.HandleReconnect(func(*arpc.Client, int, error) {})
	h.HandleOverstock(func(*arpc.Client) {})
	h.HandleMessageDropped(func(*arpc.Client, *arpc.Message) {})
	h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) {})
	h.BeforeRecv(func(net.Conn) error { return nil })
	h.BeforeSend(func(net.Conn) error { return nil })
	h.SetReaderWrapper(func(nc net.Conn) io.Reader { return nc })
	h.SetMaxBodyLen(1 << 20)
	h.SetSendQueueSize(1000 + i)
	h.SetReadTimeout(time.Minute)
	h.SetWriteTimeout(time.Minute)
	h.SetAsyncResponse(i%2 == 0)
	h.Clone()
}

// A predecessor's client for browsers stopped working after 256 calls.
func TestRow44_AnyNumberOfCalls(t *testing.T) {
	const n, rounds = 1500, 4 // more at once than a table keeps when it is empty
	ln, missed := memconn.Listen(), new(atomic.Int64)
	peers := rowScript(t, ln)
	h := arpc.NewHandler()
	h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { missed.Add(1) })
	c := rowDial(t, ln.Dial, arpc.WithHandler(h))
	p := rowNext(t, "the client dials", peers)
	var seen rowTally
	var old []rowFrame
	for round := range rounds {
		var all sync.WaitGroup
		all.Add(n)
		frames := make([]rowFrame, n)
		for i := range n {
			id := fmt.Sprint(round, "-", i)
			require.NoError(t, c.CallAsync("/x", id, func(ctx *arpc.Context) {
				defer all.Done()
				var rsp string
				assert.NoError(t, ctx.Bind(&rsp))
				assert.Equal(t, id, rsp)
			}, rowPatience))
			frames[i] = p.next()
			require.Equal(t, 1, seen.add(fmt.Sprint(frames[i].Seq)), "a number was used twice")
		}
		for _, f := range old { // answers that come a round too late
			require.NoError(t, p.answer(f, "late"))
		}
		rand.Shuffle(n, func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		for _, f := range frames {
			require.NoError(t, p.answer(f, f.payload))
		}
		rowSoon(t, "all are answered", all.Wait)
		old = frames
	}
	rowEventually(t, "the late ones are counted", func() bool { return missed.Load() == (rounds-1)*n })
}

// Its timeouts never fired either.
func TestRow44_DeadlinesPassForAnyNumberOfCalls(t *testing.T) {
	const n = 2000
	synctest.Test(t, func(t *testing.T) {
		s, c := rowPair(t, memconn.Listen())
		s.Handler.Handle("/never", func(ctx *arpc.Context) { <-ctx.Done() })
		s.Handler.Handle("/echo", rowEcho)
		start := time.Now()
		var late atomic.Int64
		var all sync.WaitGroup
		for i := range n {
			timeout := time.Duration(1+i%100) * time.Second
			check := func(err error) {
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				if over := time.Since(start) - timeout; over < 0 || over > time.Second {
					late.Add(1)
				}
			}
			if i%2 == 0 {
				all.Go(func() { check(c.Call("/never", nil, nil, timeout)) })
				continue
			}
			all.Add(1)
			assert.NoError(t, c.CallAsync("/never", nil, func(ctx *arpc.Context) { check(ctx.Bind(nil)); all.Done() }, timeout))
		}
		all.Wait()
		require.Zero(t, late.Load())
		require.NoError(t, c.Call("/echo", nil, nil, time.Second))
		c.Stop()
		s.Stop()
	})
}

// Predecessors' pools gave calls to connections that were lost.
func TestRow45_PoolSkipsMembersThatAreNotConnected(t *testing.T) {
	const size = 3
	lines := make([]*rowLine, size)
	dialers := make([]arpc.DialerFunc, size)
	var served [size]atomic.Int64
	for i := range lines {
		ln := memconn.Listen()
		rowServe(t, ln).Handler.Handle("/echo", func(ctx *arpc.Context) { served[i].Add(1); ctx.Write(nil) })
		lines[i] = &rowLine{net: ln}
		dialers[i] = lines[i].Dial
	}
	pool, err := arpc.NewClientPoolFromDialers(dialers, arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever))
	require.NoError(t, err)
	t.Cleanup(pool.Stop)

	use := func() (counts [size]int64) {
		for i := range served {
			served[i].Store(0)
		}
		for range 10 * size {
			called := make(chan error, 1)
			require.NoError(t, pool.Call("/echo", nil, nil, rowPatience))
			require.NoError(t, pool.CallWith(t.Context(), "/echo", nil, nil))
			require.NoError(t, pool.CallAsync("/echo", nil, func(ctx *arpc.Context) { called <- ctx.Bind(nil) }, rowPatience))
			require.NoError(t, rowNext(t, "the callback runs", called))
		}
		for i := range served {
			counts[i] = served[i].Load()
		}
		return counts
	}
	lose := func(i int) {
		lines[i].setDown(true)
		lines[i].cut()
		rowEventually(t, "the member is lost", func() bool { return pool.Get(i).State() != arpc.StateConnected })
	}
	for _, n := range use() {
		require.Positive(t, n)
	}
	for lost := range size - 1 {
		lose(lost)
		for i, n := range use() {
			require.Equal(t, i > lost, n > 0, "member %d of %d lost", i, lost+1)
		}
	}
	lose(size - 1)
	rowSoon(t, "a call without any member ends", func() {
		err := pool.Call("/echo", nil, nil, rowPatience)
		assert.ErrorIs(t, err, arpc.ErrDisconnected)
		assert.True(t, arpc.SafeToRetry(err))
	})
	for _, line := range lines {
		line.setDown(false)
	}
	rowEventually(t, "all come back", func() bool {
		for i := range size {
			if pool.Get(i).State() != arpc.StateConnected {
				return false
			}
		}
		return true
	})
	pool.Get(0).Stop() // a member that was stopped is skipped too
	counts := use()
	require.Zero(t, counts[0])
	require.Positive(t, counts[1])
	require.Positive(t, counts[2])
}
