package arpc

import (
	"context"
	"time"
)

// What many connections never need is made when somebody asks for it, so that those
// that only answer calls cost little.

// orderedQueue returns the messages that wait for their turn.
func (c *conn) orderedQueue() *orderedQueue {
	if q := c.ordered.Load(); q != nil {
		return q
	}
	c.ordered.CompareAndSwap(nil, new(orderedQueue))
	return c.ordered.Load()
}

// workerPool returns the goroutines for what may take its time.
func (c *conn) workerPool() *workers {
	if w := c.workers.Load(); w != nil {
		return w
	}
	c.workers.CompareAndSwap(nil, &workers{over: c.settings.decisions.neverReuse})
	w := c.workers.Load()
	if c.ended.Load() { // endParts may have come before
		w.end()
	}
	return w
}

// streamTable returns the streams. Who only looks for one may use what streams has.
func (c *conn) streamTable() *streamTable {
	if t := c.streams.Load(); t != nil {
		return t
	}
	c.streams.CompareAndSwap(nil, new(streamTable))
	t := c.streams.Load()
	if c.ended.Load() { // endParts may have come before
		t.fail(lostError(c.err(), false))
	}
	return t
}

// endParts ends what there is when the connection ends because of err.
func (c *conn) endParts(err error) {
	if t := c.streams.Load(); t != nil {
		t.fail(lostError(err, false))
	}
	if w := c.workers.Load(); w != nil {
		w.end()
	}
}

// seldom is what few connections need of what conn.mu guards.
type seldom struct {
	away   chan struct{} // closed when either end goes away; nil: nobody asked
	ctx    context.Context
	cancel context.CancelCauseFunc
	timers [2]*time.Timer
}

// Timers of a connection that has opened.
const (
	keepaliveTimer = iota
	idleTimer
)

// rare returns what few connections need. Guarded by mu.
func (c *conn) rare() *seldom {
	if c.seldom == nil {
		c.seldom = new(seldom)
	}
	return c.seldom
}

// stopTimers is called at the end, and returns what cancels the context of the
// connection, nil if there is none. Guarded by mu.
func (c *conn) stopTimers() (cancel context.CancelCauseFunc) {
	timers := []*time.Timer{c.sweeper, c.opening}
	if s := c.seldom; s != nil {
		timers, cancel = append(timers, s.timers[:]...), s.cancel
	}
	for _, timer := range timers {
		if timer != nil {
			timer.Stop()
		}
	}
	return cancel
}
