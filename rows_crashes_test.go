package arpc_test

import (
	"context"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// At predecessors a few bytes that announce a large message made the receiver
// allocate all of it.
func TestRow22_AnnouncedLengthAllocatesNothing(t *testing.T) {
	const limit = 20 << 10 // bytes for each connection, both ends and the network between them
	announce := wire.AppendHeader(nil, wire.Header{BodyLen: wire.DefaultMaxBodyLen, Cmd: wire.CmdRequest, MethodLen: 5, Seq: 1})
	for name, c := range map[string]struct {
		conns int
		bytes []byte
	}{
		"four bytes":           {2000, announce[:4]},
		"a header":             {500, announce},
		"a header and a start": {500, append(announce, "/echo and what is to come"...)},
	} {
		t.Run(name, func(t *testing.T) {
			rowEach(t, func(t *testing.T, ln rowNet) {
				var reads rowTally
				h := arpc.NewHandler()
				h.BeforeRecv(func(nc net.Conn) error { reads.add(nc.RemoteAddr().String()); return nil })
				s := rowServe(t, ln, arpc.WithHandler(h))
				before := rowMemory()
				for range c.conns {
					nc, err := ln.Dial()
					require.NoError(t, err)
					defer nc.Close()
					_, err = nc.Write(c.bytes)
					require.NoError(t, err)
				}
				rowEventually(t, "the bytes are read", func() bool { return reads.atLeast(2) == c.conns })
				require.Equal(t, c.conns, len(s.Clients()))
				each := rowShrinks(int64(c.conns)*limit, func() int64 { return rowMemory() - before }) / int64(c.conns)
				require.Less(t, each, int64(limit), "bytes for each connection")
			})
		})
	}
}

// rowMemory returns the bytes in use, without what can be collected.
func rowMemory() int64 {
	runtime.GC()
	runtime.GC() // empties the pools too
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// rowShrinks waits a while for a measure to fall below a limit, and returns what
// it is then.
func rowShrinks(limit int64, measure func() int64) (n int64) {
	for range 100 {
		if n = measure(); n < limit {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return n
}

// At a predecessor a length that was too large, negative or at odds with another
// one made the receiver panic.
func TestRow23_NoLengthPanics(t *testing.T) {
	var frames [][]byte
	for _, body := range []uint32{0, 1, 15, 16, 200, 4 << 10, 4<<10 + 1, wire.DefaultMaxBodyLen + 1, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32 - 15, math.MaxUint32} {
		for _, method := range []byte{0, 1, 16, 127, 128, 255} {
			for _, cmd := range []byte{0, 1, 2, 3, 4, 5, 6, 0x46, 0x86, 0xc6, 7, 63, 64, 128, 255} {
				h := wire.Header{BodyLen: body, Cmd: cmd, MethodLen: method, Seq: uint64(body) + uint64(method)}
				frames = append(frames, append(wire.AppendHeader(nil, h), make([]byte, min(body, 300))...))
			}
		}
	}
	t.Run("at a server", func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln, arpc.WithMaxBodyLen(4<<10))
		s.Handler.Handle("/echo", rowEcho)
		for i, frame := range frames {
			rowHostile(rowCaller(t, ln), frame)
			if i%100 == 0 {
				require.NoError(t, rowDial(t, ln.Dial).Call("/echo", "x", nil, rowPatience))
			}
		}
	})
	t.Run("at a client", func(t *testing.T) {
		ln := memconn.Listen()
		peers := rowScript(t, ln)
		c := rowDial(t, ln.Dial, arpc.WithMaxBodyLen(4<<10))
		c.Handler.Handle("/echo", rowEcho)
		for _, frame := range frames {
			rowHostile(rowNext(t, "the client dials", peers), frame)
		}
		p := rowNext(t, "the client dials", peers)
		require.NoError(t, p.request(1, "/echo", "still there"))
		require.Equal(t, "still there", p.next().payload)
	})
}

// rowHostile sends a frame, a good one behind it, and then nothing more. It
// waits until the other end has closed.
func rowHostile(p *rowPeer, frame []byte) {
	p.t.Helper()
	p.writeRaw(frame)
	p.request(1, "/echo", "x")
	p.nc.(*memconn.Conn).CloseWrite()
	p.ended()
	p.nc.Close()
}

// At a predecessor a panic in a handler took the process down.
func TestRow25_PanicLeavesTheProcessAndTheConnectionAlive(t *testing.T) {
	rowInChild(t, func(t *testing.T) {
		for how, boom := range map[string]func(){
			"panics":             func() { panic("on purpose") },
			"panics with nil":    func() { panic(nil) },
			"ends its goroutine": runtime.Goexit,
		} {
			for where, plant := range rowMines {
				t.Run(where+" "+how, func(t *testing.T) {
					rowEach(t, func(t *testing.T, ln rowNet) { rowMineField(t, ln, plant, boom) })
				})
			}
		}
	})
}

// rowMines put code that misbehaves wherever the engine calls the user's.
var rowMines = map[string]func(h *arpc.Handler, boom func()){
	"a handler": func(h *arpc.Handler, boom func()) { h.Handle("/mine", func(*arpc.Context) { boom() }) },
	"a slow handler": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(*arpc.Context) { time.Sleep(4 * time.Millisecond); boom() })
	},
	"an ordered handler": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(*arpc.Context) { boom() }, false)
	},
	"a handler that has answered": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(ctx *arpc.Context) { ctx.Write("x"); boom() })
	},
	"a handler that has detached": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(ctx *arpc.Context) { defer boom(); ctx.Detach().Write("x") })
	},
	"middleware before": func(h *arpc.Handler, boom func()) {
		h.Use(func(*arpc.Context) { boom() })
		h.Handle("/mine", rowEcho)
	},
	"middleware behind": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", rowEcho)
		h.Use(func(*arpc.Context) { boom() })
	},
	"middleware around": func(h *arpc.Handler, boom func()) {
		h.Use(func(ctx *arpc.Context) { ctx.Next(); boom() })
		h.Handle("/mine", rowEcho)
	},
	"the not-found handler": func(h *arpc.Handler, boom func()) { h.HandleNotFound(func(*arpc.Context) { boom() }) },
	"a stream handler":      func(h *arpc.Handler, boom func()) { h.HandleStream("/mine", func(*arpc.Stream) { boom() }) },
	"the connected hook":    func(h *arpc.Handler, boom func()) { h.HandleConnected(func(*arpc.Client) { boom() }) },
	"the authentication hook": func(h *arpc.Handler, boom func()) {
		h.HandleAuth(func(context.Context, *arpc.Client, []byte) error { boom(); return nil })
	},
	"the disconnected hook": func(h *arpc.Handler, boom func()) { h.HandleDisconnected(func(*arpc.Client) { boom() }) },
	"the reconnect hook":    func(h *arpc.Handler, boom func()) { h.HandleReconnect(func(*arpc.Client, int, error) { boom() }) },
	"the overstock hook":    func(h *arpc.Handler, boom func()) { h.HandleOverstock(func(*arpc.Client) { boom() }) },
	"the message-dropped hook": func(h *arpc.Handler, boom func()) {
		h.HandleMessageDropped(func(*arpc.Client, *arpc.Message) { boom() })
	},
	"the session-miss hook": func(h *arpc.Handler, boom func()) { h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { boom() }) },
	"the before-recv hook":  func(h *arpc.Handler, boom func()) { h.BeforeRecv(func(net.Conn) error { boom(); return nil }) },
	"the before-send hook":  func(h *arpc.Handler, boom func()) { h.BeforeSend(func(net.Conn) error { boom(); return nil }) },
	"the reader wrapper": func(h *arpc.Handler, boom func()) {
		h.SetReaderWrapper(func(nc net.Conn) io.Reader { boom(); return nc })
	},
	"a wrapped reader": func(h *arpc.Handler, boom func()) {
		h.SetReaderWrapper(func(nc net.Conn) io.Reader { return rowMinedReader{nc, boom} })
	},
	"a coder that encodes": func(h *arpc.Handler, boom func()) { h.UseCoder(rowMinedCoder{encode: boom}) },
	"a coder that decodes": func(h *arpc.Handler, boom func()) { h.UseCoder(rowMinedCoder{decode: boom}) },
	"an error's text": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(ctx *arpc.Context) { ctx.Error(rowMinedError(boom)) })
	},
	"an encoded value": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(ctx *arpc.Context) { ctx.Write(rowMinedValue(boom)) })
	},
	"a decoded value": func(h *arpc.Handler, boom func()) {
		h.Handle("/mine", func(ctx *arpc.Context) { v := rowMinedValue(boom); ctx.Bind(&v) })
	},
}

type rowMinedReader struct {
	io.Reader
	boom func()
}

func (r rowMinedReader) Read(p []byte) (int, error) { r.boom(); return r.Reader.Read(p) }

type rowMinedCoder struct{ encode, decode func() }

func (c rowMinedCoder) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	if c.encode != nil && m.Cmd() == arpc.CmdResponse {
		c.encode()
	}
	return m
}

func (c rowMinedCoder) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	if c.decode != nil {
		c.decode()
	}
	return m
}

type rowMinedError func()

func (e rowMinedError) Error() string { e(); return "no" }

type rowMinedValue func()

func (v rowMinedValue) MarshalJSON() ([]byte, error)  { v(); return []byte("1"), nil }
func (v *rowMinedValue) UnmarshalJSON(b []byte) error { (*v)(); return nil }

// rowMineField does all that calls the user's code while a mine is armed, then
// clears it: connections must work, the old one or the next.
func rowMineField(t *testing.T, ln rowNet, plant func(*arpc.Handler, func()), boom func()) {
	var armed atomic.Bool
	h := arpc.NewHandler(arpc.WithSendQueue(100, 4<<10))
	h.Handle("/echo", rowEcho, true)
	plant(h, func() {
		if armed.Load() {
			boom()
		}
	})
	line := &rowLine{net: ln}
	s := rowServe(t, ln, arpc.WithHandler(h))
	c := rowDial(t, line.Dial, arpc.WithHandler(h))
	require.NoError(t, c.Call("/echo", "x", nil, rowPatience))
	onServer := rowClient(t, s)
	armed.Store(true)
	p := rowCaller(t, ln)
	p.write(wire.Header{Cmd: wire.CmdResponse, Seq: 1 << 60}, "/miss", "")
	p.write(wire.Header{Cmd: wire.CmdNotify}, "/dropped", "")
	for _, end := range []*arpc.Client{c, onServer, c} {
		rowSoon(t, "calls end", func() {
			end.Call("/echo", "x", nil, rowPatience)
			end.Call("/mine", "1", nil, rowPatience)
			end.Call("/missing", "1", nil, rowPatience)
		})
		ran := make(chan bool, 1)
		sent := false
		rowSoon(t, "sends end", func() { // a hook that ends its goroutine may end this one
			end.Notify("/mine", "1", rowPatience)
			sent = end.CallAsync("/mine", "1", func(*arpc.Context) { ran <- true; panic("on purpose") }, rowPatience) == nil
		})
		if sent {
			rowNext(t, "the callback runs", ran)
		}
		rowSoon(t, "the stream ends", func() {
			if st, err := end.OpenStream(context.Background(), "/mine"); err == nil {
				st.Send("x")
				st.Recv(nil)
			}
		})
		line.cut()
	}
	armed.Store(false)
	rowEventually(t, "the client works", func() bool { return c.Call("/echo", "x", nil, rowPatience) == nil })
	require.NoError(t, rowDial(t, ln.Dial).Call("/echo", "x", nil, rowPatience))
}

// A panic that is told to the caller ends nothing else, not even the connection.
func TestRow25_PanicInAHandlerKeepsTheConnection(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		s.Handler.Handle("/panic", func(*arpc.Context) { panic("secret") })
		s.Handler.HandleStream("/panic", func(*arpc.Stream) { panic("secret") })
		s.Handler.Handle("/echo", rowEcho)
		before := rowClient(t, s)
		for range 50 {
			err := c.Call("/panic", nil, nil, rowPatience)
			require.True(t, arpc.IsRemote(err), "%v", err)
			require.NotContains(t, err.Error(), "secret")
			require.NoError(t, c.Notify("/panic", nil, rowPatience))
			st, err := c.OpenStream(t.Context(), "/panic")
			require.NoError(t, err)
			st.Send("x") // it may have failed already
			err = st.Recv(nil)
			require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err), "%v", err)
			require.NotContains(t, err.Error(), "secret")
			require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
		}
		require.Same(t, before, rowClient(t, s))
		require.NoError(t, c.Err())
	})
}

// At a predecessor receiving at the end of a stream dereferenced nil.
func TestRow26_ReceivingAtTheEndOfAStreamIsEOF(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		s.Handler.HandleStream("/two", func(st *arpc.Stream) {
			st.Send("a")
			st.Send(map[string]int{"b": 1})
		})
		s.Handler.HandleStream("/none", func(*arpc.Stream) {})
		s.Handler.HandleStream("/wait", func(st *arpc.Stream) { <-st.Context().Done() })
		open := func(method string) *arpc.Stream {
			st, err := c.OpenStream(t.Context(), method)
			require.NoError(t, err)
			require.NoError(t, st.CloseSend())
			return st
		}
		st := open("/two")
		var text string
		var value map[string]int
		require.NoError(t, st.Recv(&text))
		require.NoError(t, st.Recv(&value))
		require.Equal(t, map[string]int{"b": 1}, value)
		for range 3 {
			require.Equal(t, io.EOF, st.Recv(&text))
			require.Equal(t, io.EOF, st.Recv(&value))
			require.Equal(t, io.EOF, st.Recv(nil))
			require.Equal(t, io.EOF, st.RecvContext(context.Background(), &text))
			for range st.RecvSeq() {
				require.Fail(t, "a message behind the end")
			}
		}
		st = open("/none")
		require.Equal(t, io.EOF, st.Recv(&text))

		st = open("/two")
		require.NoError(t, st.Close())
		rowSoon(t, "Recv of a closed stream returns", func() { assert.Error(t, st.Recv(&text)) })

		st = open("/two")
		rowSoon(t, "many receive at the end", func() {
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					for st.Recv(nil) == nil {
						continue
					}
				})
			}
			all.Wait()
		})

		st, err := c.OpenStream(t.Context(), "/wait")
		require.NoError(t, err)
		c.Stop()
		rowSoon(t, "Recv of a lost stream returns", func() { assert.ErrorIs(t, st.Recv(&text), arpc.ErrClosed) })
		require.ErrorIs(t, st.Recv(&text), arpc.ErrClosed)
		require.Error(t, st.Send("x"))
	})
}

// At a predecessor closing twice panicked.
func TestRow27_ClosingTwiceIsHarmless(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		s.Handler.HandleStream("/stream", func(st *arpc.Stream) {
			<-st.Context().Done()
			rowTwice(t, map[string]func(){"Close": func() { st.Close() }, "CloseSend": func() { st.CloseSend() }})
		})
		st, err := c.OpenStream(t.Context(), "/stream")
		require.NoError(t, err)
		require.NoError(t, st.Send("x"))
		pool, err := arpc.NewClientPool(ln.Dial, 3)
		require.NoError(t, err)
		rowEventually(t, "all are accepted", func() bool { return len(s.Clients()) == 4 })
		onServer := s.Clients()
		rowTwice(t, map[string]func(){
			"Stream.CloseSend": func() { st.CloseSend() },
			"Stream.Close":     func() { st.Close() },
		})
		rowTwice(t, map[string]func(){
			"Conn.Close":          func() { c.Conn().Close() },
			"Client.Stop":         c.Stop,
			"Client.Shutdown":     func() { c.Shutdown(context.Background()) },
			"Client.Restart":      func() { c.Restart() },
			"ClientPool.Stop":     pool.Stop,
			"ClientPool.Shutdown": func() { pool.Shutdown(context.Background()) },
		})
		rowTwice(t, map[string]func(){
			"Server.Stop":          s.Stop,
			"Server.Shutdown":      func() { s.Shutdown(context.Background()) },
			"accepted Client.Stop": func() { onServer[0].Stop() },
		})
		rowTwice(t, map[string]func(){"Listener.Close": func() { ln.Close() }})
		rowUseAfterStop(t, s, c, st)
	})
}

// rowTwice calls each function three times, twice at the same time.
func rowTwice(t *testing.T, fs map[string]func()) {
	var all sync.WaitGroup
	for name, f := range fs {
		for range 2 {
			all.Go(func() { rowSoon(t, name, f) })
		}
	}
	all.Wait()
	for name, f := range fs {
		rowSoon(t, name+" again", f)
	}
}

func rowUseAfterStop(t *testing.T, s *arpc.Server, c *arpc.Client, st *arpc.Stream) {
	require.ErrorIs(t, c.Call("/x", nil, nil, rowPatience), arpc.ErrClosed)
	require.ErrorIs(t, c.Notify("/x", nil, rowPatience), arpc.ErrClosed)
	require.ErrorIs(t, c.Restart(), arpc.ErrClosed)
	require.ErrorIs(t, c.PushMsg(s.NewMessage(arpc.CmdNotify, "/x", nil), rowPatience), arpc.ErrClosed)
	_, err := c.OpenStream(t.Context(), "/x")
	require.ErrorIs(t, err, arpc.ErrClosed)
	require.Error(t, st.Send("x"))
	require.Error(t, st.Recv(nil))
	c.Set("key", 1)
	c.OnDisconnected(func(*arpc.Client) {})
	require.NotNil(t, c.Conn())
	require.Error(t, c.Err())
	require.NoError(t, s.Broadcast("/x", nil))
	require.Empty(t, s.Clients())
	require.ErrorIs(t, s.Serve(memconn.Listen()), arpc.ErrServerClosed)
	require.ErrorIs(t, s.Run("127.0.0.1:0"), arpc.ErrServerClosed)
}

// A server may be stopped before it serves.
func TestRow27_StoppingBeforeServingIsHarmless(t *testing.T) {
	for name, stop := range map[string]func(*arpc.Server){
		"Stop":     (*arpc.Server).Stop,
		"Shutdown": func(s *arpc.Server) { s.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			s, ln := arpc.NewServer(), memconn.Listen()
			stop(s)
			stop(s)
			require.ErrorIs(t, s.Serve(ln), arpc.ErrServerClosed)
			_, err := ln.Dial()
			require.Error(t, err, "the listener is closed")
		})
	}
}
