package arpc

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

const (
	// maxPooled is the capacity in bytes above which a buffer goes back to
	// the allocator instead of a pool.
	maxPooled = 2 << 20
	// newBuffer is the capacity in bytes that a buffer for frames begins with.
	newBuffer = 16 << 10
	// largeBody is the size in bytes from which a body is written from where
	// it lies instead of through the output buffer. See BenchmarkLargeBody.
	largeBody = 64 << 10
	// fewBytes is how many are worth a write of their own, while others may add
	// to them.
	fewBytes = 2 << 10
	// flushRounds is how often a flushing caller writes what others added
	// before it leaves the rest to a goroutine.
	flushRounds = 8
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
	// segment is from how many bytes on what waits is cut, while somebody
	// writes, so that urgent frames get in between.
	segment = 256 << 10
	// urgentAfter is behind how many bytes an urgent frame does not wait.
	urgentAfter = 64 << 10
)

// output is what waits to be written. Frames are appended to fill; whoever
// flushes swaps it with spare and writes it. Guarded by conn.mu.
type output struct {
	urgent   *buffer   // frames that overtake the others; nil when there are none
	full     []*buffer // what waits before fill
	fill     *buffer   // nil when nothing waits
	spare    *buffer
	waiting  int           // bytes in full
	frames   int           // in full and fill
	writing  int           // bytes that the flusher has in hand
	inHand   int           // frames that the flusher has in hand
	apart    bool          // these are urgent ones, which are not counted
	flushing bool          // somebody flushes, or is about to
	inLine   bool          // that is one of the flushers, whom anybody may forestall
	closed   bool          // nothing more is sent, the end is near
	batched  bool          // the last write carried more than one frame
	space    chan struct{} // closed when there is room again; nil when nobody waits
	accepted uint64        // bytes that the transport has taken, since the start
}

// queued returns the bytes that wait or are being written, but for urgent ones.
func (o *output) queued() int {
	n := o.waiting + o.writing
	if o.fill != nil {
		n += o.fill.len()
	}
	return n
}

// empty reports whether nothing waits.
func (o *output) empty() bool {
	return (o.fill == nil || o.fill.len() == 0) && len(o.full) == 0 && o.urgent == nil
}

// offered returns how many bytes may have reached the peer: those that were
// accepted, and those that a write may be about to.
func (o *output) offered() uint64 { return o.accepted + uint64(o.writing) }

func (o *output) hasRoom(n int, s *settings) bool {
	queued := o.queued()
	return queued == 0 || queued+n <= s.sendBytes && o.frames+o.inHand < s.sendMessages
}

// overtaken reports whether a frame goes before those that wait.
func (o *output) overtaken(frame *outgoing) bool {
	return frame.urgent && o.flushing && o.queued() >= urgentAfter && frame.behind < o.offered()
}

// wake lets who waits for room look again.
func (o *output) wake() {
	if o.space != nil {
		close(o.space)
		o.space = nil
	}
}

// buffer returns where to append a frame, or to lend one to.
func (o *output) buffer(lent bool) *buffer {
	if o.flushing && o.fill != nil && o.fill.len() >= segment {
		o.full = append(o.full, o.fill)
		o.waiting += o.fill.len()
		o.fill, o.spare = o.spare, nil
	}
	switch {
	case o.fill != nil:
	case lent:
		o.fill = lentPool.Get().(*buffer)
	default:
		o.fill = outputPool.Get().(*buffer)
	}
	return o.fill
}

// take hands what waits longest to the flusher.
func (o *output) take() *buffer {
	if o.urgent != nil {
		b := o.urgent
		o.urgent, o.apart = nil, true
		return b
	}
	b := o.fill
	if len(o.full) > 0 {
		b, o.full = o.full[0], o.full[1:]
		o.waiting -= b.len()
	} else {
		o.fill, o.spare = o.spare, nil
	}
	b = b.gathered()
	o.writing, o.inHand, o.apart = o.writing+len(b.b), b.frames, false
	o.frames -= b.frames
	return b
}

// send appends a frame to the output and sees to it that it is written: by
// this caller, by one that flushes already, or by the reader when it is through
// with its batch. It does not block in a write. When it returns nothing of the
// payload is referred to any more.
func (c *conn) send(ctx context.Context, o *outgoing) error {
	if n := o.body(); int64(n) > c.maxSend.Load() && !o.exempt() {
		return unsent(c.tooLarge(n))
	}
	chain := c.handler.snapshot().coders
	if chain != nil && o.whole == nil && !o.isPing() {
		return c.sendCoded(ctx, o, chain)
	}
	c.mu.Lock()
	if c.cast != nil {
		c.takeCasts()
	}
	if err := c.admit(ctx, o); err != nil {
		c.mu.Unlock()
		return err
	}
	if o.call != nil && !c.register(o) {
		c.mu.Unlock()
		return errEnded
	}
	tail := c.appendFrame(o)
	if o.meets != nil {
		c.learn(o.meets)
	}
	if c.out.flushing && (!c.out.inLine || o.shared) || tail == nil && c.readerFlushes(o) {
		c.mu.Unlock()
		return nil
	}
	shared := o.shared && !c.settings.decisions.neverShare
	c.out.flushing, c.out.inLine = true, shared
	if shared {
		c.mu.Unlock()
		c.handler.flushers.add(c)
		return nil
	}
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
	c.mu.Lock()
	if o.call != nil {
		if err := c.admit(ctx, o); err != nil {
			c.mu.Unlock()
			return err
		}
		c.register(o)
	}
	m := &Message{Buffer: o.appendTo(make([]byte, 0, o.size()), c.features), values: maps.Clone(o.values)}
	c.mu.Unlock()
	m, err := chain.encode(c, m)
	if err != nil {
		return err
	}
	coded := *o
	coded.whole, coded.coded = m.Buffer, true
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
	o.call.deadline = deadline
	if o.left != o.timeout {
		o.call.deadline = c.deadlineIn(o.left)
	}
	o.header.Seq = c.calls.add(o.call, deadline)
	c.expireAt(deadline)
	c.room.wake()
	return true
}

// tooLarge is the error of a body over maxSend.
func (c *conn) tooLarge(n int) error {
	if n > c.settings.maxBody {
		return bodyTooLarge(n, c.settings.maxBody)
	}
	return Errorf(CodeResourceExhausted, "arpc: a body of %d bytes is over the peer's limit of %d (WithMaxBodyLen)", n, c.maxSend.Load())
}

// admit returns when there is room for the frame. Guarded by conn.mu, which it
// gives up while it waits.
func (c *conn) admit(ctx context.Context, o *outgoing) error {
	blocked := c.cause != nil || c.out.closed || c.locked || o.urgent || o.old || len(o.section) > 0 || o.begins && c.leaving.Load()
	if !blocked && (o.call == nil || !c.calls.full(int(c.limits.inflight))) && c.out.hasRoom(o.size(), c.settings) {
		return nil
	}
	return c.admitSlow(ctx, o)
}

func (c *conn) admitSlow(ctx context.Context, o *outgoing) (err error) {
	called := false
	defer func() {
		if called {
			c.calls.turns.taken(err == nil)
		}
	}()
	for err == nil {
		switch {
		case c.cause != nil:
			err = c.refusal()
		case c.out.closed:
			err = unsent(ErrClosed)
		case c.locked && (!o.reply || o.header.Cmd != wire.CmdPong && o.header.Cmd != wire.CmdResponse):
			err = unsent(errLocked)
		case o.old && c.features&wire.FeatureWindows != 0:
			err = errNewer
		case o.begins && c.leaving.Load():
			err = unsent(ErrGoingAway)
		case len(o.section) > 0 && !o.reply && o.metadata() > int(c.limits.metadata) && c.features&wire.FeatureMetadata != 0:
			err = unsent(metadataTooLarge(o.metadata(), int(c.limits.metadata)))
		case o.call != nil && o.call.seq == 0 && !called && c.calls.full(int(c.limits.inflight)):
			err = c.waitToCall(ctx, o)
			called = err == nil
		case c.out.overtaken(o) && (c.out.urgent == nil || len(c.out.urgent.b) < replyReserve):
			return nil
		case c.out.overtaken(o):
			err = unsent(ErrOverstock)
		case c.out.hasRoom(o.size(), c.settings):
			return nil
		case o.reply && c.out.queued() < c.settings.sendBytes+replyReserve:
			return nil
		case o.reply, o.noWait:
			err = unsent(ErrOverstock)
		default:
			err = c.waitForRoom(ctx, o)
		}
	}
	return err
}

// errNewer is the error of a frame for a peer of version 1 that turned out to be
// of version 2. It never gets out.
var errNewer = errors.New("newer")

var errLocked = NewError(CodeFailedPrecondition, "arpc: the peer has not authenticated yet (HandleAuth)")

// refusal is the error of a send on a connection that has ended.
func (c *conn) refusal() error { return lostError(c.cause, true) }

func (c *conn) waitForRoom(ctx context.Context, o *outgoing) error {
	if c.out.space == nil {
		c.out.space = make(chan struct{})
	}
	return c.waitFor(ctx, o, c.out.space)
}

// waitToCall waits until one of our calls has ended, when the peer takes no more
// at the same time.
func (c *conn) waitToCall(ctx context.Context, o *outgoing) error {
	if c.calls.turns == nil {
		c.calls.turns = new(turns)
	}
	turn := c.calls.turns.add()
	err := c.waitFor(ctx, o, turn.came)
	if err != nil && !c.calls.turns.remove(turn) {
		c.calls.turns.taken(false) // it came, and is of no use any more
	}
	return err
}

// waitFor waits for ready, the end of ctx, or the timeout, which it shortens.
// Guarded by conn.mu, which it gives up meanwhile.
func (c *conn) waitFor(ctx context.Context, o *outgoing, ready <-chan struct{}) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	c.passBaton(c.mark.Load(), false)
	var expired <-chan time.Time
	start := time.Now()
	if o.timeout > 0 && o.timeout != TimeForever {
		timer := time.NewTimer(o.timeout)
		defer timer.Stop()
		expired = timer.C
	}
	defer func() {
		waited := time.Since(start)
		o.timeout, o.left = shortened(o.timeout, waited), shortened(o.left, waited)
	}()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return contextError(ctx, true)
	case <-expired:
		return timeoutError(true)
	}
}

// shortened returns what is left of a timeout, which is not nothing; 0 and
// TimeForever stay as they are.
func shortened(timeout, waited time.Duration) time.Duration {
	if timeout <= 0 || timeout == TimeForever {
		return timeout
	}
	return max(timeout-waited, 1)
}

// appendFrame appends a frame and returns the part of it that is to be written
// from where it lies, if any. Guarded by conn.mu.
func (c *conn) appendFrame(o *outgoing) (tail []byte) {
	if c.out.overtaken(o) {
		c.appendUrgent(o)
		return nil
	}
	if o.call != nil {
		o.call.offset = c.out.accepted + uint64(c.out.queued())
	}
	if o.lent {
		c.appendLent(o.whole, 1)
		return nil
	}
	fill := c.out.buffer(false)
	fill.frames++
	c.out.frames++
	direct := c.raw != nil && !c.out.flushing && !o.shared && !c.settings.decisions.alwaysCopy
	switch {
	case o.whole != nil && direct && len(o.whole) >= largeBody:
		return o.whole
	case o.whole != nil:
		fill.b = append(fill.b, o.whole...)
	case direct && len(o.payload.b) >= largeBody:
		tail = o.payload.b
		o.payload.b = nil
		start := len(fill.b)
		fill.b = o.appendTo(fill.b, c.features)
		h := wire.ParseHeader(fill.b[start:])
		h.BodyLen += uint32(len(tail))
		wire.PutHeader(fill.b[start:], h)
	default:
		fill.b = o.appendTo(fill.b, c.features)
	}
	return tail
}

// lend is send for a whole frame that nobody changes any more, if nothing is in its way.
// Many connections get the same one, so that memory of each is in no cache: it looks at
// as little as it can.
func (c *conn) lend(frame []byte) bool {
	snap := c.handler.snapshot()
	if int64(len(frame)-wire.HeaderLen) > c.maxSend.Load() || snap.coders != nil || snap.settings.decisions.neverShare {
		return false
	}
	c.mu.Lock()
	if c.cause != nil || c.out.closed || c.locked || c.leaving.Load() || !c.out.hasRoom(len(frame), c.settings) {
		c.mu.Unlock()
		return false
	}
	c.takeCasts()
	c.appendLent(frame, 1)
	first := !c.out.flushing
	if first {
		c.out.flushing, c.out.inLine = true, true
	}
	c.mu.Unlock()
	if first {
		c.handler.flushers.add(c)
	}
	return true
}

// appendLent appends whole frames that nobody changes any more. Guarded by conn.mu.
func (c *conn) appendLent(frames []byte, n int) {
	lent := len(frames) >= minLent
	fill := c.out.buffer(lent)
	fill.frames += n
	c.out.frames += n
	if lent {
		fill.lend(frames)
		return
	}
	fill.b = append(fill.b, frames...)
}

func (c *conn) appendUrgent(o *outgoing) {
	if c.out.urgent == nil {
		c.out.urgent = lentPool.Get().(*buffer) // seldom more than a few bytes
	}
	b := c.out.urgent
	if o.whole != nil {
		b.b = append(b.b, o.whole...)
		return
	}
	b.b = o.appendTo(b.b, c.features)
}
