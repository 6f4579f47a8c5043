package arpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

const (
	// readBuffer is the size in bytes of the buffer that frames are parsed in.
	readBuffer = 64 << 10
	// idleBuffer is what a connection that is no socket waits with.
	idleBuffer = 1 << 10
	// stashLimit is how much of a frame is kept apart while its rest is
	// waited for, so that the read buffer can go back to the pool.
	stashLimit = 4 << 10
	// slabSize is how many Contexts are allocated at a time.
	slabSize = 64
	// renewAfter is how many bytes of a frame start the read timeout anew.
	renewAfter = 64 << 10
)

// scratch is what a reader needs while it has work, and an idle one has not.
type scratch struct {
	buf   []byte
	req   request
	slab  []Context            // never reused: a Context outlives its handler
	again *Context             // for handlers that keep none: internal/transient
	meta  wire.Meta            // of the frame in hand, if it carries any
	calls [answersAtOnce]*call // whose answers are in hand
}

var scratchPool = sync.Pool{New: func() any { return &scratch{buf: make([]byte, readBuffer)} }}

// context returns a Context that nobody has seen.
func (s *scratch) context() *Context {
	if len(s.slab) == 0 {
		s.slab = make([]Context, slabSize)
	}
	ctx := &s.slab[0]
	s.slab = s.slab[1:]
	return ctx
}

// contextFor returns a new Context for a handler, or one that it had before if it keeps
// none.
func (s *scratch) contextFor(rt *route) *Context {
	if !rt.transient || len(rt.chain) > 1 {
		return s.context()
	}
	ctx := s.again
	if ctx == nil {
		ctx = s.context()
		s.again = ctx
	}
	ctx.mark = 0
	ctx.sooner.Store(0)
	ctx.extra.Store(nil)
	return ctx
}

// reader reads a connection while it holds the baton. Frames are parsed and
// handled in place.
type reader struct {
	conn  *conn
	first bool   // it opens the connection
	epoch uint64 // of the mark

	s    *scratch // nil while idle
	r, w int      // s.buf[r:w] is received and not dispatched
	need int      // length of the frame under way, once it is known
	skip int64    // bytes of a refused frame still to be thrown away
	gone int64    // bytes of it that were
	lead []byte   // its first bytes

	src   io.Reader // of connections that are no sockets: theirs, or what SetReaderWrapper made of it
	stash []byte    // the start of a frame while s is nil
	idle  []byte    // to wait with on connections that are no sockets
	hot   bool      // the last read of such a connection filled what it was given

	frame int        // number of the frame under way
	armed armedFrame // what the read deadline was set for

	readAt     int64     // when the bytes in hand came; 0: not looked up yet
	clock      int64     // when the clock was looked at last
	unclocked  int       // how many deadlines were compared with that
	sectionLen int       // bytes of metadata in the frame in hand
	last       *route    // of the last message that had one of its own
	lastSnap   *snapshot // that it is from

	values map[any]any // that coders attached to the frame in hand

	lost    bool    // the baton went to another reader in a hook
	running running // what the handler on the reader is; set before the mark
}

// armedFrame says which frame, by number and by the bytes of it that had come,
// the read deadline was set for.
type armedFrame struct {
	set      bool
	frame    int
	received int64
}

// running describes the handler that runs on the reader, for whoever takes the
// baton from it.
type running struct {
	ordered bool
	claimed bool // it has the ordered queue; set by whoever takes the baton
	held    int  // bytes of its message
	pace    *pace
	ctx     *Context // of a handler
}

// run reads until the connection ends, rests, or the baton goes to another reader.
func (r *reader) run() {
	if c := r.conn; r.runOn() {
		go c.rest()
	}
}

// runOn is run. It reports whether the connection rests.
func (r *reader) runOn() (rests bool) {
	returned := false
	defer func() {
		if !returned {
			r.replace(recover())
		}
		r.giveBack()
	}()
	rests = r.readOn()
	returned = true
	return rests
}

func (r *reader) readOn() (rests bool) {
	c := r.conn
	if r.first && !r.open() {
		return false
	}
	for {
		if !r.dispatchAll() {
			return false
		}
		c.flushPending()
		switch err := r.fill(); {
		case err == errRests:
			r.letGo()
			return true
		case err != nil:
			c.fail(r.explain(err))
			c.over()
			return false
		}
	}
}

// replace starts a reader that ends the connection after the user's code has
// ended this goroutine, with runtime.Goexit or a panic in a net.Conn of its own,
// unless the baton went to another one, or the connection is over.
func (r *reader) replace(panicked any) {
	c := r.conn
	cause := errGoexit
	if panicked != nil {
		c.logPanic("read", panicked)
		cause = Errorf(CodeInternal, "arpc: a read panicked: %v", panicked)
	}
	c.passing.Lock()
	defer c.passing.Unlock()
	if c.readerDone.given() || c.reader != r {
		return
	}
	c.reader = &reader{conn: c, epoch: r.epoch + 1}
	go func() {
		c.fail(cause)
		c.reader.run()
	}()
}

// dispatchAll handles the complete frames in the buffer. It reports false when
// the baton went to another reader.
func (r *reader) dispatchAll() bool {
	for r.s != nil && !r.lost && !r.conn.stopping.Load() {
		if r.skip > 0 && !r.skipped() {
			return true
		}
		received := r.s.buf[r.r:r.w]
		if len(received) < wire.HeaderLen {
			r.need = 0
			return true
		}
		h := wire.ParseHeader(received)
		if r.conn.phase == phaseHello && r.isForeign(h) {
			r.conn.fail(notArpc(received))
			r.r = r.w
			return true
		}
		if (r.conn.phase != phaseOpen || int64(h.BodyLen) > int64(r.conn.settings.maxBody)) && int64(h.BodyLen) > r.limit(h) {
			if !r.tooLarge(h, received) {
				return true
			}
			continue
		}
		n := h.FrameLen()
		if len(received) < n {
			r.need = n
			return true
		}
		if !r.dispatch(h, r.next(n)) {
			return false
		}
	}
	return !r.lost
}

// next takes the frame of n bytes at the start of the buffer, before it is handled:
// whoever takes the baton goes on behind it.
func (r *reader) next(n int) []byte {
	frame := r.s.buf[r.r : r.r+n : r.r+n]
	r.r += n
	r.need = 0
	r.frame++
	return frame
}

// isForeign reports whether a header cannot be that of what comes before the answer
// to a hello, so that its rest is not waited for.
func (r *reader) isForeign(h wire.Header) bool {
	coded := r.conn.handler.snapshot().coders != nil
	return int64(h.BodyLen) > r.limit(h) || !coded && !r.conn.knows(h, coded)
}

// limit is the longest body of a frame that is looked at: that of a hello at first,
// and where metadata may travel with room for it.
func (r *reader) limit(h wire.Header) int64 {
	c := r.conn
	limit := int64(c.settings.maxBody)
	switch {
	case c.phase != phaseOpen && isPing(h):
		return wire.HelloMax
	case c.phase == phaseFirst && c.demandsHello():
		return min(limit, wire.HelloMax)
	case c.features&wire.FeatureMetadata != 0:
		return limit + int64(c.settings.maxMetadata) + maxSectionLen
	}
	return limit
}

// tooLarge refuses a frame over the limit as soon as its method is in, and has
// the rest of it skipped. It reports false while more of it is needed.
func (r *reader) tooLarge(h wire.Header, received []byte) bool {
	c := r.conn
	method := min(int64(h.MethodLen), int64(h.BodyLen))
	end := wire.HeaderLen + int(method)
	switch {
	case !c.knows(h, c.handler.snapshot().coders != nil):
		c.fail(notArpc(received))
		r.r = r.w
		return false
	case len(received) < end:
		r.need = end
		return false
	}
	err := receivedTooLarge(h.BodyLen, min(int(r.limit(h)), c.settings.maxBody))
	c.settings.logger.Warn("arpc: frame refused", "peer", c.peer(), "cause", err)
	refused := received[:end:end]
	r.r, r.need = r.r+end, 0
	r.lead = bytes.Clone(head(received))
	r.skip, r.gone = int64(h.BodyLen)-method, int64(end)
	switch {
	case c.phase == phaseFirst && isPing(h):
		c.refuseHello(Errorf(CodeInvalidArgument, "arpc: malformed hello: %d bytes, at most %d are allowed", h.BodyLen, wire.HelloMax))
	case c.phase == phaseFirst && c.demandsHello():
		r.refuseOld(h, refused)
	case c.phase != phaseRefused:
		r.malformed(h, refused, err)
	}
	return true
}

func receivedTooLarge(n uint32, limit int) error {
	return Errorf(CodeResourceExhausted, "arpc: a body of %d bytes is over the receiver's limit of %d (WithMaxBodyLen)", n, limit)
}

// skipped throws away what is left of a refused frame. It reports false while
// more of it is to come.
func (r *reader) skipped() bool {
	n := min(r.skip, int64(r.w-r.r))
	r.r += int(n)
	r.skip -= n
	r.gone += n
	if r.skip > 0 {
		return false
	}
	r.gone, r.lead = 0, nil
	r.frame++
	return true
}

// fill waits for bytes and appends them to the buffer.
func (r *reader) fill() error {
	c := r.conn
	if c.err() != nil {
		return c.err()
	}
	for {
		if err := c.runHooks(c.hooks.beforeRecv); err != nil {
			return err
		}
		r.checkDeadline()
		c.reading.Store(readerHolds)
		n, err := r.read()
		if n > 0 {
			c.reading.Store(readerWorks)
			r.w += n
			r.readAt, r.unclocked = 0, clockEvery
			c.received.Add(uint64(n))
			return nil
		}
		if err != nil {
			return err
		}
		r.setDeadline()
	}
}

func (r *reader) read() (int, error) {
	c := r.conn
	if c.raw != nil {
		return c.raw.read(r)
	}
	if r.hot || r.unparsed() > stashLimit {
		n, err := r.src.Read(r.space())
		r.hot = n >= idleBuffer
		return n, eofLast(n, err)
	}
	r.stashRest()
	if r.idle == nil {
		r.idle = make([]byte, idleBuffer)
	}
	n, err := r.src.Read(r.idle)
	if n > 0 {
		copy(r.space(), r.idle[:n])
	}
	r.hot = n == len(r.idle) // there is more, and a place for it is worth holding
	return n, eofLast(n, err)
}

// stashRest keeps the start of a frame apart and gives the buffer back.
func (r *reader) stashRest() {
	if r.s != nil {
		r.stash = append(r.stash[:0], r.s.buf[r.r:r.w]...)
		r.giveBack()
	}
}

// eofLast keeps an error for the next read when there are bytes before it.
func eofLast(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// unparsed returns how many received bytes are not dispatched.
func (r *reader) unparsed() int {
	if r.s == nil {
		return len(r.stash)
	}
	return r.w - r.r
}

// space returns where to read to. The buffer of a large frame grows as its
// bytes arrive, whatever length it announced.
func (r *reader) space() []byte {
	if r.s == nil {
		r.s = scratchPool.Get().(*scratch)
		r.r, r.w = 0, copy(r.s.buf, r.stash)
		r.stash = r.stash[:0]
	}
	if r.r > 0 {
		r.w = copy(r.s.buf, r.s.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.s.buf) {
		grown := make([]byte, max(min(r.need, 2*len(r.s.buf)), len(r.s.buf)+readBuffer))
		copy(grown, r.s.buf)
		r.s.buf = grown
	}
	return r.s.buf[r.w:]
}

// mayWait prepares for a wait on a socket. It reports false when a deadline has
// to be set before.
func (r *reader) mayWait() bool {
	if r.needsDeadline() {
		r.conn.reading.Store(readerHolds)
		return false
	}
	if r.unparsed() <= stashLimit {
		r.stashRest()
	}
	r.waits()
	return true
}

// underWay returns how much of an incomplete frame has come.
func (r *reader) underWay() int64 { return int64(r.unparsed()) + r.gone }

// needsDeadline reports whether the frame under way, if any, has no deadline or
// has come so much further that it gets a new one.
func (r *reader) needsDeadline() bool {
	n := r.underWay()
	if n == 0 || r.conn.settings.readTimeout == 0 {
		return false
	}
	return !r.armed.set || r.armed.frame != r.frame || n >= r.armed.received+renewAfter
}

// checkDeadline removes the deadline of a frame that is complete. On a socket,
// which is tried before it is waited for, a frame that is all there never gets
// one.
func (r *reader) checkDeadline() {
	if r.conn.raw == nil && r.needsDeadline() {
		r.setDeadline()
		return
	}
	if r.armed.set && (r.underWay() == 0 || r.needsDeadline()) {
		r.conn.nc.SetReadDeadline(time.Time{})
		r.armed.set = false
	}
}

// setDeadline limits how long the rest of the frame under way may take.
func (r *reader) setDeadline() {
	if !r.needsDeadline() {
		return
	}
	r.conn.nc.SetReadDeadline(time.Now().Add(r.conn.settings.readTimeout))
	r.armed = armedFrame{set: true, frame: r.frame, received: r.underWay()}
}

// giveBack returns the buffer to the pool. What is unparsed is lost, or in the
// stash.
func (r *reader) giveBack() {
	s := r.s
	if s == nil {
		return
	}
	r.s, r.r, r.w = nil, 0, 0
	s.req.callback = nil
	if len(s.buf) <= maxPooled {
		scratchPool.Put(s)
	}
}

// explain turns a read error into a cause that says what was going on.
func (r *reader) explain(err error) error {
	switch {
	case r.underWay() > 0 && !r.conn.useful && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF)):
		return Errorf(CodeUnavailable, "arpc: the peer does not speak arpc: its bytes begin with %q and are no whole frame: %w", head(r.rest()), notEOF(err))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Errorf(CodeUnavailable, "arpc: a frame of which %d bytes have come is not complete (WithReadTimeout %v): %w", r.underWay(), r.conn.settings.readTimeout, err)
	case errors.Is(err, io.EOF) && r.underWay() > 0:
		return fmt.Errorf("arpc: the peer closed in the middle of a frame that begins with %q: %w", head(r.rest()), io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF) && r.conn.phase == phaseHello:
		return fmt.Errorf("%w instead of answering the hello: it may not speak arpc, or expect TLS", ErrPeerClosed)
	case errors.Is(err, io.EOF):
		return ErrPeerClosed
	case errors.Is(err, net.ErrClosed) && r.conn.err() != nil:
		return r.conn.err()
	}
	return err
}

// notEOF keeps io.EOF for streams that have ended as they should.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rest returns the frame under way, or the start of it.
func (r *reader) rest() []byte {
	if r.lead != nil {
		return r.lead
	}
	if r.s == nil {
		return r.stash
	}
	return r.s.buf[r.r:r.w]
}

// notArpc is the cause when bytes make no sense as a frame.
func notArpc(b []byte) error {
	return Errorf(CodeUnavailable, "arpc: the peer does not speak arpc: its bytes begin with %q", head(b))
}

// head returns the first bytes of b, for an error message.
func head(b []byte) []byte { return b[:min(len(b), 24)] }
