package pubsub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
	"github.com/arpc-go/arpc/internal/memconn"
)

// Server is an arpc.Server that clients publish to and subscribe at. Its methods may be
// called from any goroutine at any time, also from handlers and hooks; it publishes
// before Run and without it too.
//
// Until a client has authenticated, if there is a password or an authenticator, nothing
// else of it is served, other routes of the Handler included.
//
// HandleSlow is for subscribers that do not keep up; the overstock hooks of the Handler
// are not told of them.
type Server struct {
	*arpc.Server
	// Password is what clients have to know; empty: nothing. Set it before Run or
	// Serve, or use WithPassword.
	Password string

	// Set by NewServer, never changed.
	settings  serverSettings
	logger    *slog.Logger
	broker    Broker
	sieve     sieve    // the broker, if it knows what nobody wants
	owned     bool     // the broker ends with the server
	unguarded []string // routes that were there before
	ctx       context.Context
	cancel    context.CancelFunc
	counts    counters
	blockers  subject.Matcher[*subscription] // those with the policy Block
	presence  *presence
	watching  slowWatch
	stopOnce  sync.Once

	// Guarded by mu.
	mu       sync.Mutex
	stopped  bool // no work is begun any more
	leaving  bool // no subscription is opened any more
	fans     map[string]*fan
	sessions map[*session]struct{}
	past     SubscriptionCounts // of subscriptions that have ended
	memory   *memconn.Listener  // for dialLocal; nil: not used yet
	work     sync.WaitGroup     // added to while stopped is false
}

// NewServer returns a server. Its Handler is a clone of arpc.DefaultHandler, unless
// WithServerOptions says otherwise; the server needs its HandleAuth hook and the routes
// that begin with "in_" and "ps.". Options that make no sense are reported by Run and
// Serve.
func NewServer(opts ...Option) *Server {
	settings := newServerSettings(opts)
	engine := append([]arpc.Option{arpc.WithVersions(1, 2)}, settings.engine...)
	s := &Server{
		Server:   arpc.NewServer(engine...),
		Password: settings.password,
		settings: settings,
		logger:   settings.logger,
		broker:   settings.broker,
		fans:     make(map[string]*fan),
		sessions: make(map[*session]struct{}),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.broker == nil {
		s.broker, s.owned = NewMemoryBroker(), true
	}
	s.sieve, _ = s.broker.(sieve)
	s.presence = newPresence(s, rand.Text())
	s.watching.server = s
	for _, route := range s.Handler.Routes() {
		s.unguarded = append(s.unguarded, route.Method)
	}
	s.register(s.Handler)
	return s
}

func (s *Server) register(h *arpc.Handler) {
	h.Use(s.gate)
	h.UseStream(s.gateStream)
	h.HandleAuth(s.greet)
	h.HandleConnected(s.connected)
	h.HandleDisconnected(s.disconnected)
	h.Handle(proto.Authenticate, s.handleAuthenticate)

	const ordered, atOnce = false, true
	h.Handle(proto.Subscribe, s.handleOldSubscribe, ordered)
	h.Handle(proto.Unsubscribe, s.handleOldUnsubscribe, ordered)
	h.Handle(proto.Publish, s.handleOldPublish, ordered)
	h.Handle(proto.PublishToOne, s.handleOldPublish, ordered)
	h.Handle(proto.Open, s.handleOpen, ordered)
	h.Handle(proto.Close, s.handleClose, ordered)
	h.Handle(proto.Send, s.handleSend, ordered)
	h.Handle(proto.Batch, s.handleBatch, ordered)
	h.Handle(proto.Will, s.handleWill, ordered)
	h.Handle(proto.Presence, s.handlePresence, atOnce)
	// These let publishers go on that wait for room, so they must not wait behind them.
	h.Handle(proto.Credit, s.handleCredit, atOnce)
	h.Handle(proto.Settle, s.handleSettle, atOnce)
}

// begin is called before serving.
func (s *Server) begin() error {
	if err := s.settings.err; err != nil {
		return err
	}
	if len(s.unguarded) > 0 && s.demands() {
		return arpc.Errorf(arpc.CodeFailedPrecondition, "pubsub: routes were registered before NewServer and are not behind its authentication: %s", strings.Join(s.unguarded, ", "))
	}
	return s.presence.begin()
}

// Run is arpc.Server.Run.
func (s *Server) Run(addr string) error {
	if err := s.begin(); err != nil {
		return err
	}
	return s.Server.Run(addr)
}

// RunTLS is arpc.Server.RunTLS.
func (s *Server) RunTLS(addr, certFile, keyFile string) error {
	if err := s.begin(); err != nil {
		return err
	}
	return s.Server.RunTLS(addr, certFile, keyFile)
}

// Serve is arpc.Server.Serve.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.begin(); err != nil {
		ln.Close()
		return err
	}
	return s.Server.Serve(ln)
}

// ServeTLS is arpc.Server.ServeTLS.
func (s *Server) ServeTLS(ln net.Listener, config *tls.Config) error {
	if err := s.begin(); err != nil {
		ln.Close()
		return err
	}
	return s.Server.ServeTLS(ln, config)
}

// Clients returns the clients that are connected now and have authenticated if they
// have to.
func (s *Server) Clients() []*arpc.Client {
	clients := s.Server.Clients()
	kept := clients[:0]
	for _, c := range clients {
		if s.letIn(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// Broadcast is arpc.Server.Broadcast, to Clients. It has nothing to do with topics.
func (s *Server) Broadcast(method string, v any, filter ...func(*arpc.Client) bool) error {
	return s.Server.Broadcast(method, v, append([]func(*arpc.Client) bool{s.letIn}, filter...)...)
}

// dialLocal connects a client in this process, which is let in, and for which no access
// rules are asked. It is an arpc.DialerFunc.
func (s *Server) dialLocal() (net.Conn, error) {
	ln, err := s.listenLocal()
	if err != nil {
		return nil, err
	}
	return ln.Dial()
}

func (s *Server) listenLocal() (*memconn.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, arpc.ErrServerClosed
	}
	if s.memory == nil {
		ln := memconn.Listen()
		s.memory = ln
		s.work.Go(func() { s.Server.Serve(ln) })
	}
	return s.memory, nil
}

// isLocal reports whether dialLocal has made a connection.
func (s *Server) isLocal(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, memory := nc.(*memconn.Conn)
	return memory && s.memory != nil && nc.LocalAddr() == s.memory.Addr()
}

// start runs f on a goroutine that Stop waits for. It reports false when the server is
// stopped.
func (s *Server) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.work.Go(f)
	return true
}

// Shutdown ends all subscriptions, each with a note that clients then subscribe
// elsewhere or later, and is arpc.Server.Shutdown for the rest. What waits in queues for
// slow subscribers is given up; they recover what has history.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	s.presence.end()
	for _, sess := range s.allSessions() {
		sess.endAll(errLeaving)
	}
	err := s.Server.Shutdown(ctx)
	s.Stop()
	return err
}

var errLeaving = arpc.NewError(arpc.CodeUnavailable, "pubsub: the server is going away")

// Stop ends all connections and subscriptions now. It is otherwise as arpc.Server.Stop.
// Wills of clients are not published: it is not they who are gone.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped, s.leaving = true, true
	s.mu.Unlock()
	s.presence.end()
	s.cancel()
	s.Server.Stop()
	for _, sess := range s.allSessions() {
		sess.end()
	}
	s.work.Wait()
	if s.owned {
		s.stopOnce.Do(func() { s.broker.Close() })
	}
}

func (s *Server) allSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.sessions))
	for sess := range s.sessions {
		all = append(all, sess)
	}
	return all
}
