package arpc

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// redialer is what a dialled client needs to come back. Guarded by Client.mu, but for
// now.
type redialer struct {
	now        chan struct{} // has Restart not wait for the back-off; capacity 1; never changed
	attempts   int           // to reconnect, since a connection was of use
	running    bool          // a goroutine dials
	moving     bool          // the peer goes away, and the dial elsewhere is not known to have failed
	backingOff chan struct{} // closed when that goroutine no longer waits; nil: it does not
	changed    chan struct{} // closed when a call that waits is to look again; nil: none waits
}

// usable returns the connection to send on, nil if there is none.
func (c *Client) usable() *conn {
	cn := c.conn.Load()
	if c.closing.Load() || cn.leaving.Load() || cn.ended.Load() {
		return nil
	}
	return cn
}

// acquire returns the connection to send on, and what is left of the timeout. It
// waits for one when info or the settings ask for that, or when the peer is going
// away and the client is on its way elsewhere.
func (c *Client) acquire(ctx context.Context, timeout time.Duration, info *callInfo) (*conn, time.Duration, error) {
	if cn := c.usable(); cn != nil {
		return cn, timeout, nil
	}
	start := time.Now()
	var expired <-chan time.Time
	for {
		cn, changed, err := c.lookAgain(info)
		if cn != nil || err != nil {
			return cn, shortened(timeout, time.Since(start)), err
		}
		if expired == nil && timeout > 0 && timeout != TimeForever {
			timer := time.NewTimer(timeout)
			defer timer.Stop()
			expired = timer.C
		}
		last := c.conn.Load()
		last.passBaton(last.mark.Load(), false)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, contextError(ctx, true)
		case <-expired:
			return nil, 0, timeoutError(true)
		}
	}
}

// waits reports whether a call waits for a connection when there is none.
func (c *Client) waits(info *callInfo) bool {
	return info.wait == waitAlways || info.wait == waitDefault && c.Handler.snapshot().settings.waitForReady
}

// lookAgain returns a connection, or what to wait for, or why there is nothing to
// wait for.
func (c *Client) lookAgain(info *callInfo) (*conn, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cn := c.usable()
	wait := c.waits(info)
	switch {
	case cn != nil:
		return cn, nil, nil
	case c.state == StateClosed:
		return nil, nil, notConnected(ErrClosed, c.cause)
	case c.closing.Load():
		return nil, nil, unsent(ErrClosed)
	case c.dialer == nil || info.wait == waitNot || !wait && !c.redialer.moving:
		return nil, nil, c.unavailable()
	}
	if c.redialer.changed == nil {
		c.redialer.changed = make(chan struct{})
	}
	return nil, c.redialer.changed, nil
}

// unavailable says why there is no connection. Guarded by mu.
func (c *Client) unavailable() error {
	if err := c.conn.Load().err(); err != nil {
		return notConnected(ErrDisconnected, err)
	}
	return unsent(ErrGoingAway)
}

// announce lets calls that wait for a connection look again. Guarded by mu.
func (c *Client) announce() {
	if c.redialer != nil && c.redialer.changed != nil {
		close(c.redialer.changed)
		c.redialer.changed = nil
	}
}

// attach opens a connection of a dialled client. It returns when the connected
// hooks have run, or the connection has failed, and reports whether it became the
// client's.
func (c *Client) attach(nc net.Conn) (adopted bool, err error) {
	cn := newConn(c, nc, true)
	c.mu.Lock()
	if c.state == StateClosed {
		c.mu.Unlock()
		nc.Close()
		return false, ErrClosed
	}
	c.conns = append(c.conns, cn)
	c.mu.Unlock()
	cn.start()
	cn.opened()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announce()
	return cn.adopted, cn.err()
}

// adopt makes a connection the client's. It reports false when the client was
// closed meanwhile.
func (c *Client) adopt(cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateClosed || c.closing.Load() {
		return false
	}
	select {
	case <-c.redialer.now: // a Restart of while it dialled has what it wanted
	default:
	}
	cn.adopted = true
	c.conn.Store(cn)
	c.state = StateConnected
	c.redialer.moving = false
	c.redialer.running = false // a connection that ends at once starts anew
	return true
}

// owned reports whether a connection was the client's. It is forgotten if not.
func (c *Client) owned(cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !cn.adopted {
		c.forget(cn)
	}
	return cn.adopted
}

// forget takes a connection that has ended off the list. Guarded by mu.
func (c *Client) forget(cn *conn) {
	c.conns = slices.DeleteFunc(c.conns, func(other *conn) bool { return other == cn })
}

// lost notes that a connection has ended, before the hooks are told: whether the
// client comes back, and why it was lost. A connection that carried nothing
// counts as a failed attempt to reconnect.
func (c *Client) lost(cn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(cn)
	if c.state == StateClosed || cn != c.conn.Load() {
		return // one that was left for another is no loss
	}
	c.cause = cn.err()
	if c.redialer != nil && (cn.useful || cn.hello.Load() != nil && time.Duration(cn.now()) >= cn.settings.reconnectMax) {
		c.redialer.attempts = 0
	}
	closing := c.closing.Load()
	if closing {
		c.cause = ErrClosed
	}
	if c.server != nil || closing || cn.settings.reconnectAttempts == 0 {
		c.state = StateClosed
		c.done.give()
		c.announce()
		return
	}
	c.state = StateReconnecting
}

// connEnded is called once for each connection that was the client's, by its last
// reader, and has the client come back.
func (c *Client) connEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateReconnecting && !c.redialer.running {
		c.startRedial(c.cause, usualPause)
	}
}

// usualPause has redial wait before its first attempt as before the others.
const usualPause time.Duration = -1

// startRedial has the client dial on a goroutine of its own. Guarded by mu.
func (c *Client) startRedial(last error, pause time.Duration) {
	c.redialer.running = true
	c.redialer.backingOff = make(chan struct{})
	go c.redial(last, pause)
}

// move has a dialled client look for another connection while what is under way
// on cn, whose peer goes away, ends there.
func (c *Client) move(cn *conn, comeBack time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dialer == nil || c.state != StateConnected || cn != c.conn.Load() || c.closing.Load() || cn.settings.reconnectAttempts == 0 {
		return
	}
	c.state = StateReconnecting
	c.redialer.moving = true
	c.redialer.attempts = 0
	c.startRedial(ErrGoingAway, comeBack+rand.N(comeBack/5+1))
}

// isMoving reports whether calls wait for the client to get elsewhere.
func (c *Client) isMoving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.redialer != nil && c.redialer.moving
}

// redial dials until the client is connected, closed, refused, or out of attempts,
// which closes it because of last.
func (c *Client) redial(last error, pause time.Duration) {
	for {
		s := c.Handler.snapshot()
		if c.gaveUp(s.settings.reconnectAttempts, last) {
			return
		}
		attempt, ok := c.backOff(&s.settings, pause)
		if !ok {
			return
		}
		pause = usualPause
		nc, err := net.Conn(nil), error(errGoexit)
		apart(func() { nc, err = c.dial() })
		dialled := err == nil
		if dialled {
			var adopted bool
			if adopted, err = c.attach(nc); adopted {
				err = nil
			}
		}
		if err != nil && c.State() == StateClosed {
			return
		}
		c.attempted(err, dialled && attempt < movePatience)
		c.reconnectHooks(s, attempt, err)
		if err == nil || refused(err) {
			return
		}
		last = err
	}
}

// movePatience is how many servers that go away themselves a client on its way
// elsewhere may meet before its calls fail.
const movePatience = 5

// attempted notes how an attempt to reconnect went. One that reached a server may
// have met it on its way out, then the next is waited for.
func (c *Client) attempted(err error, reached bool) {
	if refused(err) {
		c.close(err)
	}
	if err == nil || reached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.redialer.moving = false
	c.announce()
}

func (c *Client) gaveUp(attempts int, last error) bool {
	c.mu.Lock()
	out := c.redialer.attempts >= attempts
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
	if c.redialer.backingOff != nil {
		close(c.redialer.backingOff)
		c.redialer.backingOff = nil
	}
}

// awaitRedial waits until the goroutine that dials for a client, which is closed, does
// not back off any more.
func (c *Client) awaitRedial() {
	if c.redialer == nil {
		return
	}
	c.mu.Lock()
	backingOff := c.redialer.backingOff
	c.mu.Unlock()
	if backingOff != nil {
		<-backingOff
	}
}

// backOff waits before an attempt, for a random time so that the clients of a
// restarted server do not come back in step. It reports false when the client
// was closed.
func (c *Client) backOff(s *settings, pause time.Duration) (attempt int, ok bool) {
	c.mu.Lock()
	c.redialer.attempts++
	attempt = c.redialer.attempts
	if c.redialer.backingOff == nil {
		c.redialer.backingOff = make(chan struct{})
	}
	c.mu.Unlock()
	defer c.stopWaiting() // what follows is the user's code
	if pause == usualPause {
		pause = rand.N(backOffCeiling(attempt, s)) + 1
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return attempt, true
	case <-c.redialer.now:
		return attempt, true
	case <-c.done.wait():
		return attempt, false
	}
}

func backOffCeiling(attempt int, s *settings) time.Duration {
	shift := attempt - 1
	if shift < 30 && s.reconnectBase < s.reconnectMax>>shift { // which cannot overflow
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
	case c.redialer.now <- struct{}{}:
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
