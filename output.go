package arpc

import (
	"context"
	"errors"
	"maps"
	"os"
	"runtime"
	"slices"
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
	// segment is from how many bytes on what waits is cut, while somebody
	// writes, so that urgent frames get in between.
	segment = 256 << 10
	// urgentAfter is behind how many bytes an urgent frame does not wait.
	urgentAfter = 64 << 10
)

// buffer is a pooled byte slice with whole frames.
type buffer struct {
	b      []byte
	frames int
}

var outputPool = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

func putOutput(b *buffer) {
	if b != nil && cap(b.b) <= maxPooled {
		b.b, b.frames = b.b[:0], 0
		outputPool.Put(b)
	}
}

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
		n += len(o.fill.b)
	}
	return n
}

// empty reports whether nothing waits.
func (o *output) empty() bool {
	return (o.fill == nil || len(o.fill.b) == 0) && len(o.full) == 0 && o.urgent == nil
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

// buffer returns where to append a frame.
func (o *output) buffer() *buffer {
	if o.flushing && o.fill != nil && len(o.fill.b) >= segment {
		o.full = append(o.full, o.fill)
		o.waiting += len(o.fill.b)
		o.fill, o.spare = o.spare, nil
	}
	if o.fill == nil {
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
		o.waiting -= len(b.b)
	} else {
		o.fill, o.spare = o.spare, nil
	}
	o.writing, o.inHand, o.apart = o.writing+len(b.b), b.frames, false
	o.frames -= b.frames
	return b
}

// outgoing is one frame on its way into the output.
type outgoing struct {
	header  wire.Header
	method  string
	section []byte // metadata, for a peer that understands it
	payload payload
	whole   []byte      // the whole frame instead of the four above
	values  map[any]any // for coders
	coded   bool        // coders made it

	call    *call         // registered when the frame is appended; nil for none
	timeout time.Duration // for room and for the call; 0: none
	left    time.Duration // until the deadline that travels along; 0: none
	begins  bool          // something new, not for a peer that goes away
	old     bool          // only for a peer that is of version 1 still
	meets   *wire.Hello   // what the peer is known as behind this frame
	noWait  bool          // fail with ErrOverstock rather than wait for room
	shared  bool          // goes to many connections: a flusher writes it
	reply   bool          // made by the engine on the reader: never waits
	urgent  bool          // overtakes what waits, once the transport has
	behind  uint64        // so many bytes
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
	n := wire.HeaderLen + len(o.method) + o.payload.len()
	if o.left > 0 || len(o.section) > 0 {
		n += maxTimeoutField + maxSectionLen + len(o.section)
	}
	return n
}

// metadata returns the length of the section at most.
func (o *outgoing) metadata() int {
	if o.left > 0 {
		return len(o.section) + maxTimeoutField
	}
	return len(o.section)
}

// body returns what the limits on bodies count: metadata has limits of its own.
func (o *outgoing) body() int {
	switch {
	case o.coded:
		return 0 // it was looked at before
	case o.whole != nil:
		return len(o.whole) - wire.HeaderLen
	}
	return len(o.method) + o.payload.len()
}

// isPing reports whether the frame is a ping or a pong, which are never coded.
func (o *outgoing) isPing() bool { return o.header.Cmd == wire.CmdPing || o.header.Cmd == wire.CmdPong }

const (
	maxTimeoutField = 12 // bytes of the field with the time left
	maxSectionLen   = 5  // bytes of a section's length
)

// appendTo appends the frame. The peer has the given features.
func (o *outgoing) appendTo(dst []byte, features uint64) []byte {
	if features&wire.FeatureMetadata == 0 || o.left <= 0 && len(o.section) == 0 {
		return appendFrame(dst, o.header, o.method, o.payload)
	}
	var space [maxTimeoutField]byte
	timeout := space[:0]
	if o.left > 0 {
		timeout = wire.AppendTimeout(timeout, microseconds(o.left))
	}
	start := len(dst)
	dst = slices.Grow(dst, o.size())[:start+wire.HeaderLen]
	dst = append(dst, o.method...)
	dst = wire.AppendUvarintBody(dst, uint64(len(timeout)+len(o.section)))
	dst = append(dst, timeout...)
	dst = append(dst, o.section...)
	dst = o.payload.appendTo(dst)
	h := o.header
	h.Flag |= wire.FlagMeta
	h.MethodLen = byte(len(o.method))
	h.BodyLen = uint32(len(dst) - start - wire.HeaderLen)
	wire.PutHeader(dst[start:], h)
	return dst
}

// microseconds rounds up, so that the peer does not give up before us.
func microseconds(d time.Duration) uint64 {
	return (uint64(d) + uint64(time.Microsecond) - 1) / uint64(time.Microsecond)
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
	if !blocked && (o.call == nil || !c.calls.full(c.limits.inflight)) && c.out.hasRoom(o.size(), c.settings) {
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
		case len(o.section) > 0 && !o.reply && o.metadata() > c.limits.metadata && c.features&wire.FeatureMetadata != 0:
			err = unsent(metadataTooLarge(o.metadata(), c.limits.metadata))
		case o.call != nil && o.call.seq == 0 && !called && c.calls.full(c.limits.inflight):
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
	fill := c.out.buffer()
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
func (c *conn) appendUrgent(o *outgoing) {
	if c.out.urgent == nil {
		c.out.urgent = outputPool.Get().(*buffer)
	}
	b := c.out.urgent
	if o.whole != nil {
		b.b = append(b.b, o.whole...)
		return
	}
	b.b = o.appendTo(b.b, c.features)
}

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
		go c.flushWaiting(buf, append([]byte(nil), tail...))
		return
	}
	if buf == nil {
		buf = c.nextOutput()
	}
	for round := 0; buf != nil; round++ {
		if round == flushRounds {
			go c.flushWaiting(buf, nil)
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
// written next, or ends the flush.
func (c *conn) wrote(buf *buffer, n int) *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(n)
	c.keep(buf)
	return c.takeNext()
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
	b.b, b.frames = b.b[:0], 0
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
