package buffstreams

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn sends messages to a peer and receives those it sends, over one connection at
// a time. A dialled one gets another when it has failed and is used again. The
// methods may be called from any goroutine at any time.
//
// A message that was accepted, by a Send or Write that returned nil, is sent in its
// turn, or becomes undelivered: the ConnConfig.Undelivered callback gets it, or an
// UndeliveredError counts it. An error of Send or Write means that this message was
// not sent and never will be. Sent means handed to the connection: the protocol
// has no acknowledgements, so what a peer does not read is lost. Shutdown waits
// until the peer has read everything.
type Conn struct {
	// Set by newConn, never changed.
	s       *settings
	life    context.Context // ends when the Conn is closed
	end     context.CancelCauseFunc
	done    chan struct{}
	turn    chan struct{} // has a token while nobody reads
	hurry   chan struct{} // ends a pause before a dial
	owned   bool          // a Listener reads it
	flusher func()        // a goroutine that writes what waits: startFlush

	received atomic.Uint64

	// Guarded by mu.
	mu        sync.Mutex
	link      *link // nil while there is no connection
	peer      net.Conn
	cause     error // why there is no connection
	closing   bool  // nothing more is accepted
	closed    bool
	out       output
	running   int  // goroutines
	handing   bool // one of them calls Undelivered
	dialing   bool
	attempts  int               // to dial that have ended
	failed    int               // attempts, and connections that sent nothing, in a row
	notBefore time.Time         // of the next dial, without Retry
	changed   chan struct{}     // closed when something above has changed; nil when nobody waits
	report    *UndeliveredError // nil when there is nothing to tell
	gaveUpFor error             // cause of the last message given up
	stats     Stats
}

// Stats is what a Conn has counted. All but Queued only grow.
type Stats struct {
	Sent        uint64 // messages handed to a connection
	Received    uint64 // messages that callers or callbacks got
	Undelivered uint64 // messages that were accepted and given up
	Reopened    uint64 // connections after the first
	Queued      int    // bytes that wait to be sent, or to be handed to Undelivered
}

// Dial connects. The first connection is tried once, whatever cfg.Retry says.
func Dial(ctx context.Context, cfg ConnConfig) (*Conn, error) {
	s, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	if s.dial == nil {
		return nil, errors.New("buffstreams: there is neither an Address nor a Dial function")
	}
	nc, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(context.Background(), s, nc), nil
}

// NewConn makes a Conn of a connection, which is the Conn's from then on. When that
// fails it is reopened as cfg says, unless there is neither an Address nor a Dial
// function. cfg.TLS is not for nc.
func NewConn(nc net.Conn, cfg ConnConfig) (*Conn, error) {
	s, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	return newConn(context.Background(), s, nc), nil
}

func newConn(ctx context.Context, s *settings, nc net.Conn) *Conn {
	c := &Conn{
		s:     s,
		done:  make(chan struct{}),
		turn:  make(chan struct{}, 1),
		hurry: make(chan struct{}, 1),
		link:  newLink(nc, s.framing),
		peer:  nc,
		out:   output{framing: s.framing, limit: s.sendQueue},
	}
	c.life, c.end = context.WithCancelCause(ctx)
	c.turn <- struct{}{}
	c.flusher = func() { // once, not per flush
		defer c.ended()
		c.flushWaiting(nil, nil, 0)
	}
	return c
}

// connect dials, or turns a panic of the dial function into an error.
func (s *settings) connect(ctx context.Context) (nc net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.dialTimeout)
	defer cancel()
	err = guard(func() (err error) {
		nc, err = s.dial(ctx)
		return err
	})
	if err == nil && nc == nil {
		err = errors.New("buffstreams: Dial returned neither a connection nor an error")
	}
	return nc, err
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("buffstreams: panic: %v", p)
		}
	}()
	return f()
}

// start runs f on a goroutine of the Conn. Guarded by mu.
func (c *Conn) start(f func()) {
	c.running++
	go func() {
		defer c.ended()
		f()
	}()
}

// startFlush has a goroutine write what waits. Guarded by mu.
func (c *Conn) startFlush() {
	c.running++
	go c.flusher()
}

// ended is called at the end of a goroutine.
func (c *Conn) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.checkDone()
}

// checkDone closes done after the last goroutine. Guarded by mu.
func (c *Conn) checkDone() {
	if !c.closed || c.running > 0 || c.out.flushing {
		return
	}
	select {
	case <-c.done:
	default:
		close(c.done)
	}
}

// progress lets those look again that wait for messages to be sent. Guarded by mu.
func (c *Conn) progress() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// change lets all look again that wait. Guarded by mu.
func (c *Conn) change() {
	c.progress()
	if c.out.room != nil {
		close(c.out.room)
		c.out.room = nil
	}
}

// changes returns what is closed at the next change. Guarded by mu.
func (c *Conn) changes() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// wait waits for a change. Guarded by mu, which it gives up meanwhile.
func (c *Conn) wait(ctx context.Context, change <-chan struct{}) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-change:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
