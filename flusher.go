package arpc

import (
	"runtime"
	"slices"
	"sync"
)

// flushers write what was pushed to many connections, or is one of many frames that a
// handler sends, so that who sends makes no system call for each of them, and what is sent
// next while they are at it leaves with the same write: BenchmarkBroadcast. Until it is a connection's turn, anybody
// else who sends on it flushes it himself.
type flushers struct {
	mu      sync.Mutex
	conns   []*conn  // those to be flushed, the first to come first
	next    int      // index of the first in conns
	logs    []*casts // with news: those in them come behind what is in the line
	round   int      // so many of the line come before the end of the last round
	running int      // goroutines, at most one for every second processor
}

// keptFlushed is for how many connections an empty line keeps room.
const keptFlushed = 4096

// add has a connection flushed soon. The caller has set out.inLine.
func (f *flushers) add(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.toBeFlushed {
		return // the last time was forestalled
	}
	c.toBeFlushed = true
	if f.next > len(f.conns)/2 {
		f.conns = slices.Delete(f.conns, 0, f.next)
		f.next = 0
	}
	f.conns = append(f.conns, c)
	f.start()
}

// announce has all connections in a log take what is new there, and be flushed.
func (f *flushers) announce(log *casts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !log.news {
		log.news = true
		f.logs = append(f.logs, log)
	}
	f.start()
}

// start begins to flush. Guarded by mu.
func (f *flushers) start() {
	if f.running < max(1, runtime.GOMAXPROCS(0)/2) {
		f.running++
		go f.run()
	}
}

func (f *flushers) run() {
	for c := f.take(true); c != nil; c = f.take(true) {
		c.flushShared()
	}
}

// help flushes until the connections in a log are not too far behind.
func (f *flushers) help(log *casts) {
	for log.ahead() {
		c := f.take(false)
		if c == nil {
			return
		}
		c.flushShared()
	}
}

// take returns the next connection. With nil the goroutine, if it is one of the
// flushers' own, is to end.
func (f *flushers) take(own bool) *conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.round <= 0 && len(f.logs) > 0 {
		f.beginRound()
	}
	if f.next == len(f.conns) {
		f.conns, f.next, f.round = f.conns[:0], 0, 0
		if cap(f.conns) > keptFlushed {
			f.conns = nil
		}
		if own {
			f.running--
		}
		return nil
	}
	c := f.conns[f.next]
	f.conns[f.next] = nil
	f.next++
	f.round--
	c.toBeFlushed = false
	return c
}

// beginRound puts those in the next log into the line. Guarded by mu.
func (f *flushers) beginRound() {
	log := f.logs[0]
	f.logs = slices.Delete(f.logs, 0, 1)
	log.news = false
	f.conns, f.next = log.round(slices.Delete(f.conns, 0, f.next)), 0
	f.round = len(f.conns)
}

// flushedLater reports whether a frame that nobody waits for is left to the flushers: a
// handler or callback that runs on the reader probably sends it, and others of its kind
// behind it, which leave with the same write: BenchmarkAsync.
func (c *conn) flushedLater(o *outgoing) bool {
	return c.mark.Load()&markRunning != 0 && o.body() < largeBody
}

// flushShared writes what waits on one of many connections, and puts it last in the
// line if more was added meanwhile.
func (c *conn) flushShared() {
	buf, crowded := c.takeShared()
	if crowded {
		c.client.server.casts.part(c)
	}
	switch {
	case buf == nil:
		return
	case c.raw == nil || len(c.hooks.beforeSend) > 0: // they may block, or end the goroutine
		c.flushApart(buf, nil)
		return
	}
	if n, ok := c.writeNow(buf, nil); ok && c.wroteShared(buf, n) {
		c.handler.flushers.add(c)
	}
}

// takeShared returns what is to be written, nil for nothing or if somebody else is at
// it, and whether there is too much for the connection to stay in the log.
func (c *conn) takeShared() (buf *buffer, crowded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeCasts()
	crowded = c.crowded()
	if c.out.flushing && !c.out.inLine || !c.out.flushing && c.out.empty() {
		return nil, crowded
	}
	c.out.flushing, c.out.inLine = true, false
	return c.takeNext(), crowded
}

// wroteShared is wrote for who leaves what is to be written next for later, and
// reports whether there is anything.
func (c *conn) wroteShared(buf *buffer, n int) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(n)
	putOutput(buf) // the next in the line finds it in the caches
	if more = !c.out.empty() && c.cause == nil; more {
		c.out.inLine = true
	} else {
		c.endFlush()
	}
	return more
}
