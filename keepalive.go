package arpc

import (
	"context"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// idleParts is into how many parts the idle timeout is cut: a connection ends
// later than the timeout by at most one.
const idleParts = 8

// startKeepalive pings a silent peer and ends the connection of a dead one, or of
// an idle one.
func (c *conn) startKeepalive() {
	if limit := c.settings.idleTimeout; limit > 0 {
		w := &idleWatch{conn: c, limit: limit, seen: c.received.Load(), since: time.Now()}
		c.setTimer(idleTimer, limit/idleParts, w.tick)
	}
	interval := c.settings.keepaliveInterval
	if interval < 0 {
		interval = 0
		if c.dialled {
			interval = 30 * time.Second
		}
	}
	if interval == 0 {
		return
	}
	k := &keepalive{conn: c, interval: interval, timeout: c.settings.keepaliveTimeout, seen: c.received.Load()}
	c.setTimer(keepaliveTimer, interval, k.tick)
}

// keepalive is the state between two ticks of its timer. One tick runs at a
// time.
type keepalive struct {
	conn              *conn
	interval, timeout time.Duration
	seen              uint64    // bytes received at the last tick
	pinged            time.Time // since when a ping is unanswered; zero: none is
}

func (k *keepalive) tick() {
	c := k.conn
	now := time.Now()
	if n := c.received.Load(); n != k.seen || c.room.waiting.Load() { // who does not read cannot tell
		k.seen, k.pinged = n, time.Time{}
		k.again(k.interval)
		return
	}
	if k.pinged.IsZero() {
		k.pinged = now
		c.ping(nil)
	}
	left := k.timeout - now.Sub(k.pinged)
	if left <= 0 {
		c.fail(ErrKeepalive)
		return
	}
	k.again(min(k.interval, left))
}

func (k *keepalive) again(wait time.Duration) { k.conn.rearm(keepaliveTimer, wait) }

// rearm sets a timer of the connection, unless that has ended.
func (c *conn) rearm(which int, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.seldom.timers[which].Reset(wait)
	}
}

// setTimer starts a timer of the connection, unless that has ended.
func (c *conn) setTimer(which int, wait time.Duration, tick func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.rare().timers[which] = time.AfterFunc(wait, tick)
	}
}

// idleWatch is the state between two ticks of the idle timer.
type idleWatch struct {
	conn  *conn
	limit time.Duration
	seen  uint64    // bytes received at the last tick
	since time.Time // when it was seen that some had come
}

func (w *idleWatch) tick() {
	c := w.conn
	now := time.Now()
	if n := c.received.Load(); n != w.seen || c.room.waiting.Load() {
		w.seen, w.since = n, now
	}
	if now.Sub(w.since) >= w.limit {
		c.fail(ErrIdle)
		return
	}
	c.rearm(idleTimer, w.limit/idleParts)
}

// maxPings is how many pings may wait for their pongs.
const maxPings = 1024

// pings are those that wait for their pongs, which come in the same order.
// Guarded by conn.mu.
type pings struct {
	waiting []ping
	rtt     time.Duration // smoothed; 0: not known
}

func (p *pings) roundTrip() time.Duration {
	if p == nil {
		return 0
	}
	return p.rtt
}

type ping struct {
	sent time.Time
	done chan<- time.Duration // capacity 1; nil: nobody waits
}

// ping sends a ping.
func (c *conn) ping(done chan<- time.Duration) error {
	if !c.pinged(done) {
		return unsent(Errorf(CodeResourceExhausted, "arpc: %d pings wait for their pongs", maxPings))
	}
	return c.sendReply(&outgoing{header: wire.Header{Cmd: wire.CmdPing}, reply: true, urgent: true})
}

// pinged notes that a ping is about to be sent.
func (c *conn) pinged(done chan<- time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pings == nil {
		c.pings = new(pings)
	}
	if len(c.pings.waiting) >= maxPings {
		return false
	}
	c.pings.waiting = append(c.pings.waiting, ping{sent: time.Now(), done: done})
	return true
}

// rttWeight is the weight of what is known of the round trip against a new one.
const rttWeight = 7

// ponged notes a pong. One that nobody waits for says no more than that the peer
// is alive.
func (c *conn) ponged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pings == nil || len(c.pings.waiting) == 0 {
		return
	}
	first := c.pings.waiting[0]
	c.pings.waiting = c.pings.waiting[1:]
	rtt := time.Since(first.sent)
	if c.pings.rtt == 0 {
		c.pings.rtt = rtt
	}
	c.pings.rtt = (rttWeight*c.pings.rtt + rtt) / (rttWeight + 1)
	if first.done != nil {
		first.done <- rtt
	}
}

// RTT returns the time that a ping and its pong take, smoothed over those of the
// hello, of keepalive and of Ping on the newest connection; 0 when it is not
// known.
func (c *Client) RTT() time.Duration {
	cn := c.conn.Load()
	cn.mu.Lock()
	defer cn.mu.Unlock()
	return cn.pings.roundTrip()
}

// Ping asks the peer for a sign of life and returns how long that took.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	cn, _, err := c.acquire(ctx, 0, &noInfo)
	if err != nil {
		return 0, err
	}
	done := make(chan time.Duration, 1)
	mark := cn.mark.Load()
	if err := cn.ping(done); err != nil {
		return 0, err
	}
	cn.aboutToWait(mark)
	select {
	case rtt := <-done:
		return rtt, nil
	case <-ctx.Done():
		return 0, contextError(ctx, false)
	case <-cn.done.wait():
		return 0, lostError(cn.err(), false)
	}
}
