package buffstreams

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// handshakeTimeout limits the handshake of TLS.
	handshakeTimeout = 10 * time.Second
	// drainQuiet is how long a connection is quiet before a Shutdown closes it.
	drainQuiet = 200 * time.Millisecond
)

// serving is a connection of a Listener, on a goroutine of its own.
type serving struct {
	// Set by accept, never changed.
	l *Listener
	c *Conn
	k *link // the only one of c

	// Guarded by mu, which is also held to set the read deadline.
	mu    sync.Mutex
	phase phase
	armed time.Time // when the deadline of IdleTimeout was set
	seen  uint64    // messages received by then
}

// phase is how far a Shutdown has come with a connection.
type phase int

const (
	phaseOpen  phase = iota
	phaseQuiet       // waits for a pause, to tell the peer
	phaseTold        // waits for the peer, or a pause, to close
)

func (sv *serving) run() {
	cause := errGoexit
	defer func() { // also when a callback has ended the goroutine
		sv.k.in.discard()
		sv.c.finish(cause)
		sv.l.remove(sv.c)
	}()
	err := sv.handshake()
	if err == nil {
		err = sv.readAll()
	}
	if err == io.EOF { // the peer may wait for answers
		sv.flush()
	}
	cause = err
}

func (l *Listener) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	l.active--
	l.checkGone()
}

func (sv *serving) handshake() error {
	nc, ok := sv.k.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(sv.c.life, handshakeTimeout)
	defer cancel()
	if err := nc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("buffstreams: handshake: %w", err)
	}
	return nil
}

// readAll has messages handled until the end of the connection, and returns why it
// has ended.
func (sv *serving) readAll() error {
	for {
		if err := sv.l.handle(sv.c.life, sv.c, sv.k); err != nil {
			return err
		}
		if sv.k.over.Load() {
			return ErrClosed
		}
		sv.arm()
		err := sv.k.read(context.Background())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = sv.expired()
		}
		if err != nil {
			return err
		}
	}
}

// arm sets a deadline for what is to come, if there is one.
func (sv *serving) arm() {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	idle := sv.l.cfg.IdleTimeout
	if sv.phase != phaseOpen {
		sv.k.nc.SetReadDeadline(time.Now().Add(drainQuiet))
		return
	}
	if idle == 0 || !sv.armed.IsZero() && sv.seen == sv.c.received.Load() {
		return
	}
	now := time.Now()
	if now.Sub(sv.armed) >= idle/8 { // so rarely, as it is not for nothing
		sv.armed, sv.seen = now, sv.c.received.Load()
		sv.k.nc.SetReadDeadline(now.Add(idle + idle/8))
	}
}

// expired is called when nothing came until the deadline. It returns nil to go on.
func (sv *serving) expired() error {
	sv.mu.Lock()
	phase := sv.phase
	sv.mu.Unlock()
	switch {
	case phase == phaseOpen:
		return errIdle
	case phase == phaseQuiet && sv.tell():
		return nil
	}
	return errDrained
}

// drain has the connection end soon.
func (sv *serving) drain() {
	answers := sv.l.cfg.Callback == nil
	if !answers {
		sv.tell()
	}
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if answers && sv.phase == phaseOpen {
		sv.phase = phaseQuiet
	}
	sv.k.nc.SetReadDeadline(time.Now().Add(drainQuiet))
}

// tell sends what waits and tells the peer that it was all. It reports whether that
// can be told.
func (sv *serving) tell() bool {
	sv.flush()
	told := sv.k.closeWrite()
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.phase = phaseTold
	return told
}

// flush sends what waits, and refuses what is sent later.
func (sv *serving) flush() {
	ctx, cancel := context.WithTimeout(sv.c.life, sv.l.s.writeTimeout)
	defer cancel()
	sv.c.drain(ctx, false)
}

// callbacks returns what handles messages with the Callback or the Handler.
func (l *Listener) callbacks() (func(context.Context, *Conn, *link) error, error) {
	handler, callback := l.cfg.Handler, l.cfg.Callback
	if (handler == nil) == (callback == nil) {
		return nil, errCallbacks
	}
	if handler == nil {
		handler = func(_ context.Context, _ *Conn, message []byte) error { return callback(message) }
	}
	return func(ctx context.Context, c *Conn, k *link) error {
		for {
			if again, err := l.call(ctx, c, k, handler); !again {
				return err
			}
		}
	}, nil
}

// call calls the handler with the messages in hand. After a panic it is to be called
// again.
func (l *Listener) call(ctx context.Context, c *Conn, k *link, handler Handler) (again bool, err error) {
	n := uint64(0)
	defer func() {
		c.received.Add(n)
		if p := recover(); p != nil {
			l.s.logger.Error("buffstreams: panic in a callback", "peer", c.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
			again = true
		}
	}()
	for !k.over.Load() {
		message, ok, err := k.in.next()
		if !ok {
			return false, err
		}
		n++
		if err := handler(ctx, c, message); err != nil {
			l.s.logger.Error("buffstreams: callback", "peer", c.RemoteAddr(), "err", err)
		}
	}
	return false, nil
}

// Message is one that a Listener received.
type Message struct {
	Conn *Conn  // it came on, for answers
	Data []byte // valid until the next message
}

// Messages serves, in place of callbacks: it returns the messages of all
// connections, one at a time, in order for each connection. Connections whose
// messages wait for their turn are not read on. It ends with ctx, with Shutdown or
// Close, or with an error of the listener, which the last pair has. Leaving the loop
// closes the Listener.
func (l *Listener) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		batches := make(chan *batch)
		if err := l.startMessages(batches); err != nil {
			yield(Message{}, err)
			return
		}
		go l.serve(ctx)
		defer l.Wait()
		defer l.Close()
		for {
			select {
			case b := <-batches:
				if !b.yield(yield) {
					return
				}
			case <-l.served:
				if err := l.Wait(); err != nil {
					yield(Message{}, err)
				}
				return
			}
		}
	}
}

func (l *Listener) startMessages(batches chan<- *batch) error {
	if l.cfg.Callback != nil || l.cfg.Handler != nil {
		return errCallbacks
	}
	return l.start(func(ctx context.Context, c *Conn, k *link) error {
		return offer(ctx, batches, c, k)
	})
}

// batch is what a connection has in hand, lent to the loop.
type batch struct {
	c        *Conn
	k        *link
	message  []byte // the first
	returned chan error
}

// offer lends what is in hand to the loop, if it has a whole message, and waits for
// its return.
func offer(ctx context.Context, batches chan<- *batch, c *Conn, k *link) error {
	message, ok, err := k.in.next()
	if !ok {
		return err
	}
	b := &batch{c, k, message, make(chan error, 1)}
	select {
	case batches <- b:
		return <-b.returned
	case <-ctx.Done():
		return ErrClosed
	}
}

// yield hands all messages out and reports whether the loop goes on.
func (b *batch) yield(yield func(Message, error) bool) bool {
	var err error
	defer func() { b.returned <- err }()
	for message, ok := b.message, true; ok && !b.k.over.Load(); message, ok, err = b.k.in.next() {
		b.c.received.Add(1)
		if !yield(Message{b.c, message}, nil) {
			return false
		}
	}
	return true
}
