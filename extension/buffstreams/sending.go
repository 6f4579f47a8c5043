package buffstreams

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

const (
	// flushRounds is how many writes a flushing sender makes before it leaves the
	// rest to a goroutine.
	flushRounds = 4
	// closeBehind is how soon a message comes behind the last write when its sender
	// does nothing but send. Then a goroutine writes, so that what the sender adds
	// meanwhile leaves together: BenchmarkOneWay.
	closeBehind = 5 * time.Microsecond
)

// Send queues a message to be sent and returns. The bytes are the caller's again.
// Messages of one goroutine are sent in the order of its calls. Send waits, until
// ctx ends, when there is no room in the queue, and without Retry when it has to
// dial. See Conn for what its error means.
func (c *Conn) Send(ctx context.Context, message []byte) error {
	return c.send(ctx, 0, nil, message)
}

// Write is Send that waits for the WriteTimeout at most. It returns len(message) or
// an error.
func (c *Conn) Write(message []byte) (int, error) {
	if err := c.send(context.Background(), c.s.writeTimeout, nil, message); err != nil {
		return 0, err
	}
	return len(message), nil
}

// send sends a message that comes in two parts. timeout 0 is none.
func (c *Conn) send(ctx context.Context, timeout time.Duration, kind, message []byte) error {
	size := len(kind) + len(message)
	if size > c.s.framing.max {
		return tooLarge(uint64(size), c.s.framing.max)
	}
	err := c.sendOnce(ctx, timeout, kind, message)
	if err == errPeerGone { // while there was nothing to be sent, most likely
		err = c.sendOnce(ctx, timeout, kind, message)
	}
	if err == errPeerGone {
		err = fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return err
}

func (c *Conn) sendOnce(ctx context.Context, timeout time.Duration, kind, message []byte) error {
	c.mu.Lock()
	size := len(kind) + len(message)
	if c.link == nil || c.closing || c.report != nil || !c.out.hasRoom(size) {
		if err := c.admit(ctx, timeout, size); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	own := c.out.add(kind, message)
	switch {
	case c.link == nil:
		c.settle(0)
		fallthrough
	case c.out.flushing:
		c.mu.Unlock()
		return nil
	}
	c.out.flushing = true
	yield := c.out.batched
	if c.link.raw == nil || !yield && time.Since(c.out.quiet) < closeBehind {
		c.startFlush()
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	if yield {
		runtime.Gosched() // runnable senders add their messages first
	}
	return c.flush(own)
}

// admit returns when there is room for a message. Guarded by mu, which it gives up
// while it waits.
func (c *Conn) admit(ctx context.Context, timeout time.Duration, size int) error {
	tried := c.attempts
	var expired <-chan time.Time
	for {
		change, err := c.look(size, tried)
		if err != nil || change == nil {
			return err
		}
		if timeout > 0 && expired == nil {
			timer := time.NewTimer(timeout)
			defer timer.Stop()
			expired = timer.C
		}
		c.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			err = ctx.Err()
		case <-expired:
			err = fmt.Errorf("WriteTimeout %v", timeout)
		}
		c.mu.Lock()
		if err != nil {
			return c.gaveUp(err)
		}
	}
}

// gaveUp is the error of a message that was not admitted in time. Guarded by mu.
func (c *Conn) gaveUp(err error) error {
	if c.link == nil && !c.queues() {
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return fmt.Errorf("%w: SendQueue is %d bytes: %w", ErrQueueFull, c.s.sendQueue, err)
}

// look returns what to wait for before a message is admitted, nil for nothing, or
// why it is not. tried is how many attempts to dial had ended when it came. Guarded
// by mu.
func (c *Conn) look(size, tried int) (change <-chan struct{}, err error) {
	switch {
	case c.closing:
		return nil, c.refusal()
	case c.report != nil:
		return nil, c.takeReport()
	case c.link == nil && !c.queues():
		return c.comeBack(tried)
	case !c.out.hasRoom(size):
		return c.out.roomChan(), nil
	}
	return nil, nil
}

// refusal is the error of a message after Close, or after the end of a connection
// that a Listener accepted. Guarded by mu.
func (c *Conn) refusal() error {
	if c.link != nil || c.cause == nil {
		return ErrClosed
	}
	return c.lost()
}

// comeBack dials, unless somebody does. Guarded by mu.
func (c *Conn) comeBack(tried int) (change <-chan struct{}, err error) {
	switch {
	case c.s.dial == nil:
		return nil, c.lost()
	case c.out.flushing || c.dialing: // the flusher is about to notice
		return c.changes(), nil
	case c.attempts != tried:
		return nil, c.lost()
	case time.Now().Before(c.notBefore):
		return nil, fmt.Errorf("%w, and dials again in %v: %w", ErrNotConnected, time.Until(c.notBefore).Round(time.Millisecond), c.cause)
	}
	c.startDial(true)
	return c.changes(), nil
}

// flush sends what waits, as far as the socket takes it; a goroutine sends the
// rest. The caller has set flushing. An error is that the message which ends at own
// was not sent.
func (c *Conn) flush(own uint64) error {
	l, s, err := c.next(nil, nil, own)
	for round := 1; s != nil; round++ {
		if round > flushRounds {
			c.flushApart(l, s, 0)
			return nil
		}
		n, failure := l.tryWrite(s.b, c.s.dial != nil)
		switch {
		case failure != nil:
			c.writeFailed(l, s, n, failure)
			l, s, err = c.next(nil, nil, own)
		case n < len(s.b):
			c.flushApart(l, s, n)
			return nil
		default:
			l, s, err = c.next(l, s, own)
		}
	}
	return err
}

func (c *Conn) flushApart(l *link, s *segment, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start(func() { c.flushWaiting(l, s, n) })
}

// flushWaiting is flush that waits for the peer where it must. n bytes of s, if
// there is one, were sent before.
func (c *Conn) flushWaiting(l *link, s *segment, n int) {
	if s == nil {
		l, s, _ = c.next(nil, nil, 0)
	}
	for ; s != nil; n = 0 {
		m, err := l.writeAll(s.b[n:], c.s.writeTimeout, c.s.dial != nil)
		if err == nil {
			l, s, _ = c.next(l, s, 0)
			continue
		}
		c.writeFailed(l, s, n+m, err)
		l, s, _ = c.next(nil, nil, 0)
	}
}

// next notes that s was sent on l, if there is one, and returns what to send next
// and on what. When there is nothing, or nothing to send it on, the flush is over,
// and the error says that the message which ends at own was not sent.
func (c *Conn) next(l *link, s *segment, own uint64) (*link, *segment, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.count(l, c.out.sent(s))
	}
	if c.link != nil {
		if s = c.out.take(); s != nil {
			return c.link, s, nil
		}
	}
	c.out.flushing = false
	c.out.quiet = time.Now()
	err := c.settle(own)
	c.progress()
	c.checkDone()
	return nil, nil, err
}

// count notes that messages were sent. Guarded by mu.
func (c *Conn) count(l *link, messages int) {
	c.stats.Sent += uint64(messages)
	if messages > 0 {
		l.sent = true
		c.failed = 0
	}
	c.progress()
}

// writeFailed loses the link after n bytes of s were sent.
func (c *Conn) writeFailed(l *link, s *segment, n int, cause error) {
	c.mu.Lock()
	c.count(l, c.out.putBack(s, n))
	mine := c.link == l
	if mine {
		c.detach(cause)
	}
	c.mu.Unlock()
	c.dispose(l, mine, cause)
}

// Flush waits until what was accepted before is sent, or ctx ends. An
// UndeliveredError says that some of it was given up instead.
func (c *Conn) Flush(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	mark, before := c.out.appended, c.stats.Undelivered
	for c.out.resolved < mark {
		if err := c.wait(ctx, c.changes()); err != nil {
			return err
		}
	}
	if err := c.takeReport(); err != nil {
		return err
	}
	if n := c.stats.Undelivered - before; n > 0 {
		return &UndeliveredError{Messages: int(n), Cause: c.gaveUpFor}
	}
	return nil
}
