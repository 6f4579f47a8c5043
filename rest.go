package arpc

import (
	"errors"
	"sync"
	"time"
)

// A goroutine that has opened a connection or run a handler has outgrown the 2 KiB
// of stack it began with, and Go never gives it less than 4 KiB again. So the reader
// of a connection that has been idle for a while is let go, and a new goroutine waits
// for the next bytes, with no more on its stack than that takes.

// restAfter is after how long without bytes a connection rests, or up to twice that.
const restAfter = time.Second

// What the reader is at: conn.reading.
const (
	readerHolds uint32 = iota // it may wait, but not rest: a frame is under way, or it is no socket
	readerWorks               // it has bytes to look at
	readerWaits               // for a frame to begin
	readerAsked               // it waits, and is asked to rest
)

// errRests says that nothing was read since the reader was asked to rest.
var errRests = errors.New("rests")

// restless are the connections that may soon rest. Nothing runs while there are none.
type restless struct {
	mu    sync.Mutex
	conns []*conn     // conn.restIndex is where
	timer *time.Timer // until the next look; nil before the first connection
}

// processRestless are those of the process, but for those in testing/synctest bubbles.
var processRestless restless

// add has a connection rest once it is idle. Its reader calls it, when it is not
// in the list.
func (l *restless) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.restless.Store(true)
	c.restIndex, c.restSeen = int32(len(l.conns)), uint32(c.received.Load())
	l.conns = append(l.conns, c)
	switch {
	case l.timer == nil:
		l.timer = time.AfterFunc(restAfter, l.look)
	case len(l.conns) == 1:
		l.timer.Reset(restAfter)
	}
}

// forget is called when a connection has ended.
func (l *restless) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.restless.Load() {
		l.remove(c)
	}
}

// remove is forget. Guarded by mu.
func (l *restless) remove(c *conn) {
	n := len(l.conns) - 1
	last := l.conns[n]
	l.conns[c.restIndex], last.restIndex = last, c.restIndex
	l.conns[n] = nil
	if l.conns = l.conns[:n]; n == 0 {
		l.conns = nil
		l.timer.Stop()
	}
	c.restless.Store(false)
}

// look asks those to rest that have received nothing since it looked last.
func (l *restless) look() {
	for _, c := range l.idle() {
		c.askToRest()
	}
}

// idle takes the idle connections out of the list.
func (l *restless) idle() (idle []*conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.conns) - 1; i >= 0; i-- {
		c := l.conns[i]
		if n := uint32(c.received.Load()); n != c.restSeen {
			c.restSeen = n
			continue
		}
		l.remove(c)
		idle = append(idle, c)
	}
	if len(l.conns) > 0 {
		l.timer.Reset(restAfter)
	}
	return idle
}

// longAgo is a deadline that ends a wait at once.
var longAgo = time.Unix(1, 0)

// askToRest wakes a reader that waits for a frame to begin. The others come back to
// the list when they wait for one again.
func (c *conn) askToRest() {
	c.passing.Lock()
	defer c.passing.Unlock()
	if c.reading.CompareAndSwap(readerWaits, readerAsked) {
		c.nc.SetReadDeadline(longAgo)
	}
}

// unasked takes back the deadline by which the reader was asked to rest. It has none
// of its own when it is.
func (c *conn) unasked() {
	c.passing.Lock() // until whoever asked has set it
	defer c.passing.Unlock()
	c.nc.SetReadDeadline(time.Time{})
}

// waits notes that the reader is about to wait for bytes of a socket.
func (r *reader) waits() {
	c := r.conn
	if r.underWay() > 0 {
		c.reading.Store(readerHolds)
		return
	}
	c.reading.Store(readerWaits)
	if c.mayRest && !c.restless.Load() {
		processRestless.add(c)
	}
}

// letGo ends a reader that was asked to rest, with nothing in its hands.
func (r *reader) letGo() {
	c := r.conn
	c.unasked()
	c.mu.Lock()
	c.raw.letGo(c.out.flushing)
	c.mu.Unlock()
	c.passing.Lock()
	defer c.passing.Unlock()
	c.reader = nil
}

// rest waits for bytes, or the end of the connection, and has a new reader see what
// there is. It keeps nothing meanwhile, the reader that called for it included.
func (c *conn) rest() {
	c.raw.wait()
	r := &reader{conn: c, epoch: c.mark.Load() >> 1}
	c.passing.Lock()
	c.reader = r
	c.passing.Unlock()
	r.run()
}
