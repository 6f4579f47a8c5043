package buffstreams

import (
	"context"
	"errors"
	"io"
	"net"
)

// Reopen is ReopenContext that waits as long as a dial may take.
func (c *Conn) Reopen() error { return c.ReopenContext(context.Background()) }

// ReopenContext ends the connection, if there is one, and dials now. It returns
// when there is a new one, or the error of the dial. What waits in the queue goes
// over the new connection; without Retry it is given up if there is none. When ctx
// ends the dial goes on.
func (c *Conn) ReopenContext(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return ErrClosed
	case c.s.dial == nil:
		return errFixed
	}
	if !c.dialing {
		c.startDial(true)
	} else {
		select {
		case c.hurry <- struct{}{}:
		default:
		}
	}
	if l := c.link; l != nil {
		c.detach(errReopened)
		c.start(func() { c.dispose(l, true, errReopened) })
	}
	for tried := c.attempts; c.attempts == tried; {
		if err := c.wait(ctx, c.changes()); err != nil {
			return err
		}
	}
	if c.link == nil {
		return c.lost()
	}
	return nil
}

// Close sends what waits in the queue, for as long as the WriteTimeout, and closes
// the connection. What could not be sent is undelivered, and the error says so
// unless there is a callback for that. It does not wait for callbacks, and may be
// called in one; Done does. Closing again does nothing.
func (c *Conn) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.s.writeTimeout)
	defer cancel()
	c.drain(ctx, false)
	c.finish(ErrClosed)
	return c.lastReport()
}

// Shutdown sends what waits in the queue, tells the peer that nothing more comes,
// and waits until it has read everything and closes the connection too; what it
// sends meanwhile is thrown away, unless somebody reads it. When ctx ends it closes
// the connection and returns its error.
func (c *Conn) Shutdown(ctx context.Context) error {
	err := c.drain(ctx, true)
	if err == nil {
		err = c.awaitPeer(ctx)
	}
	c.finish(ErrClosed)
	return errors.Join(err, c.lastReport())
}

// drain refuses messages from now on and waits until those in the queue are sent.
// A patient one waits for another connection too.
func (c *Conn) drain(ctx context.Context, patient bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	c.change()
	for c.out.queued() > 0 && !c.closed && (c.link != nil || c.out.flushing || patient) {
		if err := c.wait(ctx, c.changes()); err != nil {
			return err
		}
	}
	return nil
}

// awaitPeer waits until the peer closes the connection in its turn.
func (c *Conn) awaitPeer(ctx context.Context) error {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l == nil || c.owned || !l.closeWrite() {
		return nil
	}
	for {
		_, err := c.Receive(ctx)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, ErrClosed):
			return nil
		default:
			return err
		}
	}
}

// finish closes the Conn because of cause.
func (c *Conn) finish(cause error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closing, c.closed = true, true
	l := c.link
	if l != nil {
		c.detach(cause)
	} else {
		if !c.owned {
			c.cause = cause
		}
		c.change()
	}
	if !c.out.flushing { // a dial that goes on is of no use
		c.giveUp()
	}
	c.checkDone()
	c.mu.Unlock()
	c.end(cause)
	if l != nil {
		c.dispose(l, true, cause)
	}
}

// lastReport waits for the flusher, which has lost its connection.
func (c *Conn) lastReport() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out.flushing {
		c.wait(context.Background(), c.changes())
	}
	return c.takeReport()
}

// Done is closed when the Conn is closed and all of its goroutines have ended, those
// that call Undelivered too.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why there is no connection, nil when there is one.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		return nil
	}
	return c.lost()
}

// Stats returns what was counted until now.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.stats
	stats.Received = c.received.Load()
	stats.Queued = c.out.queued() + c.out.held
	return stats
}

// NetConn returns the connection, or the last there was: for its addresses or its
// certificates, not to be read or written.
func (c *Conn) NetConn() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

// LocalAddr returns the local address of NetConn.
func (c *Conn) LocalAddr() net.Addr { return c.NetConn().LocalAddr() }

// RemoteAddr returns the address of the peer, or of the last there was.
func (c *Conn) RemoteAddr() net.Addr { return c.NetConn().RemoteAddr() }
