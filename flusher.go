package arpc

import (
	"runtime"
	"slices"
	"sync"
)

// flushers write what was pushed to many connections, so that who pushes makes no
// system call for each of them, and what is pushed next while they are at it leaves
// with the same write: BenchmarkBroadcast. Until it is a connection's turn, anybody
// else who sends on it flushes it himself.
type flushers struct {
	mu      sync.Mutex
	conns   []*conn // those to be flushed, the first to come first
	next    int     // index of the first in conns
	running int     // goroutines, at most one for every second processor
}

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
	if f.running < max(1, runtime.GOMAXPROCS(0)/2) {
		f.running++
		go f.run()
	}
}

func (f *flushers) run() {
	for c := f.take(); c != nil; c = f.take() {
		c.flushShared()
	}
}

// take returns the next connection, nil to end the goroutine.
func (f *flushers) take() *conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == len(f.conns) {
		f.conns, f.next = nil, 0
		f.running--
		return nil
	}
	c := f.conns[f.next]
	f.conns[f.next] = nil
	f.next++
	c.toBeFlushed = false
	return c
}

// flushShared writes what waits on one of many connections, and puts it last in the
// line if more was added meanwhile.
func (c *conn) flushShared() {
	c.mu.Lock()
	mine := c.out.inLine
	c.out.inLine = false
	c.mu.Unlock()
	switch {
	case !mine:
		return
	case c.raw == nil || len(c.hooks.beforeSend) > 0: // they may block, or end the goroutine
		c.flushApart(nil, nil)
		return
	}
	buf := c.nextOutput()
	if buf == nil {
		return
	}
	if n, ok := c.writeNow(buf, nil); ok && c.wroteShared(buf, n) {
		c.handler.flushers.add(c)
	}
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
