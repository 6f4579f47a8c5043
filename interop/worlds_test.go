package interop

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/lesismal/arpc/log"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	log.SetLevel(log.LevelNone)
	os.Exit(m.Run())
}

// setup is what both ends of a test are given.
type setup struct {
	routes func(routes)      // registers the handlers, of both ends
	ours   []arpc.Option     // settings of our end
	old    func(old.Handler) // settings of the old end
}

// pair is a connection between the two libraries.
type pair struct{ client, server end }

// pairs are the two ways to connect them.
var pairs = map[string]func(testing.TB, setup) pair{
	"old client, our server": func(t testing.TB, s setup) pair {
		server := serveOurs(t, s)
		client := dialOld(t, server.dial, s)
		return pair{oldEnd{client.Client}, ourEnd{receive(t, server.accepted)}}
	},
	"our client, old server": func(t testing.TB, s setup) pair {
		server := serveOld(t, s)
		client := dialOurs(t, server.dial, s)
		return pair{ourEnd{client}, oldEnd{receive(t, server.accepted)}}
	},
}

// eachPair runs a test in both.
func eachPair(t *testing.T, s setup, test func(*testing.T, pair)) {
	for name, connect := range pairs {
		t.Run(name, func(t *testing.T) { test(t, connect(t, s)) })
	}
}

// each runs a test in which one end calls and the other answers, with either
// library and either role for the caller.
func each(t *testing.T, s setup, test func(t *testing.T, caller end)) {
	eachPair(t, s, func(t *testing.T, p pair) {
		t.Run("client calls", func(t *testing.T) { test(t, p.client) })
		t.Run("server calls", func(t *testing.T) { test(t, p.server) })
	})
}

// oldCalls is each for the callers of the old library.
func oldCalls(t *testing.T, s setup, test func(*testing.T, oldEnd)) {
	eachPair(t, s, func(t *testing.T, p pair) {
		caller, ok := p.client.(oldEnd)
		if !ok {
			caller = p.server.(oldEnd)
		}
		test(t, caller)
	})
}

// ourCalls is each for callers of ours.
func ourCalls(t *testing.T, s setup, test func(*testing.T, ourEnd)) {
	eachPair(t, s, func(t *testing.T, p pair) {
		caller, ok := p.client.(ourEnd)
		if !ok {
			caller = p.server.(ourEnd)
		}
		test(t, caller)
	})
}

// address is where a server can be reached. The server behind it may be
// replaced.
type address struct {
	addr atomic.Pointer[string] // nil: there is no server
}

var errNoServer = errors.New("no server at the moment")

func (a *address) dial() (net.Conn, error) {
	addr := a.addr.Load()
	if addr == nil {
		return nil, errNoServer
	}
	return net.Dial("tcp", *addr)
}

func (a *address) set(ln net.Listener) {
	addr := ln.Addr().String()
	a.addr.Store(&addr)
}

func listen(t testing.TB) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// receive waits for what is sure to come.
func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		require.FailNow(t, "waited in vain")
	}
	panic("unreachable")
}

// ourServer is a server of ours and the clients it has accepted.
type ourServer struct {
	*arpc.Server
	address
	accepted chan *arpc.Client
}

func serveOurs(t testing.TB, s setup) *ourServer {
	server := &ourServer{Server: arpc.NewServer(s.ours...), accepted: make(chan *arpc.Client, 100)}
	if s.routes != nil {
		s.routes(ourRoutes{server.Handler})
	}
	server.Handler.HandleConnected(func(c *arpc.Client) { server.accepted <- c })
	ln := listen(t)
	server.set(ln)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return server
}

func dialOurs(t testing.TB, dial arpc.DialerFunc, s setup) *arpc.Client {
	h := arpc.NewHandler(s.ours...)
	if s.routes != nil {
		s.routes(ourRoutes{h})
	}
	c, err := arpc.NewClient(dial, arpc.WithHandler(h))
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

// oldServer is a server of the old library and the clients it has accepted.
type oldServer struct {
	*old.Server
	address
	accepted chan *old.Client
	listener *countingListener
	gone     chan struct{} // one for each client whose connection has ended
	stopped  chan struct{}
	stop     func() // waits for the clients to be gone; called more than once
}

// countingListener counts and keeps what it accepts.
type countingListener struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn // guarded by mu
}

func (ln *countingListener) Accept() (net.Conn, error) {
	nc, err := ln.Listener.Accept()
	if err == nil {
		ln.mu.Lock()
		defer ln.mu.Unlock()
		ln.conns = append(ln.conns, nc.(*net.TCPConn))
	}
	return nc, err
}

func (ln *countingListener) all() []*net.TCPConn {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.conns
}

func serveOld(t testing.TB, s setup) *oldServer {
	server := &oldServer{
		Server:   old.NewServer(),
		accepted: make(chan *old.Client, 100),
		listener: &countingListener{Listener: listen(t)},
		gone:     make(chan struct{}, 100),
		stopped:  make(chan struct{}),
	}
	prepareOld(server.Handler, s)
	server.Handler.HandleConnected(func(c *old.Client) { server.accepted <- c })
	server.Handler.HandleDisconnected(func(*old.Client) { server.gone <- struct{}{} })
	server.set(server.listener)
	server.stop = sync.OnceFunc(func() { server.close(t) })
	go func() {
		defer close(server.stopped)
		server.Serve(server.listener)
	}()
	t.Cleanup(server.stop)
	return server
}

// prepareOld completes a handler of the old library. The route is for the sake
// of "method not found", which a handler without any does not answer; the hook
// that is removed turns Nagle's algorithm on.
func prepareOld(h old.Handler, s setup) {
	h.HandleConnected(nil)
	if s.old != nil {
		s.old(h)
	}
	h.Handle("/any", func(ctx *old.Context) { ctx.Write(nil) })
	if s.routes != nil {
		s.routes(oldRoutes{h})
	}
}

// close ends the server when its clients have left.
func (server *oldServer) close(t testing.TB) {
	for range server.listener.all() {
		receive(t, server.gone)
	}
	server.listener.Close()
	receive(t, server.stopped)
}

// hangUp ends the connections as a server does that goes away.
func (server *oldServer) hangUp() {
	for _, nc := range server.listener.all() {
		nc.CloseWrite()
	}
}

// oldClient is a dialled client of the old library.
type oldClient struct {
	*old.Client
	stop func() // needs a connection; called more than once
}

// dialOld returns after a round trip, when all goroutines of the client are at
// work.
func dialOld(t testing.TB, dial old.DialerFunc, s setup) oldClient {
	h := old.NewHandler()
	prepareOld(h, s)
	gone := make(chan struct{})
	h.HandleDisconnected(func(*old.Client) { close(gone) })
	c, err := old.NewClient(dial, h)
	require.NoError(t, err)
	c.Call("/any", nil, nil, patience)
	stop := sync.OnceFunc(func() {
		c.Call("/any", nil, nil, patience)
		c.Stop()
		receive(t, gone)
	})
	t.Cleanup(stop)
	return oldClient{c, stop}
}
