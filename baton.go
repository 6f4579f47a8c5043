package arpc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// One goroutine at a time reads a connection: it holds the baton. Handlers run
// on it, straight on the bytes in the buffer, which spares a goroutine and a
// copy for each message. So that a slow handler delays nobody, and one that
// calls back over its own connection does not wait for itself, the baton can be
// taken from a reader while a handler runs on it:
//
//   - Before a handler the reader sets conn.mark to its epoch with the lowest
//     bit set, and takes it back afterwards by compare-and-swap.
//   - Whoever swaps the mark first, the watchdog or a sender that is about to
//     wait, starts a reader that goes on behind the handler's message.
//   - The old reader finds its mark gone, and ends after its handler.

const markRunning = 1

// begin marks the connection as in a handler, which r.running describes.
func (r *reader) begin(watch bool) (mark uint64) {
	c := r.conn
	mark = r.epoch<<1 | markRunning
	c.mark.Store(mark)
	if watch && !c.watched.Load() {
		c.watchdog().watch(c)
	}
	return mark
}

// finish takes the mark back. It reports false when the baton is gone.
// Then whoever took it has copied what was left in the buffer.
func (r *reader) finish(mark uint64) bool {
	c := r.conn
	r.epoch++
	if c.mark.CompareAndSwap(mark, r.epoch<<1) {
		return true
	}
	c.passing.Lock()
	defer c.passing.Unlock()
	return false
}

// passBaton starts another reader if a handler runs under mark. It reports
// whether it did.
func (c *conn) passBaton(mark uint64, slow bool) bool {
	if mark&markRunning == 0 {
		return false
	}
	c.passing.Lock()
	defer c.passing.Unlock()
	next := mark>>1 + 1
	if !c.mark.CompareAndSwap(mark, next<<1) {
		return false
	}
	old := c.reader
	c.hold(old.running.held)
	if slow && old.running.pace != nil {
		old.running.pace.wasSlow()
	}
	if old.running.ctx != nil {
		c.list(old.running.ctx)
	}
	if old.running.ordered {
		old.running.claimed = c.orderedQueue().claim()
		c.orderedHint = true
	}
	r := &reader{conn: c, epoch: next, readAt: old.arrived(), unclocked: clockEvery, skip: old.skip, gone: old.gone, lead: old.lead, frame: old.frame, armed: old.armed, src: old.src}
	r.inherit(old)
	c.reader = r
	go r.run()
	return true
}

// inherit copies what the old reader has received and not dispatched.
func (r *reader) inherit(old *reader) {
	if old.s == nil || old.r == old.w {
		return
	}
	rest := old.s.buf[old.r:old.w]
	r.s = scratchPool.Get().(*scratch)
	if len(rest) > len(r.s.buf) {
		r.s.buf = make([]byte, len(rest))
	}
	r.w = copy(r.s.buf, rest)
}

// aboutToWait is called by a sender before it waits for something that comes
// over this connection, with the mark from before it sent. If a handler still
// runs under that mark, the sender probably is that handler.
func (c *conn) aboutToWait(mark uint64) {
	if mark&markRunning != 0 && c.mark.Load() == mark {
		c.passBaton(mark, false)
	}
}

// watchTick is how often the watchdog looks. A handler that is seen on two
// ticks loses the baton.
const watchTick = time.Millisecond

// idleTicks is after how many ticks without a change a connection is no longer
// watched.
const idleTicks = 20

// watchShare is the part of a core, one in so many, that the watchdog takes at most:
// with thousands of busy connections it looks less often.
const watchShare = 50

// watchdog takes the baton from slow handlers. Its goroutine runs only while
// some connection is at work, and ends with the last connection.
type watchdog struct {
	mu    sync.Mutex
	conns []*conn       // guarded by mu
	stop  chan struct{} // closed to end the goroutine; nil: there is none; guarded by mu
}

// processWatchdog looks after all connections of the process.
var processWatchdog watchdog

// watchdog returns who looks after a connection. In a testing/synctest bubble that
// is the Handler's own: a goroutine from outside must not touch the channels of a
// bubble.
func (c *conn) watchdog() *watchdog {
	if c.inBubble {
		return &c.handler.watchdog
	}
	return &processWatchdog
}

func (w *watchdog) watch(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.watched.Load() || c.forgotten {
		return
	}
	c.watched.Store(true)
	c.idleTicks = 0
	w.conns = append(w.conns, c)
	if w.stop == nil {
		w.stop = make(chan struct{})
		go w.run(w.stop)
	}
}

// forget is called when a connection has ended.
func (w *watchdog) forget(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.forgotten = true
	if !c.watched.Swap(false) {
		return
	}
	w.conns = slices.DeleteFunc(w.conns, func(other *conn) bool { return other == c })
	if len(w.conns) == 0 && w.stop != nil {
		close(w.stop)
		w.stop = nil
	}
}

func (w *watchdog) run(stop chan struct{}) {
	ticker := time.NewTicker(watchTick)
	defer ticker.Stop()
	var next time.Time
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		start := time.Now()
		if start.Before(next) {
			continue
		}
		if !w.tick(stop) {
			return
		}
		next = start.Add(time.Since(start) * watchShare)
	}
}

// tick reports whether there is still something to watch.
func (w *watchdog) tick(stop chan struct{}) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != stop {
		return false
	}
	w.conns = slices.DeleteFunc(w.conns, func(c *conn) bool { return !c.look() })
	if len(w.conns) == 0 {
		w.stop = nil
	}
	return w.stop != nil
}

// look is the watchdog's look at one connection. It reports whether to go on
// watching.
func (c *conn) look() bool {
	mark := c.mark.Load()
	if mark != c.lastMark {
		c.lastMark, c.idleTicks = mark, 0
		return true
	}
	if mark&markRunning != 0 {
		c.passBaton(mark, true)
		return true
	}
	if c.idleTicks++; c.idleTicks < idleTicks {
		return true
	}
	c.watched.Store(false)
	if c.mark.Load()&markRunning == 0 {
		return false
	}
	c.watched.Store(true) // a handler began meanwhile and may have seen the old value
	return true
}

const (
	// slowCredit is how many quick runs on goroutines of their own bring a
	// route back to the reader.
	slowCredit = 64
	// quick is how long a handler may take to count as quick.
	quick = 200 * time.Microsecond
)

// pace remembers whether a route lost the baton lately. Its messages then start
// on goroutines of their own until enough of them in a row were quick.
type pace struct{ credit atomic.Int32 }

func (p *pace) slow() bool { return p.credit.Load() > 0 }

func (p *pace) wasSlow() {
	if p.credit.Load() != slowCredit {
		p.credit.Store(slowCredit)
	}
}

func (p *pace) took(d time.Duration) {
	if d > quick {
		p.wasSlow()
	} else if p.slow() {
		p.credit.Add(-1)
	}
}
