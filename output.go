package arpc

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

const (
	// maxPooled is the capacity in bytes above which a buffer goes back to
	// the allocator instead of a pool.
	maxPooled = 2 << 20
	// largeBody is the size in bytes from which a body is written from where
	// it lies instead of through the output buffer. See BenchmarkLargeBody.
	largeBody = 64 << 10
	// flushRounds is how often a flushing caller writes what others added
	// before it leaves the rest to a goroutine.
	flushRounds = 4
	// deferLimit is how many bytes the reader gathers before it writes.
	deferLimit = 256 << 10
	// replyReserve is by how many bytes the replies that the engine makes
	// itself may exceed the bound of the send queue.
	replyReserve = 1 << 20
	// writeChunk is how many bytes a waiting write hands over at once: small,
	// as it cannot be told when a write that timed out has moved the last of
	// what it did, and one TLS record, as TLS cannot go on after a timeout.
	writeChunk = 16 << 10
	// socketChunk is writeChunk for sockets.
	socketChunk = 64 << 10
)

// buffer is a pooled byte slice.
type buffer struct{ b []byte }

var outputPool = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

func putOutput(b *buffer) {
	if b != nil && cap(b.b) <= maxPooled {
		b.b = b.b[:0]
		outputPool.Put(b)
	}
}

// output is what waits to be written. Frames are appended to fill; whoever
// flushes swaps it with spare and writes it. Guarded by conn.mu.
type output struct {
	fill     *buffer // nil when nothing waits
	spare    *buffer
	frames   int           // in fill
	writing  int           // bytes that the flusher has in hand
	inHand   int           // frames that the flusher has in hand
	flushing bool          // somebody flushes, or is about to
	closed   bool          // nothing more is sent, the end is near
	batched  bool          // the last write carried more than one frame
	space    chan struct{} // closed when there is room again; nil when nobody waits
	accepted uint64        // bytes that the transport has taken, since the start
}

// queued returns the bytes that wait or are being written.
func (o *output) queued() int {
	if o.fill == nil {
		return o.writing
	}
	return o.writing + len(o.fill.b)
}

// offered returns how many bytes may have reached the peer: those that were
// accepted, and those that a write may be about to.
func (o *output) offered() uint64 { return o.accepted + uint64(o.writing) }

func (o *output) hasRoom(n int, s *settings) bool {
	queued := o.queued()
	return queued == 0 || queued+n <= s.sendBytes && o.frames+o.inHand < s.sendMessages
}

// wake lets who waits for room look again.
func (o *output) wake() {
	if o.space != nil {
		close(o.space)
		o.space = nil
	}
}

// take hands what waits to the flusher.
func (o *output) take() *buffer {
	b := o.fill
	o.fill, o.spare = o.spare, nil
	o.writing, o.inHand, o.frames = o.writing+len(b.b), o.frames, 0
	return b
}

// outgoing is one frame on its way into the output.
type outgoing struct {
	header  wire.Header
	method  string
	payload payload
	whole   []byte // the frame as coders left it, instead of the three above

	call    *call         // registered when the frame is appended; nil for none
	timeout time.Duration // for room and for the call; 0: none
	noWait  bool          // fail with ErrOverstock rather than wait for room
	reply   bool          // made by the engine on the reader: never waits
	mark    uint64        // under which the handler that sends runs, 0: none
}

// exemptText is the length in bytes up to which the text of an error response
// passes whatever WithMaxBodyLen says, so that the caller hears of it.
const exemptText = 1 << 10

func (o *outgoing) exempt() bool {
	return o.reply || o.header.Flag&wire.FlagError != 0 && o.payload.len() <= exemptText
}

func (o *outgoing) size() int {
	if o.whole != nil {
		return len(o.whole)
	}
	return wire.HeaderLen + len(o.method) + o.payload.len()
}

// send appends a frame to the output and sees to it that it is written: by
// this caller, by one that flushes already, or by the reader when it is through
// with its batch. It does not block in a write. When it returns nothing of the
// payload is referred to any more.
func (c *conn) send(ctx context.Context, o *outgoing) error {
	if n := o.size() - wire.HeaderLen; n > c.settings.maxBody && !o.exempt() {
		return unsent(bodyTooLarge(n, c.settings.maxBody))
	}
	chain := c.handler.snapshot().coders
	if chain != nil && o.whole == nil && o.method != "" { // pings are never coded
		return c.sendCoded(ctx, o, chain)
	}
	c.mu.Lock()
	if err := c.admit(ctx, o); err != nil {
		c.mu.Unlock()
		return err
	}
	if o.call != nil && !c.register(o) {
		c.mu.Unlock()
		return errEnded
	}
	tail := c.appendFrame(o)
	if c.out.flushing || tail == nil && c.readerFlushes(o) {
		c.mu.Unlock()
		return nil
	}
	c.out.flushing = true
	if tail != nil {
		buf := c.out.take()
		c.out.writing += len(tail)
		c.mu.Unlock()
		c.flush(buf, tail)
		return nil
	}
	yield := (c.calls.n > 1 || c.out.batched) && !c.settings.decisions.neverYield
	c.mu.Unlock()
	if yield {
		runtime.Gosched() // runnable callers add their frames first: BenchmarkYield
	}
	c.flush(nil, nil)
	return nil
}

// readerFlushes reports whether the frame comes from a handler on the reader,
// which writes all of a batch at once. A reader that has lost the baton since
// does not, but its successor does: it flushes after the mark has changed, under
// the same lock. Guarded by conn.mu.
func (c *conn) readerFlushes(o *outgoing) bool {
	return o.mark != 0 && c.out.queued() < deferLimit && c.mark.Load() == o.mark
}

// sendCoded is send through a chain of coders. The call is registered before,
// as coders see the whole frame with its number.
func (c *conn) sendCoded(ctx context.Context, o *outgoing, chain *coderChain) error {
	h := o.header
	if o.call != nil {
		c.mu.Lock()
		if c.cause != nil {
			defer c.mu.Unlock()
			return c.refusal()
		}
		c.register(o)
		h = o.header
		c.mu.Unlock()
	}
	m := &Message{Buffer: appendFrame(make([]byte, 0, o.size()), h, o.method, o.payload)}
	m, err := chain.encode(c.client, m)
	if err != nil {
		return err
	}
	coded := *o
	coded.whole = m.Buffer
	return c.send(ctx, &coded)
}

// errEnded is the error of sending a call that has ended before its frame was
// appended, with an error of its own. It never gets out.
var errEnded = errors.New("ended")

// register gives a call its number and deadline. It reports false for one that
// sendCoded has registered and that has ended since. Guarded by conn.mu.
func (c *conn) register(o *outgoing) bool {
	if o.call.seq != 0 {
		return c.calls.find(o.call.seq) != nil
	}
	deadline := c.deadlineIn(o.timeout)
	o.header.Seq = c.calls.add(o.call, deadline)
	c.expireAt(deadline)
	c.room.wake()
	return true
}

// admit returns when there is room for the frame. Guarded by conn.mu, which it
// gives up while it waits.
func (c *conn) admit(ctx context.Context, o *outgoing) error {
	for {
		switch {
		case c.cause != nil:
			return c.refusal()
		case c.out.closed:
			return unsent(ErrClosed)
		case c.out.hasRoom(o.size(), c.settings):
			return nil
		case o.reply && c.out.queued() < c.settings.sendBytes+replyReserve:
			return nil
		case o.reply:
			return unsent(ErrOverstock)
		case o.noWait:
			return unsent(ErrOverstock)
		}
		if err := c.waitForRoom(ctx, o); err != nil {
			return err
		}
	}
}

// refusal is the error of a send on a connection that has ended.
func (c *conn) refusal() error { return lostError(c.cause, true) }

func (c *conn) waitForRoom(ctx context.Context, o *outgoing) error {
	if c.out.space == nil {
		c.out.space = make(chan struct{})
	}
	space := c.out.space
	c.mu.Unlock()
	defer c.mu.Lock()
	c.passBaton(c.mark.Load(), false)
	var expired <-chan time.Time
	if o.timeout > 0 && o.timeout != TimeForever {
		start := time.Now()
		timer := time.NewTimer(o.timeout)
		defer func() { timer.Stop(); o.timeout = max(o.timeout-time.Since(start), 1) }()
		expired = timer.C
	}
	select {
	case <-space:
		return nil
	case <-ctx.Done():
		return contextError(ctx, true)
	case <-expired:
		return timeoutError(true)
	}
}

// appendFrame appends a frame and returns the part of it that is to be written
// from where it lies, if any. Guarded by conn.mu.
func (c *conn) appendFrame(o *outgoing) (tail []byte) {
	if c.out.fill == nil {
		c.out.fill = outputPool.Get().(*buffer)
	}
	fill := c.out.fill
	if o.call != nil {
		o.call.offset = c.out.accepted + uint64(c.out.queued())
	}
	c.out.frames++
	direct := c.raw != nil && !c.out.flushing && !c.settings.decisions.alwaysCopy
	switch {
	case o.whole != nil && direct && len(o.whole) >= largeBody:
		return o.whole
	case o.whole != nil:
		fill.b = append(fill.b, o.whole...)
	case direct && len(o.payload.b) >= largeBody:
		tail = o.payload.b
		o.header.MethodLen, o.header.BodyLen = byte(len(o.method)), uint32(len(o.method)+len(tail))
		fill.b = append(wire.AppendHeader(fill.b, o.header), o.method...)
	default:
		fill.b = appendFrame(fill.b, o.header, o.method, o.payload)
	}
	return tail
}

// flushPending writes what handlers on the reader have left, if anything. Only
// the reader calls it, when it has no complete frame left.
func (c *conn) flushPending() {
	c.mu.Lock()
	if c.out.fill == nil || c.out.flushing || c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.out.flushing = true
	c.mu.Unlock()
	c.flush(nil, nil)
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
		go c.flushWaiting(buf, append([]byte(nil), tail...))
		return
	}
	for round := 0; ; round++ {
		if buf == nil {
			if buf = c.nextOutput(); buf == nil {
				return
			}
		}
		if round == flushRounds {
			go c.flushWaiting(buf, nil)
			return
		}
		n, err := c.tryWrite(buf.b)
		if err == nil && n == len(buf.b) && len(tail) > 0 {
			var more int
			more, err = c.tryWrite(tail)
			n += more
		}
		total := len(buf.b) + len(tail)
		c.written(n)
		if err != nil {
			c.writeFailed(err)
			return
		}
		if n < total {
			c.handOver(buf, tail, n)
			return
		}
		c.recycle(buf)
		buf, tail = nil, nil
	}
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
	go c.flushWaiting(buf, append([]byte(nil), tail...))
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
	for {
		if buf == nil {
			if buf = c.nextOutput(); buf == nil {
				return
			}
		}
		err := c.writeAll(buf.b)
		if err == nil && len(tail) > 0 {
			err = c.writeAll(tail)
		}
		if err != nil {
			c.writeFailed(err)
			return
		}
		c.recycle(buf)
		buf, tail = nil, nil
	}
}

// nextOutput takes what waits, or ends the flush when nothing does.
func (c *conn) nextOutput() *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.fill == nil || len(c.out.fill.b) == 0 || c.cause != nil {
		c.endFlush()
		return nil
	}
	c.out.batched = c.out.frames > 1
	return c.out.take()
}

// endFlush gives the buffers back. Guarded by conn.mu.
func (c *conn) endFlush() {
	c.out.flushing = false
	putOutput(c.out.spare)
	putOutput(c.out.fill)
	c.out.spare, c.out.fill = nil, nil
	c.out.wake()
	if c.flushed != nil {
		close(c.flushed)
	}
}

// recycle keeps a written buffer for the next frames.
func (c *conn) recycle(b *buffer) {
	b.b = b.b[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
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
