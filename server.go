package arpc

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// Server accepts connections and handles what they send by its Handler. Its
// methods may be called from any goroutine at any time.
type Server struct {
	// Handler has the routes. Never changed.
	Handler *Handler
	// Codec is given to the clients accepted from then on. Set it before Run
	// or Serve, or use WithCodec.
	Codec codec.Codec

	err error // what an option had to complain of
	seq atomic.Uint64

	casts casts

	// Guarded by mu.
	mu        sync.Mutex
	closed    bool
	listeners map[*net.Listener]struct{}
	clients   map[*Client]netip.Addr // where they are from; the zero Addr: no IP address
	perAddr   map[netip.Addr]int     // how many of them are from there
	gone      chan struct{}          // closed and replaced when a client is gone
	stats     ServerStatistics       // of connections that have ended, but for Accepted
	serving   sync.WaitGroup
}

// NewServer returns a server. Without WithHandler its Handler is a clone of
// DefaultHandler.
func NewServer(opts ...Option) *Server {
	h, err := handlerFor(opts)
	s := &Server{
		Handler:   h,
		Codec:     h.snapshot().settings.codec,
		err:       err,
		listeners: make(map[*net.Listener]struct{}),
		clients:   make(map[*Client]netip.Addr),
		perAddr:   make(map[netip.Addr]int),
		stats:     ServerStatistics{Ended: make(map[Code]uint64)},
		gone:      make(chan struct{}),
	}
	if s.Codec == nil {
		s.Codec = codec.DefaultCodec
	}
	return s
}

// Run listens on the TCP address, such as ":8888", and serves until Stop or
// Shutdown. The error is never nil.
func (s *Server) Run(addr string) error {
	if err := s.optionError(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return Errorf(CodeUnavailable, "arpc: listen: %w", err)
	}
	return s.Serve(ln)
}

// optionError also sees what setters were given after NewServer.
func (s *Server) optionError() error {
	if s.err != nil {
		return s.err
	}
	return s.Handler.optionError()
}

// Serve accepts connections from ln until Stop or Shutdown, which close it, and
// returns ErrServerClosed then. An accept that fails for a moment, as when file
// descriptors have run out, is tried again. Any other error is returned. A
// server may serve several listeners at the same time.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.optionError(); err != nil {
		ln.Close()
		return err
	}
	if !s.track(&ln) {
		ln.Close()
		return ErrServerClosed
	}
	defer s.untrack(&ln)
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(nc)
		case s.isClosed():
			return ErrServerClosed
		case !temporary(err):
			return Errorf(CodeUnavailable, "arpc: accept: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logger().Warn("arpc: accept failed, trying again", "err", err, "pause", pause)
			s.sleep(pause)
		}
	}
}

func (s *Server) track(ln *net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[ln] = struct{}{}
	s.serving.Add(1)
	return true
}

func (s *Server) untrack(ln *net.Listener) {
	(*ln).Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
	s.serving.Done()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// sleep waits for d, or until the server is closed.
func (s *Server) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		s.mu.Lock()
		gone, closed := s.gone, s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		select {
		case <-timer.C:
			return
		case <-gone:
		}
	}
}

// accept takes a connection over. It never waits for the peer.
func (s *Server) accept(nc net.Conn) {
	c := newClient(s.Handler)
	c.server, c.Codec = s, s.Codec
	cn := newConn(c, nc, false)
	if err := s.admit(cn); err != nil {
		s.logger().Warn("arpc: connection refused", "peer", nc.RemoteAddr(), "cause", err)
		nc.Close()
		return
	}
	cn.start()
}

// admit counts the connection and its client in, or says why there is no room.
func (s *Server) admit(cn *conn) error {
	from := addressOf(cn.nc.RemoteAddr())
	all, each := cn.settings.maxConns, cn.settings.maxConnsPerAddr
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrServerClosed
	case all > 0 && len(s.clients) >= all:
		s.stats.Refused++
		return Errorf(CodeResourceExhausted, "arpc: the server has %d connections, the limit (WithMaxConns)", all)
	case each > 0 && s.perAddr[from] >= each:
		s.stats.RefusedByAddress++
		return Errorf(CodeResourceExhausted, "arpc: the server has %d connections from %v, the limit (WithMaxConnsPerAddress)", each, from)
	}
	s.stats.Accepted++
	s.clients[cn.client] = from
	if from.IsValid() {
		s.perAddr[from]++
	}
	cn.client.conn.Store(cn)
	cn.client.conns = []*conn{cn}
	s.casts.add(cn)
	return nil
}

// ipv6Customer is how many bits of an IPv6 address are somebody's.
const ipv6Customer = 64

// addressOf is what connections are counted by, the zero Addr for no IP address.
func addressOf(addr net.Addr) netip.Addr {
	with, ok := addr.(interface{ AddrPort() netip.AddrPort }) // TCP and UDP
	if !ok {
		return netip.Addr{}
	}
	ip := with.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(ipv6Customer)
		ip = p.Addr()
	}
	return ip
}

// removed is called when the connection of a client has ended.
func (s *Server) removed(c *Client) {
	cn := c.conn.Load()
	code := CodeOf(cn.err())
	s.casts.forget(cn)
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.clients[c]
	delete(s.clients, c)
	if s.perAddr[from]--; s.perAddr[from] <= 0 {
		delete(s.perAddr, from)
	}
	s.stats.Ended[code]++
	if cn.stage.Load() != stageUsed {
		s.stats.NeverOpened++
	}
	s.stats.add(c)
	s.wakeLocked()
}

func (s *Server) wakeLocked() {
	close(s.gone)
	s.gone = make(chan struct{})
}

func (s *Server) logger() *slog.Logger {
	return s.Handler.snapshot().settings.logger
}

// Clients returns the clients that are connected now. With HandleAuth they are
// those that have authenticated.
func (s *Server) Clients() []*Client {
	return slices.DeleteFunc(s.all(), func(c *Client) bool { return !c.letIn() })
}

// letIn reports whether an accepted client has authenticated, if it has to.
func (c *Client) letIn() bool {
	cn := c.conn.Load()
	return !cn.demandsHello() || cn.stage.Load() == stageUsed
}

func (s *Server) all() []*Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.clients))
}

// Refused returns how many connections were closed because of WithMaxConns or
// WithMaxConnsPerAddress.
func (s *Server) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.Refused + s.stats.RefusedByAddress
}

// ServerStatistics counts what a Server's connections have come to since NewServer,
// those that are open included. What each limit counts says docs/LIMITS.md.
type ServerStatistics struct {
	Connections      int             `json:"connections"` // open now
	Accepted         uint64          `json:"accepted"`
	Refused          uint64          `json:"refused"`            // over WithMaxConns
	RefusedByAddress uint64          `json:"refused_by_address"` // over WithMaxConnsPerAddress
	NeverOpened      uint64          `json:"never_opened"`       // failed in the TLS handshake, the hello or the authentication, or took too long
	Ended            map[Code]uint64 `json:"ended"`              // by the code of the cause; CodeUnknown: of the network or TLS
	RequestsRefused  uint64          `json:"requests_refused"`   // over WithMaxInflight and WithMaxInflightBytes
	Dropped          uint64          `json:"dropped"`            // messages received and not handled
	Overruns         uint64          `json:"overruns"`           // streams dropped
	Overstocks       uint64          `json:"overstocks"`         // messages of ours there was no room for, ErrOverstock
}

// Statistics returns what was counted until now. It looks at each connection.
func (s *Server) Statistics() ServerStatistics {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Connections = len(s.clients)
	stats.Ended = maps.Clone(stats.Ended)
	for c := range s.clients {
		stats.add(c)
	}
	return stats
}

// add counts what was refused of one client's messages.
func (s *ServerStatistics) add(c *Client) {
	counted := c.counted()
	s.RequestsRefused += counted.refused.Load()
	s.Dropped += counted.dropped.Load()
	s.Overruns += counted.overruns.Load()
	s.Overstocks += counted.full.Load()
}

// NewMessage makes a message to push to clients, any number of times. What is
// wrong with the method or the value is in its Error, and returned by PushMsg.
func (s *Server) NewMessage(cmd byte, method string, v any) *Message {
	limit := s.Handler.snapshot().settings.maxBody
	return newMessage(s.Codec, wire.Header{Cmd: cmd, Seq: s.seq.Add(1)}, method, v, limit)
}

// Broadcast notifies all clients, or those for which every filter holds. The
// value is encoded once. A client whose send queue is full is left out, and its
// overstock hook runs: Broadcast waits for nobody, but from 256 messages or 64 KiB on
// that clients have not got of broadcasts before, it helps to write these. Queues may
// exceed their limit by as much. Those made one after the other reach a client in that order,
// and in their place among what else the same goroutine sends. The error says that
// the message could not be made; then nobody got it.
func (s *Server) Broadcast(method string, v any, filter ...func(*Client) bool) error {
	msg := s.NewMessage(wire.CmdNotify, method, v)
	if err := msg.Error(); err != nil {
		return err
	}
	msg.lent = true
	if len(filter) == 0 && s.castable(msg) {
		s.cast(msg)
		return nil
	}
	for _, c := range s.Clients() {
		if passes(c, filter) {
			c.PushMsg(msg, TimeZero) // who is gone or full is told by hooks
		}
	}
	return nil
}

// castable reports whether a message may go through the log.
func (s *Server) castable(msg *Message) bool {
	snap := s.Handler.snapshot()
	return len(msg.Buffer) <= castMost && snap.coders == nil && !snap.settings.decisions.neverShare
}

// cast notifies all clients, those in the log by it.
func (s *Server) cast(msg *Message) {
	others, logged := s.casts.append(msg.Buffer)
	if logged {
		s.Handler.flushers.announce(&s.casts)
	}
	for _, c := range others {
		if c.letIn() {
			c.PushMsg(msg, TimeZero)
		}
	}
	s.Handler.flushers.help(&s.casts)
}

func passes(c *Client, filter []func(*Client) bool) bool {
	for _, f := range filter {
		if f != nil && !f(c) {
			return false
		}
	}
	return true
}

// Stop closes the listeners and the connections now. It returns when the
// server's goroutines are gone, but for those that run handlers and hooks. It
// may be called from these, before Serve, and more than once.
func (s *Server) Stop() {
	s.close()
	for _, c := range s.all() {
		c.Stop()
	}
	s.serving.Wait()
}

// close stops accepting.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.wakeLocked()
	}
	for ln := range s.listeners {
		(*ln).Close()
	}
}

// Shutdown stops accepting, tells the peers, which begin nothing new from then on
// and dial elsewhere meanwhile (WithComeBackAfter), lets calls and streams end, and
// closes each connection when nothing is under way on it. When ctx ends first, the
// contexts of handlers that are left are cancelled with a cause, their connections
// are closed, and its error is returned. Peers of version 1 cannot be told: their
// requests are refused with CodeUnavailable.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close()
	var all sync.WaitGroup
	for _, c := range s.all() {
		all.Go(func() { c.shutdown(ctx) })
	}
	all.Wait()
	s.Stop()
	if ctx.Err() != nil {
		return contextError(ctx, false)
	}
	return nil
}
