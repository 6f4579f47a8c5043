package arpc

import (
	"math/rand/v2"
	"net"
	"time"
)

// lost notes that a connection has ended, before the hooks are told: whether the
// client comes back, and why it was lost. A connection that carried nothing
// counts as a failed attempt to reconnect.
func (c *Client) lost(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateClosed {
		return
	}
	c.cause = cn.err()
	if cn.useful {
		c.attempts = 0
	}
	closing := c.closing.Load()
	if closing {
		c.cause = ErrClosed
	}
	if c.server != nil || closing || cn.settings.reconnectAttempts == 0 {
		c.state = StateClosed
		close(c.done)
		return
	}
	c.state = StateReconnecting
}

// connEnded is called once for each connection, by its last reader, and has the
// client come back.
func (c *Client) connEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateReconnecting && !c.redialing {
		c.redialing = true
		c.backingOff = make(chan struct{})
		go c.redial(c.cause)
	}
}

// redial dials until the client is connected, closed, or out of attempts, which
// closes it because of last.
func (c *Client) redial(last error) {
	for {
		s := c.Handler.snapshot()
		if c.gaveUp(s.settings.reconnectAttempts, last) {
			return
		}
		attempt, ok := c.backOff(&s.settings)
		if !ok {
			return
		}
		nc, err := net.Conn(nil), error(errGoexit)
		apart(func() { nc, err = c.dial() })
		if err == nil && !c.reattach(nc) {
			nc.Close()
			return
		}
		c.reconnectHooks(s, attempt, err)
		if err == nil {
			return
		}
		last = err
	}
}

func (c *Client) gaveUp(attempts int, last error) bool {
	c.mu.Lock()
	out := c.attempts >= attempts
	c.mu.Unlock()
	if out {
		c.close(Errorf(CodeUnavailable, "arpc: gave up after %d attempts to reconnect (WithReconnect): %w", attempts, last))
		c.stopWaiting()
	}
	return out
}

// stopWaiting lets a Stop go on that waits for the back-off.
func (c *Client) stopWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.backingOff != nil {
		close(c.backingOff)
		c.backingOff = nil
	}
}

// reattach makes nc the client's connection. It reports false when the client
// was closed meanwhile.
func (c *Client) reattach(nc net.Conn) bool {
	cn := newConn(c, nc, true)
	c.mu.Lock()
	if c.state == StateClosed {
		c.mu.Unlock()
		return false
	}
	c.conn.Store(cn)
	select {
	case <-c.redialNow: // a Restart of while it dialled has what it wanted
	default:
	}
	c.state = StateConnected
	c.redialing = false // a connection that ends at once starts anew
	c.mu.Unlock()
	cn.start()
	cn.opened()
	return true
}

// backOff waits before an attempt, for a random time so that the clients of a
// restarted server do not come back in step. It reports false when the client
// was closed.
func (c *Client) backOff(s *settings) (attempt int, ok bool) {
	c.mu.Lock()
	c.attempts++
	attempt = c.attempts
	if c.backingOff == nil {
		c.backingOff = make(chan struct{})
	}
	c.mu.Unlock()
	defer c.stopWaiting() // what follows is the user's code
	timer := time.NewTimer(rand.N(backOffCeiling(attempt, s) + 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return attempt, true
	case <-c.redialNow:
		return attempt, true
	case <-c.done:
		return attempt, false
	}
}

func backOffCeiling(attempt int, s *settings) time.Duration {
	shift := attempt - 1
	if shift < 30 && s.reconnectBase<<shift < s.reconnectMax {
		return s.reconnectBase << shift
	}
	return s.reconnectMax
}

func (c *Client) reconnectHooks(s *snapshot, attempt int, err error) {
	cn := c.conn.Load()
	for _, hook := range s.hooks.reconnect {
		apart(func() { cn.guard("reconnect hook", func() { hook(c, attempt, err) }) })
	}
}

// Restart ends the connection of a dialled client, if it has one, and dials
// anew at once, without the wait of WithReconnect. Calls in flight end with an
// error. It does not wait for the new connection; HandleReconnect tells of it.
func (c *Client) Restart() error {
	if c.server != nil {
		return NewError(CodeFailedPrecondition, "arpc: Restart: an accepted client cannot dial")
	}
	if c.State() == StateClosed {
		return ErrClosed
	}
	old := c.conn.Load() // not the one that the token may bring about
	select {
	case c.redialNow <- struct{}{}:
	default:
	}
	old.fail(NewError(CodeUnavailable, "arpc: the client was restarted"))
	return nil
}

// apart runs the user's code on a goroutine of its own, which it may end with
// runtime.Goexit.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}
