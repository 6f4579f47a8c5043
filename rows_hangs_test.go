package arpc_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
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

// At predecessors a stream whose reader stopped froze the whole connection. Its
// sender waits, or in version 1, where nobody can tell it to, loses the stream.
func TestRow14_StreamThatNobodyReadsDelaysNoCalls(t *testing.T) {
	rowVersions(t, "the accepting side does not read", func(t *testing.T, version arpc.Option) {
		rowEach(t, func(t *testing.T, ln rowNet) {
			s, c := rowPair(t, ln, version)
			rowUnreadStream(t, c, s.Handler)
		})
	})
	rowVersions(t, "the dialling side does not read", func(t *testing.T, version arpc.Option) {
		rowEach(t, func(t *testing.T, ln rowNet) {
			s, c := rowPair(t, ln, version)
			rowUnreadStream(t, rowClient(t, s), c.Handler)
		})
	})
}

// rowUnreadStream floods a stream from c; h is the handler at its other end.
func rowUnreadStream(t *testing.T, c *arpc.Client, h *arpc.Handler) {
	const n = 200 // more than its queue holds
	u := rowUnread{end: make(chan struct{}), err: make(chan error, 1), read: make(chan int, 1)}
	h.HandleStream("/unread", u.handle)
	h.Handle("/echo", rowEcho)
	h.HandleStream("/echo", suiteEchoStream)
	st, err := c.OpenStream(t.Context(), "/unread")
	require.NoError(t, err)
	other, err := c.OpenStream(t.Context(), "/echo")
	require.NoError(t, err)
	flood := make(chan struct{})
	go func() {
		defer close(flood)
		for range n {
			if st.Send(make([]byte, 20<<10)) != nil {
				break
			}
		}
		st.CloseSend()
	}()
	rowSoon(t, "calls and other streams go on", func() {
		for i := range 100 {
			assert.NoError(t, c.Call("/echo", fmt.Sprint(i), nil, rowPatience))
			assert.NoError(t, other.Send("x"))
			assert.NoError(t, other.Recv(nil))
		}
	})
	if c.Peer().Version == 1 {
		rowNext(t, "the sender is not held up", flood)
		rowSoon(t, "the sender hears of it", func() { assert.Error(t, st.Recv(nil)) })
		close(u.end)
		require.ErrorIs(t, rowNext(t, "the reader hears of it", u.err), arpc.ErrStreamOverrun)
	} else {
		require.False(t, rowIsClosed(flood), "the sender waits")
		close(u.end)
		require.Equal(t, n, rowNext(t, "the reader gets everything", u.read))
	}
	require.NoError(t, c.Call("/echo", "x", nil, rowPatience))
}

// rowUnread is a stream that is not read until end is closed.
type rowUnread struct {
	end  chan struct{}
	err  chan error
	read chan int // how many messages came, when all did
}

func (u rowUnread) handle(st *arpc.Stream) {
	<-u.end
	n := 0
	for _, err := range st.RecvSeq() {
		if err != nil {
			u.err <- err
			return
		}
		n++
	}
	u.read <- n
}

// The same failure with so many streams that they use up what the connection
// may hold.
func TestRow14_ManyStreamsThatNobodyReadsDelayNoCalls(t *testing.T) {
	limits := []arpc.Option{arpc.WithStreamQueue(100, 64<<10), arpc.WithMaxInflightBytes(256 << 10)}
	s, c := rowPair(t, memconn.Listen(), limits...)
	end := make(chan struct{})
	defer close(end)
	s.Handler.Handle("/echo", rowEcho)
	s.Handler.HandleStream("/unread", func(*arpc.Stream) { <-end })
	for range 12 {
		st, err := c.OpenStream(t.Context(), "/unread")
		require.NoError(t, err)
		for range 8 {
			require.NoError(t, st.Send(make([]byte, 8<<10)))
		}
	}
	for i := range 100 {
		var rsp string
		require.NoError(t, c.Call("/echo", fmt.Sprint(i), &rsp, rowPatience))
		require.Equal(t, fmt.Sprint(i), rsp)
	}
}

// A predecessor's handler that called back over its own connection waited for
// itself.
func TestRow15_HandlersMayCallBackOverTheirOwnConnection(t *testing.T) {
	const n = 50
	rowEach(t, func(t *testing.T, ln rowNet) {
		ran := make(chan string, 1000)
		back := func(who string, c *arpc.Client) {
			var rsp string
			if assert.NoError(t, c.Call("/echo", who, &rsp, rowPatience), who) {
				assert.Equal(t, who, rsp)
			}
			ran <- who
		}
		h := arpc.NewHandler()
		h.Handle("/echo", rowEcho)
		h.Handle("/request", func(ctx *arpc.Context) { back("request", ctx.Client); ctx.Write(nil) })
		h.Handle("/ordered", func(ctx *arpc.Context) { back("ordered", ctx.Client); ctx.Write(nil) }, false)
		h.Handle("/notify", func(ctx *arpc.Context) { back("notification", ctx.Client) })
		h.HandleStream("/stream", func(st *arpc.Stream) { back("stream", st.Client()) })
		h.HandleNotFound(func(ctx *arpc.Context) { back("not found", ctx.Client); ctx.Write(nil) })
		greeting := h.Clone()
		greeting.HandleConnected(func(c *arpc.Client) { back("connected", c) })
		s := rowServe(t, ln, arpc.WithHandler(greeting))
		c := rowDial(t, ln.Dial, arpc.WithHandler(h))
		onServer := rowClient(t, s)
		var callers sync.WaitGroup
		for _, end := range []*arpc.Client{c, onServer} {
			for range n {
				callers.Go(func() {
					assert.NoError(t, end.Call("/request", nil, nil, rowPatience))
					assert.NoError(t, end.Call("/ordered", nil, nil, rowPatience))
					assert.NoError(t, end.Call("/nowhere", nil, nil, rowPatience))
				})
				require.NoError(t, end.Notify("/notify", nil, rowPatience))
				require.NoError(t, end.CallAsync("/echo", nil, func(ctx *arpc.Context) { back("callback", ctx.Client) }, rowPatience))
			}
			st, err := end.OpenStream(t.Context(), "/stream")
			require.NoError(t, err)
			require.NoError(t, st.CloseSend())
		}
		var got rowTally
		for range 1 + 2*(1+5*n) {
			got.add(rowNext(t, "all call back", ran))
		}
		rowSoon(t, "all calls end", callers.Wait)
		for who, want := range map[string]int{
			"connected": 1, "stream": 2, "request": 2 * n, "ordered": 2 * n,
			"notification": 2 * n, "callback": 2 * n, "not found": 2 * n,
		} {
			require.Equal(t, want, got.of(who), who)
		}
	})
}

// The same failure for hooks that run between messages.
func TestRow15_HooksMayCallBackOverTheirOwnConnection(t *testing.T) {
	for who, frame := range map[string]wire.Header{
		"session miss":    {Cmd: wire.CmdResponse, Seq: 1 << 60},
		"message dropped": {Cmd: wire.CmdNotify, Seq: 1},
	} {
		t.Run(who, func(t *testing.T) {
			ran, h := make(chan string, 10), arpc.NewHandler()
			back := func(who string, c *arpc.Client) {
				assert.NoError(t, c.Call("/echo", who, nil, rowPatience), who)
				ran <- who
			}
			h.HandleSessionMiss(func(c *arpc.Client, _ *arpc.Message) { back("session miss", c) })
			h.HandleMessageDropped(func(c *arpc.Client, _ *arpc.Message) { back("message dropped", c) })
			ln := memconn.Listen()
			rowServe(t, ln, arpc.WithHandler(h))
			p := rowCaller(t, ln)
			require.NoError(t, p.write(frame, "/nowhere", ""))
			require.NoError(t, p.answer(p.next(), ""))
			require.Equal(t, who, rowNext(t, "the hook calls back", ran))
		})
	}
}

// The same failure with calls that go to and fro many times.
func TestRow15_CallsMayNest(t *testing.T) {
	const depth = 20
	rowEach(t, func(t *testing.T, ln rowNet) {
		h := arpc.NewHandler()
		h.Handle("/down", func(ctx *arpc.Context) {
			if len(ctx.Body()) == depth {
				ctx.Write("bottom")
				return
			}
			var rsp string
			if err := ctx.Client.Call("/down", string(ctx.Body())+"x", &rsp, rowPatience); err != nil {
				ctx.Error(err)
				return
			}
			ctx.Write(rsp)
		})
		rowServe(t, ln, arpc.WithHandler(h))
		c := rowDial(t, ln.Dial, arpc.WithHandler(h))
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				var rsp string
				assert.NoError(t, c.Call("/down", "", &rsp, rowPatience))
				assert.Equal(t, "bottom", rsp)
			})
		}
		rowSoon(t, "nested calls end", callers.Wait)
	})
}

// The same failure between two ends that write to each other more than the
// network between them holds.
func TestRow15_EndsThatWriteMuchToEachOtherGoOn(t *testing.T) {
	small := []arpc.Option{arpc.WithSendQueue(8, 32<<10), arpc.WithMaxInflight(4)}
	t.Run("tcp", func(t *testing.T) { rowCrossFire(t, rowTCP(t), 300<<10, small) })
	t.Run("memory", func(t *testing.T) { rowCrossFire(t, memconn.Listen(memconn.WithBuffer(4<<10)), 60<<10, small) })
}

func rowCrossFire(t *testing.T, ln rowNet, size int, opts []arpc.Option) {
	h := arpc.NewHandler(opts...)
	h.Handle("/echo", rowEcho)
	s := rowServe(t, ln, arpc.WithHandler(h))
	c := rowDial(t, ln.Dial, arpc.WithHandler(h))
	onServer := rowClient(t, s)
	var callers sync.WaitGroup
	for _, end := range []*arpc.Client{c, onServer} {
		for i := range 10 {
			callers.Go(func() {
				for range 5 {
					var rsp []byte
					err := end.Call("/echo", rowBytes(i, size), &rsp, rowPatience)
					if err == nil {
						assert.Equal(t, i, rowID(rsp))
						continue
					}
					assert.Equal(t, arpc.CodeUnknown, arpc.CodeOf(err)) // refused, over the limit
					assert.ErrorContains(t, err, "WithMaxInflight")
				}
			})
		}
	}
	rowSoon(t, "all calls end", callers.Wait)
}

// A predecessor's reader waited for ever when a call was answered twice.
func TestRow16_SecondAnswerToACallIsCountedAndDropped(t *testing.T) {
	ln, missed := memconn.Listen(), new(atomic.Int64)
	h := arpc.NewHandler()
	h.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) {
		assert.Equal(t, "again", string(m.Data()))
		missed.Add(1)
	})
	peers := rowScript(t, ln)
	c := rowDial(t, ln.Dial, arpc.WithHandler(h))
	p := rowNext(t, "the client dials", peers)
	go func() {
		for f := range p.frames {
			p.answer(f, f.payload)
			p.answer(f, "again")
			p.write(wire.Header{Cmd: wire.CmdResponse, Flag: f.Flag | wire.FlagError, Seq: f.Seq}, f.method, "again")
		}
	}()
	const n = 200
	var ran atomic.Int64
	var all sync.WaitGroup
	all.Add(n)
	for i := range n {
		id := fmt.Sprint(i)
		var rsp string
		require.NoError(t, c.Call("/x", id, &rsp, rowPatience))
		require.Equal(t, id, rsp)
		require.NoError(t, c.CallAsync("/x", id, func(ctx *arpc.Context) {
			defer all.Done()
			var rsp string
			assert.NoError(t, ctx.Bind(&rsp))
			assert.Equal(t, id, rsp)
			ran.Add(1)
		}, rowPatience))
	}
	rowSoon(t, "all callbacks run", all.Wait)
	rowEventually(t, "all second answers are counted", func() bool { return missed.Load() == 4*n })
	require.EqualValues(t, n, ran.Load())
}

// At a predecessor the caller waited out its deadline when there was no handler,
// or the handler failed to answer.
func TestRow17_CallerHearsAtOnceWhenThereIsNoAnswer(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s := rowServe(t, ln, arpc.WithMaxBodyLen(100<<10))
		h := s.Handler
		h.Use(func(ctx *arpc.Context) {
			if strings.HasPrefix(ctx.Message.Method(), "/aborted") {
				ctx.Abort()
			}
		})
		for method, fn := range map[string]arpc.HandlerFunc{
			"/panic":        func(*arpc.Context) { panic("on purpose") },
			"/panic late":   func(*arpc.Context) { time.Sleep(5 * time.Millisecond); panic("on purpose") },
			"/goexit":       func(*arpc.Context) { runtime.Goexit() },
			"/goexit late":  func(*arpc.Context) { time.Sleep(5 * time.Millisecond); runtime.Goexit() },
			"/silent":       func(*arpc.Context) {},
			"/silent late":  func(*arpc.Context) { time.Sleep(5 * time.Millisecond) },
			"/aborted":      func(ctx *arpc.Context) { ctx.Write("not aborted") },
			"/unencodable":  func(ctx *arpc.Context) { ctx.Write(rowUnencodable{}) },
			"/panic encode": func(ctx *arpc.Context) { ctx.Write(rowPanics{}) },
			"/too large":    func(ctx *arpc.Context) { ctx.Write(make([]byte, 101<<10)) },
			"/nil error":    func(ctx *arpc.Context) { var err *rowNilError; ctx.Error(err) },
		} {
			h.Handle(method, fn)
			h.Handle(method+" ordered", fn, false)
		}
		h.Handle("/echo", rowEcho)
		c := rowDial(t, ln.Dial)
		for _, method := range []string{
			"/missing", "/panic", "/panic late", "/goexit", "/goexit late", "/silent", "/silent late",
			"/aborted", "/unencodable", "/panic encode", "/too large", "/nil error",
		} {
			for _, mode := range []string{"", " ordered"} {
				for range 3 { // slow routes are handled elsewhere the second time
					rowFailsAtOnce(t, c, method+mode)
				}
			}
		}
		for version := 1; version <= 2; version++ {
			c := rowDial(t, ln.Dial, arpc.WithVersions(1, version))
			err := c.Call("/echo", make([]byte, 200<<10), nil, rowPatience)
			require.Equal(t, version == 1, arpc.IsRemote(err), "%v", err) // or the caller knows the limit
			require.ErrorContains(t, err, "limit of 102400")
			require.NoError(t, c.Call("/echo", "still there", nil, rowPatience))
		}
	})
}

// rowPanics panics when it is encoded.
type rowPanics struct{}

func (rowPanics) MarshalJSON() ([]byte, error) { panic("on purpose") }

// rowNilError is an error whose nil pointer cannot say what it is.
type rowNilError struct{ text string }

func (e *rowNilError) Error() string { return e.text }

// rowFailsAtOnce makes calls to which the peer must say that they fail.
func rowFailsAtOnce(t *testing.T, c *arpc.Client, method string) {
	t.Helper()
	var err error
	rowSoon(t, method, func() { err = c.Call(method, "x", nil, rowPatience) })
	require.True(t, arpc.IsRemote(err), "%s: %v", method, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded, method)
	called := make(chan error, 1)
	require.NoError(t, c.CallAsync(method, "x", func(ctx *arpc.Context) { called <- ctx.Bind(nil) }, rowPatience))
	require.True(t, arpc.IsRemote(rowNext(t, method, called)), method)
}

// The same failure when middleware between a request and its answer fails.
func TestRow17_CallerHearsAtOnceWhenACoderFails(t *testing.T) {
	rowInChild(t, func(t *testing.T) {
		for name, coder := range map[string]*rowBadCoder{
			"refuses answers":               {encode: rowRefuse, errorsPass: true},
			"panics on answers":             {encode: rowPanic, errorsPass: true},
			"makes nonsense of answers":     {encode: rowNonsense, errorsPass: true},
			"blows answers up":              {encode: rowBlowUp, errorsPass: true},
			"refuses errors too":            {encode: rowRefuse},
			"panics on errors too":          {encode: rowPanic},
			"makes nonsense of errors too":  {encode: rowNonsense},
			"blows errors up too":           {encode: rowBlowUp},
			"refuses requests":              {decode: rowRefuse},
			"panics on requests":            {decode: rowPanic},
			"makes nonsense of requests":    {decode: rowNonsense},
			"panics with half of a request": {decode: func(m *arpc.Message) *arpc.Message { m.Buffer = m.Buffer[:3]; panic("on purpose") }},
		} {
			t.Run(name, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln, arpc.WithMaxBodyLen(1<<10))
				s.Handler.UseCoder(coder)
				s.Handler.Handle("/bad", func(ctx *arpc.Context) { ctx.Write("bad") })
				s.Handler.Handle("/bad silent", func(ctx *arpc.Context) {})
				s.Handler.Handle("/bad panic", func(ctx *arpc.Context) { panic("on purpose") })
				s.Handler.Handle("/good", rowEcho)
				c := rowDial(t, ln.Dial)
				for _, method := range []string{"/bad", "/bad silent", "/bad panic", "/bad missing"} {
					rowEventually(t, "calls go on", func() bool { return c.Call("/good", "x", nil, rowPatience) == nil })
					var err error
					rowSoon(t, method, func() { err = c.Call(method, "x", nil, rowPatience) })
					require.Error(t, err, method)
					require.NotErrorIs(t, err, context.DeadlineExceeded, method)
					if coder.decode != nil || coder.errorsPass {
						require.True(t, arpc.IsRemote(err), "%s: %v", method, err)
					}
				}
			})
		}
	})
}

// rowBadCoder does something bad to messages whose method begins with /bad.
type rowBadCoder struct {
	encode, decode func(*arpc.Message) *arpc.Message
	errorsPass     bool // error responses are left alone
}

func (b *rowBadCoder) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	return b.apply(b.encode, m)
}

func (b *rowBadCoder) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	return b.apply(b.decode, m)
}

func (b *rowBadCoder) apply(f func(*arpc.Message) *arpc.Message, m *arpc.Message) *arpc.Message {
	if f == nil || !strings.HasPrefix(m.Method(), "/bad") || b.errorsPass && m.IsError() {
		return m
	}
	return f(m)
}

func rowRefuse(*arpc.Message) *arpc.Message   { return nil }
func rowPanic(*arpc.Message) *arpc.Message    { panic("on purpose") }
func rowNonsense(*arpc.Message) *arpc.Message { return &arpc.Message{Buffer: []byte("short")} }

func rowBlowUp(m *arpc.Message) *arpc.Message {
	m.Buffer = append(m.Buffer, make([]byte, 2<<10)...)
	m.SetBodyLen(len(m.Buffer) - arpc.HeadLen)
	return m
}

// The same failure for requests that make no sense.
func TestRow17_CallerHearsAtOnceWhenARequestIsMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		methodLen byte
		body      string
	}{
		"no method":                        {0, "hello"},
		"no method and no payload":         {0, ""},
		"a method of 128 bytes":            {128, strings.Repeat("m", 200)},
		"a method of 255 bytes":            {255, strings.Repeat("m", 300)},
		"a method longer than the body":    {100, "/echo"},
		"a long method and an empty body":  {255, ""},
		"a body over the limit":            {5, "/echo" + strings.Repeat("x", 5<<10)},
		"an unknown method":                {5, "/wxyz"},
		"a method that is not text":        {3, "\xff\x00\xfe"},
		"a method over the limit and more": {255, strings.Repeat("m", 5<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			rowEach(t, func(t *testing.T, ln rowNet) {
				s := rowServe(t, ln, arpc.WithMaxBodyLen(4<<10))
				s.Handler.Handle("/echo", rowEcho)
				p := rowCaller(t, ln)
				for _, flag := range []byte{0, wire.FlagAsync} {
					h := wire.Header{BodyLen: uint32(len(c.body)), Cmd: wire.CmdRequest, Flag: flag, MethodLen: c.methodLen, Seq: 77}
					require.NoError(t, p.writeRaw(append(wire.AppendHeader(nil, h), c.body...)))
					f := p.next()
					require.Equal(t, wire.CmdResponse, f.Cmd)
					require.Equal(t, flag|wire.FlagError, f.Flag)
					require.EqualValues(t, 77, f.Seq)
					require.NotEmpty(t, f.method)
					require.NotEmpty(t, f.payload)
				}
				require.NoError(t, p.request(78, "/echo", "still there"))
				require.Equal(t, "still there", p.next().payload)
			})
		})
	}
}

// The same failure when it is the answer that makes no sense.
func TestRow17_CallerHearsAtOnceWhenItsAnswerIsMalformed(t *testing.T) {
	for name, frame := range map[string]func(seq uint64) []byte{
		"no method": func(seq uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdResponse, Seq: seq}, "", "x")
		},
		"a method longer than the body": func(seq uint64) []byte {
			return append(wire.AppendHeader(nil, wire.Header{Cmd: wire.CmdResponse, Seq: seq, MethodLen: 100, BodyLen: 4}), "abcd"...)
		},
		"a method of 200 bytes": func(seq uint64) []byte {
			return append(wire.AppendHeader(nil, wire.Header{Cmd: wire.CmdResponse, Seq: seq, MethodLen: 200, BodyLen: 200}), make([]byte, 200)...)
		},
		"a body over the limit": func(seq uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdResponse, Seq: seq}, "/x", make([]byte, 5<<10))
		},
		"an unknown command": func(seq uint64) []byte {
			return wire.AppendFrame(nil, wire.Header{Cmd: 42, Seq: seq}, "/x", "")
		},
		"the peer closes": nil,
	} {
		t.Run(name, func(t *testing.T) {
			ln := memconn.Listen()
			peers := rowScript(t, ln)
			c := rowDial(t, ln.Dial, arpc.WithMaxBodyLen(4<<10))
			p := rowNext(t, "the client dials", peers)
			errs := make(chan error, 2)
			go func() { errs <- c.Call("/x", nil, nil, rowPatience) }()
			require.NoError(t, c.CallAsync("/x", nil, func(ctx *arpc.Context) { errs <- ctx.Bind(nil) }, rowPatience))
			for _, f := range []rowFrame{p.next(), p.next()} {
				if frame == nil {
					p.nc.Close()
					break
				}
				p.writeRaw(frame(f.Seq))
			}
			for range 2 {
				err := rowNext(t, "the call ends", errs)
				require.Error(t, err)
				require.False(t, arpc.IsRemote(err))
				require.NotErrorIs(t, err, context.DeadlineExceeded)
			}
		})
	}
}

// The same failure for streams that nobody serves.
func TestRow17_OpenerHearsAtOnceWhenAStreamIsNotServed(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		s.Handler.HandleStream("/panic", func(*arpc.Stream) { panic("on purpose") })
		s.Handler.HandleStream("/goexit", func(*arpc.Stream) { runtime.Goexit() })
		s.Handler.HandleStream("/return", func(*arpc.Stream) {})
		s.Handler.Handle("/request", rowEcho)
		for _, method := range []string{"/unknown", "/request", "/panic", "/goexit", "/return"} {
			for name, first := range map[string]func(*arpc.Stream) error{
				"Send":      func(st *arpc.Stream) error { return st.Send("x") },
				"CloseSend": func(st *arpc.Stream) error { return st.CloseSend() },
			} {
				st, err := c.OpenStream(t.Context(), method)
				require.NoError(t, err)
				if err := first(st); err != nil && method != "/return" { // it has heard already
					require.ErrorIs(t, st.Recv(nil), err, name)
				}
				rowSoon(t, method, func() { assert.Error(t, st.Recv(nil), method) })
			}
		}
		rowFailsAtOnce(t, c, "/return") // a stream is no route
		require.NoError(t, c.Call("/request", nil, nil, rowPatience))
	})
}

// The same failure when the frame that opens a stream makes no sense.
func TestRow17_OpenerHearsAtOnceWhenItsStreamIsMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		methodLen byte
		body      string
	}{
		"no method":                     {0, "hello"},
		"a method of 200 bytes":         {200, strings.Repeat("m", 300)},
		"a method longer than the body": {100, "/echo"},
		"a body over the limit":         {5, "/echo" + strings.Repeat("x", 5<<10)},
		"an unknown method":             {5, "/wxyz"},
	} {
		t.Run(name, func(t *testing.T) {
			ln := memconn.Listen()
			s := rowServe(t, ln, arpc.WithMaxBodyLen(4<<10))
			s.Handler.HandleStream("/echo", func(st *arpc.Stream) { <-st.Context().Done() })
			p := rowCaller(t, ln)
			h := wire.Header{BodyLen: uint32(len(c.body)), Cmd: wire.CmdStream | wire.StreamOpener, MethodLen: c.methodLen, Seq: 77}
			require.NoError(t, p.writeRaw(append(wire.AppendHeader(nil, h), c.body...)))
			f := p.next()
			require.Equal(t, wire.CmdStream|wire.StreamEnd, f.Cmd)
			require.EqualValues(t, 77, f.Seq)
		})
	}
}
