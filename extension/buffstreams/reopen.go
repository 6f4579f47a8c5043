package buffstreams

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// lose ends a link because of cause, if it is the Conn's.
func (c *Conn) lose(l *link, cause error) {
	c.mu.Lock()
	mine := c.link == l
	if mine {
		c.detach(cause)
	}
	c.mu.Unlock()
	c.dispose(l, mine, cause)
}

// detach leaves the Conn without a connection. Guarded by mu.
func (c *Conn) detach(cause error) {
	l := c.link
	c.link, c.cause = nil, cause
	l.over.Store(true)
	if !l.sent && c.out.queued() > 0 {
		c.failed++
	}
	c.settle(0)
	c.change()
}

// dispose closes a link, outside of mu as that may wait.
func (c *Conn) dispose(l *link, mine bool, cause error) {
	l.nc.Close()
	switch {
	case !mine || cause == ErrClosed:
	case cause == io.EOF || cause == errReopened || cause == errDrained || cause == errIdle:
		c.s.logger.Debug("buffstreams: connection ended", "peer", l.nc.RemoteAddr(), "cause", cause)
	default:
		c.s.logger.Warn("buffstreams: connection lost", "peer", l.nc.RemoteAddr(), "cause", cause)
	}
}

// settle decides what becomes of the queue without a connection, when nobody has
// any of it in hand: it is kept while there may be another, or given up. The message
// that ends at own is its sender's again if it returns an error: errPeerGone to send
// it once more, as the peer has only closed. Guarded by mu.
func (c *Conn) settle(own uint64) (err error) {
	if c.link != nil || c.out.flushing || c.dialing || len(c.out.waiting) == 0 {
		return nil
	}
	if c.queues() && !c.closed && c.failed < c.s.retry.Attempts {
		c.startDial(false)
		return nil
	}
	orderly := (c.cause == errPeerGone || c.cause == io.EOF) && c.s.dial != nil && !c.closed
	if own > c.out.resolved {
		c.out.dropFirst()
		err = c.lost()
		if orderly {
			err = errPeerGone
		}
	}
	switch {
	case len(c.out.waiting) == 0:
	case orderly && c.failed <= 1:
		c.startDial(true)
	default:
		c.giveUp()
	}
	return err
}

// queues reports whether messages wait for another connection.
func (c *Conn) queues() bool { return c.s.dial != nil && c.s.retry.Attempts > 0 }

// lost says that there is no connection, and why. Guarded by mu.
func (c *Conn) lost() error {
	if c.cause == ErrClosed {
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrNotConnected, c.cause)
}

// startDial dials in the background. Guarded by mu.
func (c *Conn) startDial(now bool) {
	c.dialing = true
	c.start(func() { c.redial(now) })
}

func (c *Conn) redial(now bool) {
	done := false
	defer func() {
		if !done && !c.dialled(nil, errGoexit) { // Dial has ended the goroutine
			c.mu.Lock()
			defer c.mu.Unlock()
			c.startDial(false)
		}
	}()
	for ; !done; now = false {
		if !now && c.queues() {
			c.pause()
		}
		nc, err := net.Conn(nil), c.life.Err()
		if err == nil {
			nc, err = c.s.connect(c.life)
		}
		done = c.dialled(nc, err)
	}
}

// pause waits before a dial, for a random time so that the clients of a restarted
// server do not come back in step.
func (c *Conn) pause() {
	c.mu.Lock()
	timer := time.NewTimer(c.s.retry.random(c.failed))
	c.mu.Unlock()
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.hurry:
	case <-c.life.Done():
	}
}

// random returns a pause after so many failures.
func (r Retry) random(failed int) time.Duration {
	ceiling := min(r.Base, r.Max)
	for range failed - 1 {
		if ceiling > r.Max/2 {
			ceiling = r.Max
			break
		}
		ceiling *= 2
	}
	return rand.N(max(ceiling, 1))
}

// dialled takes a new connection over, or decides whether to try again. It reports
// whether the dialling is over.
func (c *Conn) dialled(nc net.Conn, err error) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	c.change()
	if err == nil && !c.closed {
		c.attach(nc)
		return true
	}
	if err == nil {
		nc.Close()
		err = ErrClosed
	}
	c.failed++
	c.cause = err
	c.notBefore = time.Now()
	if c.failed > 1 {
		c.notBefore = c.notBefore.Add(c.s.retry.random(c.failed - 1))
	}
	if c.failed < c.s.retry.Attempts && len(c.out.waiting) > 0 && !c.closed {
		return false
	}
	c.dialing = false
	if !c.out.flushing { // otherwise settle decides
		c.giveUp()
	}
	return true
}

// attach makes nc the connection. Guarded by mu.
func (c *Conn) attach(nc net.Conn) {
	c.dialing, c.cause = false, nil
	c.link, c.peer = newLink(nc, c.s.framing), nc
	c.stats.Reopened++
	select {
	case <-c.hurry: // it came too late
	default:
	}
	if !c.out.flushing && len(c.out.waiting) > 0 {
		c.out.flushing = true
		c.startFlush()
	}
}
