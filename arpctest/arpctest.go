// Package arpctest helps to test what is built on arpc. A [Pair] is a server and
// a client that are connected, over memory, TCP, TLS or a Unix socket; [Each]
// runs one test over all of them, and against an old client and an old server,
// which [Pair.Version] tells. [Faults] make an in-memory network slow, stalled,
// broken or wrong, so that a service can be tested against it.
//
//	func TestGreet(t *testing.T) {
//		arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
//			var reply string
//			err := p.Client.Call("/greet", "you", &reply, time.Second)
//			...
//		}, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
//			s.Handler.Handle("/greet", greet)
//		}))
//	}
//
// A pair over [Memory] may be made inside a testing/synctest bubble: timeouts,
// keepalive and back-off then run on the fake clock of the bubble. A connection is not
// to be used in a bubble that it was not made in.
package arpctest

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/arpc-go/arpc"
)

// Pair is a server and a client connected to it. Everything is stopped when the
// test ends. Its methods may be called from any goroutine that may fail the
// test.
type Pair struct {
	// Name is the name of the World.
	Name string
	// Server serves the World's listener. It may be stopped by the test.
	Server *arpc.Server
	// Client is connected to Server. It may be stopped by the test.
	Client *arpc.Client
	// Version is that of the wire which the two speak: 1 in a world with an old
	// end, where deadlines, cancellation, codes, metadata and the flow control of
	// streams do not reach the peer.
	Version int

	t        testing.TB
	listener *watchedListener
	dialer   arpc.DialerFunc
	served   chan struct{} // closed when Server.Serve has returned
	serveErr error         // of Serve; set before served is closed

	mu      sync.Mutex
	clients []*arpc.Client // guarded by mu
}

// New returns a pair that is connected over a new listener of the world. It
// fails the test if that does not work.
func New(t testing.TB, world World, opts ...Option) *Pair {
	t.Helper()
	cfg := newConfig(opts)
	ln, dialer := world.Listen(t)
	p := &Pair{
		Name:     world.Name,
		Server:   arpc.NewServer(slices.Concat(cfg.server, world.server)...),
		t:        t,
		listener: watch(ln),
		dialer:   dialer,
		served:   make(chan struct{}),
	}
	handler := handlerOf(slices.Concat(cfg.client, world.client))
	for _, setup := range cfg.setup {
		setup(p.Server, handler)
	}
	go p.serve()
	t.Cleanup(p.stop)
	p.Client = p.dial(arpc.WithHandler(handler))
	p.Version = p.Client.Peer().Version
	return p
}

// handlerOf returns the handler that NewClient would make of opts.
func handlerOf(opts []arpc.Option) *arpc.Handler {
	return arpc.NewServer(opts...).Handler
}

// Each runs body as a subtest with a pair of its own over each of Worlds, and over
// Memory with an old client and with an old server, which speak version 1 of the
// wire only; or over the worlds that Over names.
func Each(t *testing.T, body func(t *testing.T, p *Pair), opts ...Option) {
	t.Helper()
	for _, world := range newConfig(opts).worlds {
		t.Run(world.Name, func(t *testing.T) {
			body(t, New(t, world, opts...))
		})
	}
}

// Dialer returns what connects to the server, for NewClient, for a pool, or to
// speak to the server without a client.
func (p *Pair) Dialer() arpc.DialerFunc { return p.dialer }

// Dial connects one more client. Its handler is a clone of Client's, changed by
// opts. It fails the test if that does not work.
func (p *Pair) Dial(opts ...arpc.Option) *arpc.Client {
	p.t.Helper()
	clone := arpc.WithHandler(p.Client.Handler.Clone())
	return p.dial(append([]arpc.Option{clone}, opts...)...)
}

func (p *Pair) dial(opts ...arpc.Option) *arpc.Client {
	p.t.Helper()
	c, err := arpc.NewClient(p.dialer, opts...)
	if err != nil {
		p.t.Fatalf("arpctest: connect over %s: %v", p.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients = append(p.clients, c)
	return c
}

// Peer returns the server's end of Client's newest connection. See PeerOf.
func (p *Pair) Peer() *arpc.Client {
	p.t.Helper()
	return p.PeerOf(p.Client)
}

// PeerOf returns the server's end of the newest connection of a client that is
// dialled with Dialer, waiting until the server has accepted it. It fails the
// test if the client is closed or the server stopped.
func (p *Pair) PeerOf(c *arpc.Client) *arpc.Client {
	p.t.Helper()
	for {
		accepted := p.listener.next() // before the look, so that none is missed
		local := c.Conn().LocalAddr().String()
		for _, peer := range p.Server.Clients() {
			if peer.Conn().RemoteAddr().String() == local {
				return peer
			}
		}
		select {
		case <-accepted:
		case <-c.Done():
			p.t.Fatalf("arpctest: the client has no peer, it is closed: %v", c.Err())
		case <-p.served:
			p.t.Fatalf("arpctest: the client has no peer, the server is stopped: %v", p.serveErr)
		}
	}
}

func (p *Pair) serve() {
	defer close(p.served)
	p.serveErr = p.Server.Serve(p.listener)
}

func (p *Pair) stop() {
	p.mu.Lock()
	clients := p.clients
	p.mu.Unlock()
	for _, c := range clients {
		c.Stop()
	}
	p.Server.Stop()
	p.listener.Close() // if Serve has not come to take it
	<-p.served
	if !errors.Is(p.serveErr, arpc.ErrServerClosed) {
		p.t.Errorf("arpctest: serve %s: %v", p.Name, p.serveErr)
	}
}

// watchedListener tells when a connection is in the hands of the server. It
// leaves connections as they are.
type watchedListener struct {
	net.Listener

	mu       sync.Mutex
	accepted chan struct{} // closed and replaced when Accept is called
}

func watch(ln net.Listener) *watchedListener {
	return &watchedListener{Listener: ln, accepted: make(chan struct{})}
}

// Accept is called again when the server has taken the connection before over.
func (l *watchedListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	close(l.accepted)
	l.accepted = make(chan struct{})
	l.mu.Unlock()
	return l.Listener.Accept()
}

// next returns a channel that is closed at the next call of Accept.
func (l *watchedListener) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted
}
