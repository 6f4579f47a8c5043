package arpc

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"
)

// flushPending writes what handlers on the reader have left, if anything. Only
// the reader calls it, when it has no complete frame left.
func (c *conn) flushPending() {
	c.mu.Lock()
	if c.out.fill == nil || c.out.flushing && !c.out.inLine || c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.out.flushing, c.out.inLine = true, false
	buf := c.takeNext()
	c.mu.Unlock()
	if buf != nil {
		c.flush(buf, nil)
	}
}

// flush writes buf and tail, or what waits if buf is nil, and then what was
// added meanwhile. The caller has set flushing. What the socket does not take
// at once a goroutine writes, so that flush never waits for the peer.
func (c *conn) flush(buf *buffer, tail []byte) {
	if len(c.hooks.beforeSend) > 0 {
		returned := false
		defer c.flushExited(&returned)
		c.flushAll(buf, tail)
		returned = true
		return
	}
	c.flushAll(buf, tail)
}

// flushExited ends the flush of a goroutine that a hook or the user's net.Conn
// has ended, or in which one panicked.
func (c *conn) flushExited(returned *bool) {
	if *returned {
		return
	}
	err := errGoexit
	if p := recover(); p != nil {
		c.logPanic("write", p)
		err = Errorf(CodeInternal, "arpc: a write panicked: %v", p)
	}
	c.writeFailed(err)
}

func (c *conn) flushAll(buf *buffer, tail []byte) {
	if c.raw == nil {
		c.flushApart(buf, tail)
		return
	}
	if buf == nil {
		buf = c.nextOutput()
	}
	for round := 0; buf != nil; round++ {
		if round == flushRounds {
			c.flushApart(buf, nil)
			return
		}
		n, ok := c.writeNow(buf, tail)
		if !ok {
			return
		}
		buf, tail = c.wrote(buf, n), nil
	}
}

// writeNow writes buf and tail to a socket as far as it takes them, and reports
// whether that was all. If not, the flush is somebody else's, or over.
func (c *conn) writeNow(buf *buffer, tail []byte) (n int, ok bool) {
	n, err := c.tryWrite(buf.b)
	if err == nil && n == len(buf.b) && len(tail) > 0 {
		var more int
		more, err = c.tryWrite(tail)
		n += more
	}
	switch {
	case err != nil:
		c.written(n)
		c.writeFailed(err)
		return n, false
	case n < len(buf.b)+len(tail):
		c.written(n)
		c.handOver(buf, tail, n)
		return n, false
	}
	return n, true
}

// wrote notes that all n bytes in hand were written, and returns what is to be
// written next, or ends the flush. Runnable callers add their frames first, if there
// is little yet: BenchmarkYield.
func (c *conn) wrote(buf *buffer, n int) *buffer {
	c.mu.Lock()
	c.count(n)
	c.keep(buf)
	if c.out.empty() || c.out.queued() >= fewBytes || c.settings.decisions.neverYield {
		defer c.mu.Unlock()
		return c.takeNext()
	}
	c.mu.Unlock()
	runtime.Gosched()
	return c.nextOutput()
}

// handOver leaves all but the first n bytes of buf and tail to a goroutine.
// The tail belongs to the caller of send, so it is copied.
func (c *conn) handOver(buf *buffer, tail []byte, n int) {
	if n >= len(buf.b) {
		tail = tail[n-len(buf.b):]
		buf.b = buf.b[:0]
	} else {
		buf.b = buf.b[:copy(buf.b, buf.b[n:])]
	}
	c.flushApart(buf, tail)
}

// flushApart leaves buf, and a copy of tail, to a goroutine.
func (c *conn) flushApart(buf *buffer, tail []byte) {
	w := writePool.Get().(*waitingWrite)
	w.conn, w.buf, w.tail = c, buf, append([]byte(nil), tail...)
	c.workerPool().start(w)
}

// waitingWrite is a flush that may wait for the peer.
type waitingWrite struct {
	conn *conn
	buf  *buffer
	tail []byte
}

var writePool = sync.Pool{New: func() any { return new(waitingWrite) }}

func (w *waitingWrite) run() {
	c, buf, tail := w.conn, w.buf, w.tail
	*w = waitingWrite{}
	writePool.Put(w)
	c.flushWaiting(buf, tail)
}

// flushWaiting writes buf and tail and what was added meanwhile, and waits for
// the peer where it must. It runs on a goroutine of its own.
func (c *conn) flushWaiting(buf *buffer, tail []byte) {
	returned := false
	defer c.flushExited(&returned)
	c.writeOn(buf, tail)
	returned = true
}

func (c *conn) writeOn(buf *buffer, tail []byte) {
	if buf == nil {
		buf = c.nextOutput()
	}
	for buf != nil {
		err := c.writeAll(buf.b)
		if err == nil && len(tail) > 0 {
			err = c.writeAll(tail)
		}
		if err != nil {
			c.writeFailed(err)
			return
		}
		buf, tail = c.wrote(buf, 0), nil // what was written is counted
	}
}

// nextOutput takes what waits, or ends the flush when nothing does.
func (c *conn) nextOutput() *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takeNext()
}

// takeNext is nextOutput. Guarded by conn.mu.
func (c *conn) takeNext() *buffer {
	if c.out.empty() || c.cause != nil {
		c.endFlush()
		return nil
	}
	c.out.batched = c.out.frames > 1
	return c.out.take()
}

// endFlush gives the buffers back. Guarded by conn.mu.
func (c *conn) endFlush() {
	c.out.flushing, c.out.inLine = false, false
	for _, b := range c.out.full {
		putOutput(b)
	}
	putOutput(c.out.spare)
	putOutput(c.out.fill)
	putOutput(c.out.urgent)
	c.out.full, c.out.spare, c.out.fill, c.out.urgent, c.out.waiting = nil, nil, nil, nil, 0
	c.out.wake()
	if c.flushed != nil {
		close(c.flushed)
	}
}

// keep keeps a written buffer for the next frames. Guarded by conn.mu.
func (c *conn) keep(b *buffer) {
	b.reset()
	if c.out.spare == nil {
		c.out.spare = b
		return
	}
	putOutput(b)
}

// written counts bytes that the transport took and wakes who waits for room,
// when half of the queue is free again.
func (c *conn) written(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(n)
}

// count is written. Guarded by conn.mu.
func (c *conn) count(n int) {
	if c.out.apart {
		return
	}
	c.out.accepted += uint64(n)
	if c.out.writing -= n; c.out.writing == 0 {
		c.out.inHand = 0
	}
	if c.out.queued() <= c.settings.sendBytes/2 && c.out.frames+c.out.inHand <= c.settings.sendMessages/2 {
		c.out.wake()
	}
}

// writeFailed ends the connection because a write did.
func (c *conn) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = Errorf(CodeUnavailable, "arpc: the peer takes no bytes (WithWriteTimeout %v): %w", c.settings.writeTimeout, err)
	}
	c.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endFlush()
}

// tryWrite writes what the socket takes at once.
func (c *conn) tryWrite(b []byte) (int, error) {
	if err := c.runHooks(c.hooks.beforeSend); err != nil {
		return 0, err
	}
	return c.raw.tryWrite(b)
}

// writeAll writes b and waits for the peer, as long as it takes something within
// the write timeout. What is handed to the transport counts as sent.
func (c *conn) writeAll(b []byte) error {
	size := writeChunk
	if c.raw != nil {
		size = socketChunk
	}
	if c.raw != nil { // most of the time there is room, and no deadline needed
		n, err := c.tryWrite(b)
		c.written(n)
		if b = b[n:]; err != nil || len(b) == 0 {
			return err
		}
	}
	progress := time.Now()
	for len(b) > 0 {
		if err := c.runHooks(c.hooks.beforeSend); err != nil {
			return err
		}
		chunk := b[:min(len(b), size)]
		if c.raw == nil {
			c.written(len(chunk))
		}
		if err := c.writeSome(chunk, &progress); err != nil {
			return err
		}
		b = b[len(chunk):]
	}
	if c.settings.writeTimeout > 0 {
		c.nc.SetWriteDeadline(time.Time{})
	}
	return nil
}

// timeoutParts is into how many parts a wait is cut to tell a peer that is slow
// from one that takes nothing.
const timeoutParts = 8

// writeSome writes a chunk. It waits in parts of the timeout, as a write that
// timed out does not tell when it has moved the last byte; TLS cannot go on after
// one, so it waits in one piece.
func (c *conn) writeSome(b []byte, progress *time.Time) error {
	timeout := c.settings.writeTimeout
	part := timeout / timeoutParts
	_, whole := c.nc.(interface{ HandshakeContext(context.Context) error })
	if whole {
		part = timeout
	}
	for {
		start := time.Now()
		if timeout > 0 {
			c.nc.SetWriteDeadline(earlier(start.Add(part), progress.Add(timeout)))
		}
		n, err := c.nc.Write(b)
		if c.raw != nil {
			c.written(n)
		}
		if n > 0 {
			*progress = start
		}
		if err == nil {
			*progress = time.Now()
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || whole || time.Since(*progress) >= timeout {
			return err
		}
		b = b[n:]
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
