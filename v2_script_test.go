package arpc_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// engFrame is a frame as a scripted peer sees it.
type engFrame struct {
	wire.Header
	method  string
	meta    wire.Meta
	payload string
}

// engPeer is a scripted end of a connection. One goroutine uses it.
type engPeer struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func newEngPeer(t testing.TB, nc net.Conn) *engPeer {
	t.Cleanup(func() { nc.Close() })
	return &engPeer{t, nc, bufio.NewReader(nc)}
}

// engAllFeatures is the hello of a peer that understands everything.
var engAllFeatures = wire.Hello{Features: wire.FeatureMetadata | wire.FeatureCancel | wire.FeatureWindows | wire.FeatureGoAway}

// receive returns the next frame that is no ping or pong. Pings are answered.
func (p *engPeer) receive() (engFrame, error) {
	for {
		p.nc.SetReadDeadline(time.Now().Add(suitePatience))
		f, err := engReadFrame(p.r)
		switch {
		case err != nil || f.Command() != wire.CmdPing && f.Command() != wire.CmdPong:
			return f, err
		case f.Command() == wire.CmdPing:
			p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", ""))
		}
	}
}

func engReadFrame(r io.Reader) (engFrame, error) {
	b := make([]byte, wire.HeaderLen)
	if _, err := io.ReadFull(r, b); err != nil {
		return engFrame{}, err
	}
	h := wire.ParseHeader(b)
	b = append(b, make([]byte, h.BodyLen)...)
	if _, err := io.ReadFull(r, b[wire.HeaderLen:]); err != nil {
		return engFrame{}, err
	}
	method, section, payload, err := wire.SplitMeta(b, h)
	if err != nil {
		return engFrame{}, err
	}
	meta, err := wire.ParseMeta(section)
	return engFrame{h, string(method), meta, string(payload)}, err
}

func (p *engPeer) next() engFrame {
	p.t.Helper()
	f, err := p.receive()
	require.NoError(p.t, err)
	return f
}

// nextOf returns the next frame with a command and drops what comes before.
func (p *engPeer) nextOf(cmd byte) engFrame {
	p.t.Helper()
	for {
		if f := p.next(); f.Command() == cmd {
			return f
		}
	}
}

func (p *engPeer) write(frames ...[]byte) {
	p.t.Helper()
	for _, b := range frames {
		_, err := p.nc.Write(b)
		require.NoError(p.t, err)
	}
}

// requireAlive requires that the other end answers a request to /echo, and that
// nothing comes before the answer.
func (p *engPeer) requireAlive() {
	p.t.Helper()
	p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: 1 << 40}, "/echo", "alive?"))
	f := p.next()
	require.Equal(p.t, uint64(1<<40), f.Seq, "%+v", f)
	require.Equal(p.t, "alive?", f.payload)
}

// isAlive requires that the other end answers a request to /echo, whatever comes
// before.
func (p *engPeer) isAlive() {
	p.t.Helper()
	p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: 1 << 40}, "/echo", "alive?"))
	for p.nextOf(wire.CmdResponse).Seq != 1<<40 {
	}
}

// hello says the hello as the dialling end and returns the answer.
func (p *engPeer) hello(h wire.Hello) wire.Hello {
	p.t.Helper()
	p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", h.Append(nil, true)))
	f, err := engReadFrame(p.r)
	require.NoError(p.t, err)
	answer, err := wire.ParseHello([]byte(f.payload))
	require.NoError(p.t, err)
	return answer
}

// welcome answers the hello of the dialling end and returns it.
func (p *engPeer) welcome(h wire.Hello) wire.Hello {
	f, err := engReadFrame(p.r)
	require.NoError(p.t, err)
	said, err := wire.ParseHello([]byte(f.payload))
	require.NoError(p.t, err)
	p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", h.Append(nil, false)))
	return said
}

// engServer is a server over memory for scripted callers.
type engServer struct {
	*arpc.Server
	t  testing.TB
	ln *arpctest.MemoryListener
}

func engNewServer(t testing.TB, opts ...arpc.Option) *engServer {
	s := &engServer{arpc.NewServer(opts...), t, arpctest.ListenMemory()}
	s.Handler.Handle("/echo", suiteEcho)
	go s.Serve(s.ln)
	t.Cleanup(s.Stop)
	return s
}

// dial dials the server as a scripted client that has yet to say the hello.
func (s *engServer) dial() *engPeer {
	s.t.Helper()
	nc, err := s.ln.Dial()
	require.NoError(s.t, err)
	return newEngPeer(s.t, nc)
}

// caller dials the server as a scripted client that has said the hello.
func (s *engServer) caller() *engPeer {
	s.t.Helper()
	p := s.dial()
	p.hello(engAllFeatures)
	return p
}

// engCaller returns a server and a scripted client of it.
func engCaller(t testing.TB, opts ...arpc.Option) (*engServer, *engPeer) {
	t.Helper()
	s := engNewServer(t, opts...)
	return s, s.caller()
}

// engScripted returns a client that does not come back, and the scripted server
// that it is connected to.
func engScripted(t testing.TB, h wire.Hello, opts ...arpc.Option) (*arpc.Client, *engPeer) {
	t.Helper()
	near, far := arpctest.Pipe()
	p := newEngPeer(t, far)
	greeted := make(chan struct{})
	go func() { defer close(greeted); p.welcome(h) }()
	opts = append([]arpc.Option{arpc.WithReconnect(0, 0, 0)}, opts...)
	c, err := arpc.NewClient(func() (net.Conn, error) { return near, nil }, opts...)
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	<-greeted
	return c, p
}

// engEach runs body over every world whose ends both speak version 2.
func engEach(t *testing.T, body func(t *testing.T, p *arpctest.Pair), opts ...arpctest.Option) {
	t.Helper()
	arpctest.Each(t, body, append(opts, arpctest.Over(arpctest.Worlds()...))...)
}

// engHandler has the routes of the tests that shut servers down.
func engHandler() *arpc.Handler {
	h := arpc.NewHandler()
	h.Handle("/echo", suiteEcho)
	h.Handle("/second", func(ctx *arpc.Context) { time.Sleep(engSecond); ctx.Write(ctx.Body()) })
	h.Handle("/n", func(*arpc.Context) {})
	h.HandleStream("/echo", engEchoStream)
	return h
}

// engFleet is a place where one server after the other is.
type engFleet struct {
	t    testing.TB
	opts []arpc.Option

	mu     sync.Mutex
	ln     *arpctest.MemoryListener
	server *arpc.Server
	dials  []time.Time
	down   error
}

// engNewFleet returns a fleet with its first server.
func engNewFleet(t testing.TB, opts ...arpc.Option) *engFleet {
	f := &engFleet{t: t, opts: opts}
	f.replace()
	return f
}

// replace starts a server that is dialled from now on, and returns the one before.
func (f *engFleet) replace() (old *arpc.Server) {
	ln := arpctest.ListenMemory()
	s := arpc.NewServer(append([]arpc.Option{arpc.WithHandler(engHandler())}, f.opts...)...)
	go s.Serve(ln)
	f.t.Cleanup(s.Stop)
	f.mu.Lock()
	defer f.mu.Unlock()
	old = f.server
	f.ln, f.server = ln, s
	return old
}

func (f *engFleet) dial() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials = append(f.dials, time.Now())
	if f.down != nil {
		return nil, f.down
	}
	return f.ln.Dial()
}

// client returns a client of the fleet.
func (f *engFleet) client(opts ...arpc.Option) *arpc.Client {
	f.t.Helper()
	c, err := arpc.NewClient(f.dial, append([]arpc.Option{arpc.WithHandler(engHandler())}, opts...)...)
	require.NoError(f.t, err)
	f.t.Cleanup(c.Stop)
	return c
}

// engShutdown shuts a server down without a limit, and returns what tells its end.
func engShutdown(s interface{ Shutdown(context.Context) error }) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	return done
}

// engAsync makes a call on a goroutine of its own.
func engAsync(c *arpc.Client, method string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.Call(method, nil, nil, time.Hour) }()
	return done
}
