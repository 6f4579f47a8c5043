package arpc_test

import (
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

const hostileWait = 5 * time.Second

// hostileMsg is a frame as a peer sees it.
type hostileMsg struct {
	cmd, flag byte
	seq       uint64
	method    string
	payload   string
}

func (m hostileMsg) frame() []byte {
	return wire.AppendFrame(nil, wire.Header{Cmd: m.cmd, Flag: m.flag, Seq: m.seq}, m.method, m.payload)
}

// hostileLie is a frame whose lengths need not be those of its body.
func hostileLie(bodyLen uint32, cmd, flag, methodLen byte, seq uint64, body string) []byte {
	h := wire.Header{BodyLen: bodyLen, Cmd: cmd, Flag: flag, MethodLen: methodLen, Seq: seq}
	return append(wire.AppendHeader(nil, h), body...)
}

// hostilePeer is the other end of a connection of ours, byte by byte.
type hostilePeer struct {
	t  *testing.T
	nc net.Conn
}

func newHostilePeer(t *testing.T, nc net.Conn) *hostilePeer {
	nc.SetDeadline(time.Now().Add(hostileWait))
	t.Cleanup(func() { nc.Close() })
	return &hostilePeer{t, nc}
}

// send writes the frames. Whether they are taken is the target's affair.
func (p *hostilePeer) send(frames ...[]byte) {
	for _, b := range frames {
		p.nc.Write(b)
	}
}

func (p *hostilePeer) receive() (hostileMsg, error) {
	b := make([]byte, wire.HeaderLen)
	if _, err := io.ReadFull(p.nc, b); err != nil {
		return hostileMsg{}, err
	}
	h := wire.ParseHeader(b)
	require.NoError(p.t, h.Check(), "what we send is sound")
	b = append(b, make([]byte, h.BodyLen)...)
	_, err := io.ReadFull(p.nc, b[wire.HeaderLen:])
	method, payload := wire.Split(b, h)
	return hostileMsg{h.Cmd, h.Flag, h.Seq, string(method), string(payload)}, err
}

func (p *hostilePeer) mustReceive() hostileMsg {
	p.t.Helper()
	m, err := p.receive()
	require.NoError(p.t, err)
	return m
}

// request returns the next request; echoes may come before it.
func (p *hostilePeer) request() hostileMsg {
	p.t.Helper()
	for {
		if m := p.mustReceive(); m.cmd == wire.CmdRequest {
			return m
		}
	}
}

var hostileSentinel = hostileMsg{cmd: wire.CmdRequest, seq: 0xfeedfacecafe, method: "/echo", payload: "still there?"}

// answers sends a good request behind what was sent before, and returns what
// comes until its answer.
func (p *hostilePeer) answers() (got []hostileMsg) {
	p.t.Helper()
	p.send(hostileSentinel.frame())
	for {
		m := p.mustReceive()
		if m.seq == hostileSentinel.seq {
			require.Equal(p.t, hostileMsg{wire.CmdResponse, 0, m.seq, "/echo", "still there?"}, m)
			return got
		}
		got = append(got, m)
	}
}

// hostileTarget is one of our ends, a server or a client, of which every
// connection leads to a hostilePeer.
type hostileTarget struct {
	handler         *arpc.Handler
	clients         chan *arpc.Client // our end of each connection
	causes          chan error        // why they ended
	dropped, missed atomic.Int32
	accept          func() (net.Conn, error)
}

var hostileRoles = map[string]func(t *testing.T, ln *memconn.Listener, h *arpc.Handler) func() (net.Conn, error){
	"server": func(t *testing.T, ln *memconn.Listener, h *arpc.Handler) func() (net.Conn, error) {
		s := arpc.NewServer(arpc.WithHandler(h))
		go s.Serve(ln)
		t.Cleanup(s.Stop)
		return func() (net.Conn, error) { return hostileOpened(t, ln.Dial) }
	},
	"client": func(t *testing.T, ln *memconn.Listener, h *arpc.Handler) func() (net.Conn, error) {
		var dialled <-chan *arpc.Client
		return func() (net.Conn, error) {
			if dialled == nil { // it comes back by itself
				dialled = hostileDial(t, ln.Dial, arpc.WithHandler(h), arpc.WithReconnect(time.Microsecond, time.Microsecond, arpc.Forever))
				defer hostileTake(t, dialled)
			}
			nc, err := ln.Accept()
			require.NoError(t, err)
			answerHello(t, nc)
			return nc, nil
		}
	},
}

// hostileOpened dials, and returns when the server has handled a first frame, so
// that the hooks know of the connection.
func hostileOpened(t *testing.T, dial func() (net.Conn, error)) (net.Conn, error) {
	nc, err := dial()
	if err == nil {
		p := newHostilePeer(t, nc)
		p.send(hostileMsg{cmd: wire.CmdPing}.frame())
		require.Equal(t, hostileMsg{cmd: wire.CmdPong}, p.mustReceive())
	}
	return nc, err
}

// hostileDial has a client dial, which is through when its peer has answered the
// hello.
func hostileDial(t *testing.T, dialer arpc.DialerFunc, opts ...arpc.Option) <-chan *arpc.Client {
	dialled := make(chan *arpc.Client, 1)
	stop := func() {}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if c, err := arpc.NewClient(dialer, opts...); err == nil {
			dialled <- c
			stop = c.Stop
		}
	}()
	t.Cleanup(func() { <-gone; stop() })
	return dialled
}

// hostileOnEach runs test with a server and with a client as the target, over
// connections in memory, and with a server over sockets.
func hostileOnEach(t *testing.T, opts []arpc.Option, test func(t *testing.T, target *hostileTarget)) {
	for name, role := range hostileRoles {
		t.Run(name, func(t *testing.T) {
			ln := memconn.Listen()
			t.Cleanup(func() { ln.Close() })
			target := newHostileTarget(opts)
			target.accept = role(t, ln, target.handler)
			test(t, target)
		})
	}
	t.Run("server over sockets", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		target := newHostileTarget(opts)
		s := arpc.NewServer(arpc.WithHandler(target.handler))
		go s.Serve(ln)
		t.Cleanup(s.Stop)
		dial := func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
		target.accept = func() (net.Conn, error) { return hostileOpened(t, dial) }
		test(t, target)
	})
}

func newHostileTarget(opts []arpc.Option) *hostileTarget {
	target := &hostileTarget{
		handler: arpc.NewHandler(opts...),
		clients: make(chan *arpc.Client, 1000),
		causes:  make(chan error, 1000),
	}
	h := target.handler
	h.HandleConnected(func(c *arpc.Client) { target.clients <- c })
	h.HandleDisconnected(func(c *arpc.Client) { target.causes <- c.Err() })
	h.HandleMessageDropped(func(*arpc.Client, *arpc.Message) { target.dropped.Add(1) })
	h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { target.missed.Add(1) })
	h.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) }, false) // answers do not overtake each other
	h.HandleStream("/stream", func(st *arpc.Stream) {
		for data, err := range st.RecvSeq() {
			if err != nil || st.Send(data) != nil {
				return
			}
		}
	})
	return target
}

// connect returns the other end of a new connection of the target.
func (target *hostileTarget) connect(t *testing.T) *hostilePeer {
	t.Helper()
	nc, err := target.accept()
	require.NoError(t, err)
	return newHostilePeer(t, nc)
}

// ended requires that a connection ends, and returns why.
func (target *hostileTarget) ended(t *testing.T) error {
	t.Helper()
	return hostileTake(t, target.causes)
}

func hostileTake[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(hostileWait):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// hostileCases are frames that a good peer never sends, and what becomes of
// them with a limit of 1000 bytes.
var hostileCases = func() map[string]hostileCase {
	x200, x1000 := strings.Repeat("x", 200), strings.Repeat("x", 1000)
	refused := func(flag byte, method, text string) []hostileMsg {
		return []hostileMsg{{wire.CmdResponse, wire.FlagError | flag, 7, method, text}}
	}
	cases := map[string]hostileCase{
		"request without a method":      {send: [][]byte{hostileLie(4, 1, 0, 0, 7, "body")}, want: refused(0, "?", "empty"), dropped: 1},
		"request without anything":      {send: [][]byte{hostileLie(0, 1, 0, 0, 7, "")}, want: refused(0, "?", "empty"), dropped: 1},
		"request, method over 127":      {send: [][]byte{hostileLie(200, 1, 2, 128, 7, x200)}, want: refused(2, "?", "127"), dropped: 1},
		"request, method over body":     {send: [][]byte{hostileLie(3, 1, 0, 4, 7, "abc")}, want: refused(0, "?", "longer than the body"), dropped: 1},
		"request, method of 255":        {send: [][]byte{hostileLie(0, 1, 0, 255, 7, "")}, want: refused(0, "?", "malformed"), dropped: 1},
		"request without a route":       {send: [][]byte{hostileMsg{1, 0, 7, "/nope", "x"}.frame()}, want: refused(0, "/nope", "method not found")},
		"request of odd bytes":          {send: [][]byte{hostileMsg{1, 0, 7, "\x00\xff\n", ""}.frame()}, want: refused(0, "\x00\xff\n", "method not found")},
		"notification without a method": {send: [][]byte{hostileLie(4, 3, 0, 0, 7, "body")}, dropped: 1},
		"notification, method lies":     {send: [][]byte{hostileLie(3, 3, 0, 4, 7, "abc"), hostileLie(200, 3, 0, 200, 7, x200)}, dropped: 2},
		"notification without a route":  {send: [][]byte{hostileMsg{3, 2, 7, "/nope", "x"}.frame()}, dropped: 1},
		"response, method lies":         {send: [][]byte{hostileLie(3, 2, 0, 4, 7, "abc"), hostileLie(4, 2, 0, 0, 7, "body")}, dropped: 2},
		"stream, method lies":           {send: [][]byte{hostileLie(3, 0x86, 0, 4, 7, "abc"), hostileLie(4, 6, 0, 0, 7, "body")}, dropped: 2, want: []hostileMsg{{0x46, 0, 7, "?", ""}}},
		"ping, method lies":             {send: [][]byte{hostileLie(0, 4, 0, 9, 7, ""), hostileLie(200, 4, 0, 200, 7, x200)}, dropped: 2},
		"ping with a body":              {send: [][]byte{hostileLie(4, 4, 0, 0, 7, "body")}, want: []hostileMsg{{cmd: 5}}},
		"ping with everything":          {send: [][]byte{hostileMsg{0xc4, 0xff, math.MaxUint64, "/echo", "x"}.frame()}, want: []hostileMsg{{cmd: 5}}},
		"pongs nobody asked for":        {send: [][]byte{hostileMsg{cmd: 5}.frame(), hostileMsg{0xc5, 0xff, 7, "/echo", "x"}.frame()}},
		"flags of a request":            {send: [][]byte{hostileMsg{1, 0xff, 7, "/echo", "x"}.frame()}, want: []hostileMsg{{2, 2, 7, "/echo", "x"}}},
		"too large a request":           {send: [][]byte{hostileMsg{1, 2, 7, "/echo", x1000}.frame()}, want: refused(2, "/echo", "1005 bytes is over the receiver's limit of 1000"), dropped: 1},
		"too large, method lies":        {send: [][]byte{hostileLie(1001, 1, 0, 200, 7, "/"+x1000)}, want: refused(0, "?", "limit of 1000"), dropped: 1},
		"too large an unknown command":  {send: [][]byte{hostileMsg{9, 0, 7, "/echo", x1000}.frame()}, ends: "does not speak arpc"},
		"responses to nobody": {
			send: [][]byte{hostileMsg{2, 0, 0, "/echo", ""}.frame(), hostileMsg{2, 1, 1, "/echo", "x"}.frame(), hostileMsg{2, 2, 1 << 32, "/echo", "x"}.frame(),
				hostileMsg{2, 3, math.MaxUint32, "/echo", "x"}.frame(), hostileMsg{0xc2, 0xff, math.MaxUint64, "/echo", "x"}.frame()},
			missed: 5,
		},
		"streams nobody opened": {
			send: [][]byte{hostileMsg{0x06, 0, 7, "/stream", "x"}.frame(), hostileMsg{0x06, 0, 7, "/stream", ""}.frame(),
				hostileMsg{0x46, 0, 7, "/stream", "x"}.frame(), hostileMsg{0x46, 0, 0, "/stream", ""}.frame()},
			dropped: 4,
		},
		"stream without a route": {
			send: [][]byte{hostileMsg{0x86, 0, 7, "/nope", "a"}.frame(), hostileMsg{0x86, 0, 7, "/nope", "b"}.frame(), hostileMsg{0x86, 0, 7, "/stream", ""}.frame(),
				hostileMsg{0xc6, 0, 7, "/nope", "c"}.frame(), hostileMsg{0x86, 0, 7, "/nope", "a new one"}.frame()},
			want:    []hostileMsg{{0x46, 0, 7, "/nope", ""}, {0x46, 0, 7, "/nope", ""}},
			dropped: 5,
		},
		"stream without a route that ends": {
			send:    [][]byte{hostileMsg{0xc6, 0, 0, "/nope", "a"}.frame(), hostileMsg{0xc6, 0, math.MaxUint64, "/nope", ""}.frame()},
			want:    []hostileMsg{{0x46, 0, 0, "/nope", ""}, {0x46, 0, math.MaxUint64, "/nope", ""}},
			dropped: 2,
		},
	}
	for _, bits := range []byte{0, 0x40, 0x80, 0xc0} {
		for cmd := range byte(64) {
			if cmd == 0 || cmd > 6 {
				frame := hostileMsg{cmd | bits, 0, 7, "/echo", "x"}.frame()
				cases[fmt.Sprintf("unknown command %#02x", cmd|bits)] = hostileCase{send: [][]byte{frame}, ends: "does not speak arpc"}
			}
		}
		cases[fmt.Sprintf("request with %#02x", bits)] = hostileCase{
			send: [][]byte{hostileMsg{1 | bits, 0, 7, "/echo", "x"}.frame()}, want: []hostileMsg{{2, 0, 7, "/echo", "x"}},
		}
		for _, cmd := range []byte{2, 3, 4, 5, 6} {
			c := hostileCase{send: [][]byte{hostileMsg{cmd | bits, 0, 7, "/echo", x1000}.frame()}, dropped: 1}
			if cmd == 6 && bits&0x80 != 0 {
				c.want = []hostileMsg{{0x46, 0, 7, "/echo", ""}} // it would have opened a stream
			}
			cases[fmt.Sprintf("too large with %#02x", cmd|bits)] = c
		}
	}
	return cases
}()

type hostileCase struct {
	send            [][]byte
	want            []hostileMsg // the answers; texts of errors need to contain the payload
	dropped, missed int32
	ends            string // the cause that the connection ends with, "" if it goes on
}

func TestHostileFrames(t *testing.T) {
	hostileOnEach(t, []arpc.Option{arpc.WithMaxBodyLen(1000)}, func(t *testing.T, target *hostileTarget) {
		for name, c := range hostileCases {
			t.Run(name, func(t *testing.T) {
				target.dropped.Store(0)
				target.missed.Store(0)
				p := target.connect(t)
				p.send(c.send...)
				if c.ends == "" {
					hostileMatch(t, c.want, p.answers())
					require.Equal(t, c.dropped, target.dropped.Load(), "dropped")
					require.Equal(t, c.missed, target.missed.Load(), "missed")
					p.nc.Close()
					target.ended(t)
				} else {
					_, err := p.receive()
					require.ErrorIs(t, err, io.EOF)
					require.ErrorContains(t, target.ended(t), c.ends)
				}
				next := target.connect(t)
				require.Empty(t, next.answers(), "the next good peer is served")
				next.nc.Close()
				target.ended(t)
			})
		}
	})
}

// What a peer sends first is treated like the rest. The hooks are told of the
// connection and of its end, or of neither.
func TestHostileFirstFrames(t *testing.T) {
	ln := memconn.Listen()
	target := newHostileTarget([]arpc.Option{arpc.WithMaxBodyLen(1000)})
	s := arpc.NewServer(arpc.WithHandler(target.handler))
	go s.Serve(ln)
	defer s.Stop()
	for name, c := range hostileCases {
		t.Run(name, func(t *testing.T) {
			nc, err := ln.Dial()
			require.NoError(t, err)
			p := newHostilePeer(t, nc)
			p.send(c.send...)
			if c.ends == "" {
				hostileMatch(t, c.want, p.answers())
			} else {
				_, err = p.receive()
				require.ErrorIs(t, err, io.EOF)
			}
			nc.Close()
		})
	}
	ended := func() bool { return len(s.Clients()) == 0 && len(target.clients) == len(target.causes) }
	require.Eventually(t, ended, hostileWait, time.Millisecond)
}

func hostileMatch(t *testing.T, want, got []hostileMsg) {
	t.Helper()
	require.Len(t, got, len(want), "%+v", got)
	for i, m := range got {
		if m.flag&wire.FlagError != 0 {
			require.Contains(t, m.payload, want[i].payload)
			m.payload = want[i].payload
		}
		require.Equal(t, want[i], m)
	}
}

// A frame whose method would go beyond its end, over a limit smaller than a
// method may be, leaves the next frame alone.
func TestHostileSmallLimit(t *testing.T) {
	hostileOnEach(t, []arpc.Option{arpc.WithMaxBodyLen(20)}, func(t *testing.T, target *hostileTarget) {
		p := target.connect(t)
		for _, n := range []uint32{21, 60, 99} {
			p.send(hostileLie(n, wire.CmdRequest, 0, 100, 7, strings.Repeat("x", int(n))))
			hostileMatch(t, []hostileMsg{{wire.CmdResponse, wire.FlagError, 7, "?", "limit of 20"}}, p.answers())
		}
	})
}

// A length costs nothing until the bytes have come.
func TestHostileLengths(t *testing.T) {
	for name, c := range map[string]struct {
		length uint32
		answer string // at once
	}{
		"over the limit": {math.MaxUint32, "over the receiver's limit"},
		"at the limit":   {arpc.DefaultMaxBodyLen, ""},
	} {
		t.Run(name, func(t *testing.T) {
			hostileOnEach(t, nil, func(t *testing.T, target *hostileTarget) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range 50 {
					p := target.connect(t)
					p.send(hostileLie(c.length, wire.CmdRequest, 0, 5, 7, "/echo"), []byte(strings.Repeat("x", 5000)))
					if c.answer != "" {
						hostileMatch(t, []hostileMsg{{wire.CmdResponse, wire.FlagError, 7, "/echo", c.answer}}, []hostileMsg{p.mustReceive()})
					}
					p.nc.Close()
					require.Error(t, target.ended(t))
				}
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(50<<20))
				require.Empty(t, target.connect(t).answers())
			})
		})
	}
}
