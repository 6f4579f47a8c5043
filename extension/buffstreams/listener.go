package buffstreams

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Listener accepts connections and has each message handled. Its methods may be
// called from any goroutine at any time, Close also in callbacks.
type Listener struct {
	// Set by NewListener, never changed.
	cfg     ListenerConfig
	s       *settings
	ln      net.Listener
	closing chan struct{} // closed by Close and Shutdown

	// Set by start.
	handle func(ctx context.Context, c *Conn, l *link) error // all messages in hand

	// Guarded by mu.
	mu       sync.Mutex
	started  bool
	draining bool // or closed
	conns    map[*Conn]*serving
	stats    ListenerStats
	active   int           // goroutines
	err      error         // of Serve
	served   chan struct{} // closed when Serve has returned, or never will be called
	gone     chan struct{} // closed with the last goroutine, once closing is
}

// ListenerStats is what a Listener has counted. All but Conns only grow.
type ListenerStats struct {
	Accepted uint64 // connections
	Refused  uint64 // connections over MaxConns
	Failed   uint64 // accepts that failed for a moment
	Conns    int    // connections there are
}

// Listen opens the port of cfg.Address. Connections are accepted after Serve,
// StartListening, StartListeningAsync or Messages.
func Listen(cfg ListenerConfig) (*Listener, error) {
	if _, err := cfg.settings(); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("buffstreams: %w", err)
	}
	return NewListener(ln, cfg)
}

// NewListener is Listen with a listener, which is the Listener's from then on.
// cfg.Address is not used.
func NewListener(ln net.Listener, cfg ListenerConfig) (*Listener, error) {
	s, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	if cfg.TLS != nil {
		ln = tls.NewListener(ln, cfg.TLS)
	}
	return &Listener{
		cfg:     cfg,
		s:       s,
		ln:      ln,
		closing: make(chan struct{}),
		conns:   make(map[*Conn]*serving),
		served:  make(chan struct{}),
		gone:    make(chan struct{}),
	}, nil
}

// Addr returns the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Serve accepts connections until ctx ends, which is like Close and returns the
// error of ctx, or until Close or Shutdown, when it returns nil after the last
// callback has. An error of the listener that does not pass is returned at once;
// connections go on until Close. A Listener serves once.
func (l *Listener) Serve(ctx context.Context) error {
	handle, err := l.callbacks()
	if err == nil {
		err = l.start(handle)
	}
	if err != nil {
		return err
	}
	return l.serve(ctx)
}

// StartListening is Serve without a context.
func (l *Listener) StartListening() error { return l.Serve(context.Background()) }

// StartListeningAsync is StartListening on a goroutine of its own. It returns what
// is wrong already; Wait returns what Serve would have.
func (l *Listener) StartListeningAsync() error {
	handle, err := l.callbacks()
	if err == nil {
		err = l.start(handle)
	}
	if err == nil {
		go l.serve(context.Background())
	}
	return err
}

// Wait waits until Serve has returned, or its relatives would have, and returns its
// error. For a Listener that is closed without having been started that is ErrClosed.
func (l *Listener) Wait() error {
	<-l.served
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *Listener) start(handle func(context.Context, *Conn, *link) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.started:
		return errStarted
	case l.draining:
		return ErrClosed
	}
	l.started = true
	l.handle = handle
	l.active++
	return nil
}

// serve is called once, after start.
func (l *Listener) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	err := l.acceptAll(ctx)
	l.leave()
	if err == nil {
		<-l.gone
		stop()
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	close(l.served)
	return err
}

// acceptAll returns nil when the Listener is closed.
func (l *Listener) acceptAll(ctx context.Context) error {
	var pause time.Duration
	for {
		nc, err := l.ln.Accept()
		switch {
		case err == nil:
			pause = 0
			l.accept(ctx, nc)
		case l.isClosing():
			return nil
		case !passes(err):
			return fmt.Errorf("buffstreams: accept: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.failed()
			l.s.logger.Warn("buffstreams: accept failed, trying again", "err", err, "pause", pause)
			l.sleep(pause)
		}
	}
}

// passes reports whether another accept may work: for want of descriptors, say.
func passes(err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return false
	}
	var t interface{ Temporary() bool } // as net/http asks, for want of another way to tell
	return errors.As(err, &t) && t.Temporary()
}

func (l *Listener) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

func (l *Listener) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.closing:
	}
}

func (l *Listener) failed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Failed++
}

// accept starts a goroutine for a connection, or closes it.
func (l *Listener) accept(ctx context.Context, nc net.Conn) {
	c := newConn(ctx, l.s, nc)
	c.owned = true
	sv := &serving{l: l, c: c, k: c.link}
	l.mu.Lock()
	full := l.cfg.MaxConns > 0 && len(l.conns) >= l.cfg.MaxConns
	switch {
	case l.draining:
	case full:
		l.stats.Refused++
	default:
		l.stats.Accepted++
		l.conns[c] = sv
		l.active++
		go sv.run()
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	c.end(ErrClosed)
	nc.Close()
	if full {
		l.s.logger.Warn("buffstreams: connection refused (MaxConns)", "peer", nc.RemoteAddr(), "limit", l.cfg.MaxConns)
	}
}

// leave is called by each goroutine at its end.
func (l *Listener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	l.checkGone()
}

// checkGone closes gone after the last goroutine. Guarded by mu.
func (l *Listener) checkGone() {
	if l.draining && l.active == 0 {
		close(l.gone)
	}
}

// Close frees the port and closes all connections, without what waits to be sent on
// them. It does not wait for callbacks that run, whose contexts end; Wait does.
// Closing again does nothing.
func (l *Listener) Close() error {
	err := l.stop()
	var all sync.WaitGroup
	for _, sv := range l.servings() {
		all.Go(func() { sv.c.finish(ErrClosed) })
	}
	all.Wait()
	return err
}

// Shutdown frees the port, lets callbacks finish, and closes each connection when
// its peer does, or is quiet for 200 ms. Peers are told that nothing more comes:
// with a Callback at once, otherwise when they are quiet, so that answers arrive. A
// Conn of this package then goes elsewhere, and loses nothing. When ctx ends
// Shutdown closes what is left and returns its error. In a callback it would wait for
// itself.
func (l *Listener) Shutdown(ctx context.Context) error {
	err := l.stop()
	for _, sv := range l.servings() {
		l.drain(sv)
	}
	select {
	case <-l.gone:
		return err
	case <-ctx.Done():
		l.Close()
		return ctx.Err()
	}
}

// stop refuses connections from now on, and frees the port.
func (l *Listener) stop() error {
	l.mu.Lock()
	if l.draining {
		l.mu.Unlock()
		return nil
	}
	l.draining = true
	close(l.closing)
	l.checkGone()
	if !l.started {
		l.err = ErrClosed
		close(l.served)
	}
	l.mu.Unlock()
	return l.ln.Close()
}

func (l *Listener) servings() []*serving {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.conns))
}

// drain has a connection end soon, unless it has ended.
func (l *Listener) drain(sv *serving) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[sv.c] == nil {
		return
	}
	l.active++
	go func() {
		defer l.leave()
		sv.drain()
	}()
}

// Stats returns what was counted until now.
func (l *Listener) Stats() ListenerStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	stats := l.stats
	stats.Conns = len(l.conns)
	return stats
}
