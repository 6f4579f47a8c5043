package router_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

// each runs a test in fake time, over both versions of the wire. What it waits for
// must be made in it.
func each(t *testing.T, fn func(t *testing.T, world arpctest.World)) {
	for _, world := range []arpctest.World{arpctest.Memory(), arpctest.OldClient(arpctest.Memory())} {
		t.Run(world.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fn(t, world) })
		})
	}
}

// serve returns a pair whose server has registered that. When the test is over
// handlers have some minutes of the bubble to come to their end.
func serve(t *testing.T, world arpctest.World, register func(h *arpc.Handler), opts ...arpctest.Option) *arpctest.Pair {
	t.Cleanup(func() { time.Sleep(3 * time.Minute) })
	setup := arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { register(s.Handler) })
	return arpctest.New(t, world, append(opts, setup)...)
}

// settle has everything happen that happens soon. A handler that does not return
// holds its connection up for some milliseconds.
func settle() {
	time.Sleep(5 * time.Millisecond)
	synctest.Wait()
}

// from is a world in memory whose server sees its clients come from addresses.
func from(addrs ...net.Addr) arpctest.World {
	memory := arpctest.Memory()
	return arpctest.World{Name: "from", Listen: func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		ln, dial := memory.Listen(t)
		return &addressed{Listener: ln, addrs: addrs}, dial
	}}
}

// addressed gives what it accepts the addresses, one after the other.
type addressed struct {
	net.Listener
	addrs []net.Addr
}

func (l *addressed) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil || len(l.addrs) == 0 {
		return nc, err
	}
	addr := l.addrs[0]
	l.addrs = l.addrs[1:]
	return &addressedConn{Conn: nc, remote: addr}, nil
}

type addressedConn struct {
	net.Conn
	remote net.Addr
}

func (c *addressedConn) RemoteAddr() net.Addr { return c.remote }

func tcpAddr(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711} }

// code returns the code that the error of a peer must have.
func code(p *arpctest.Pair, want arpc.Code) arpc.Code {
	if p.Version == 1 {
		return arpc.CodeUnknown // there are none
	}
	return want
}
