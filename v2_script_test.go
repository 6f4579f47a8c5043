package arpc_test

import (
	"bufio"
	"io"
	"net"
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
