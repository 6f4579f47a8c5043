package arpc

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// dispatch handles one frame, whose bytes are the reader's. It reports false
// when the baton went to another reader.
func (r *reader) dispatch(h wire.Header, frame []byte) bool {
	c := r.conn
	if c.phase != phaseOpen {
		if handled, kept := r.greeting(h, frame); handled {
			return kept
		}
	}
	snap := c.handler.snapshot()
	r.values = nil
	if snap.coders == nil || isPing(h) {
		return r.dispatchPlain(snap, h, frame)
	}
	m, err := snap.coders.decode(c.client, &Message{Buffer: append([]byte(nil), frame...)})
	if err != nil {
		if m != nil {
			h, frame = m.header(), m.Buffer
		}
		r.undecodable(h, frame, err)
		return true
	}
	h = m.header()
	if int64(h.BodyLen) > r.limit(h) {
		r.malformed(h, m.Buffer, receivedTooLarge(h.BodyLen, c.settings.maxBody))
		return true
	}
	if r.values = m.values; r.values == nil {
		r.values = make(map[any]any) // what a handler sets goes with its response
	}
	return r.dispatchPlain(snap, h, m.Buffer)
}

// isPing reports whether a frame is a ping or a pong, which never pass coders,
// and not one of which a coder has rewritten the header.
func isPing(h wire.Header) bool {
	return (h.Cmd == wire.CmdPing || h.Cmd == wire.CmdPong) && h.Reserved == 0 && h.Flag == 0 && h.MethodLen == 0 && h.Seq == 0
}

// undecodable deals with a frame that a coder refuses. Its sender is told when
// the header can be read, as with coders that leave it alone; otherwise the
// connection ends, which tells all of its callers.
func (r *reader) undecodable(h wire.Header, frame []byte, err error) {
	c := r.conn
	err = Errorf(CodeDataLoss, "arpc: a message cannot be decoded: %w", err)
	c.settings.logger.Warn("arpc: frame refused", "peer", c.peer(), "cause", err)
	if !c.knows(h, true) || h.Check() != nil {
		c.fail(err)
		return
	}
	r.malformed(h, frame, err)
}

// knows reports whether a command makes sense on the connection. Those behind what
// we know may to a later version, unless a coder has left them.
func (c *conn) knows(h wire.Header, coded bool) bool {
	cmd := h.Command()
	switch {
	case cmd < wire.CmdRequest, cmd > wire.CmdStream && c.features == 0:
		return false
	case cmd > wire.CmdGoAway:
		return h.Reserved == 0 && !coded
	}
	return true
}

func (r *reader) dispatchPlain(snap *snapshot, h wire.Header, frame []byte) bool {
	c := r.conn
	cmd := h.Command()
	if !c.knows(h, snap.coders != nil) {
		c.fail(notArpc(frame))
		r.r = r.w
		return true
	}
	c.useful = true
	if err := h.Check(); err != nil {
		r.malformed(h, frame, malformedFrame(err))
		return true
	}
	if h.Reserved != 0 {
		r.undecodable(h, frame, errNoCoder(h.Reserved))
		return true
	}
	if err := r.readMeta(&h, frame); err != nil {
		r.malformed(h, frame, err)
		return true
	}
	if n := int64(h.BodyLen) - int64(r.sectionLen); n > int64(c.settings.maxBody) && c.phase == phaseOpen {
		r.malformed(h, frame, receivedTooLarge(uint32(n), c.settings.maxBody))
		return true
	}
	switch cmd {
	case wire.CmdRequest, wire.CmdNotify:
		return r.handle(snap, h, frame)
	case wire.CmdResponse:
		return r.answered(h, frame)
	case wire.CmdStream:
		c.streamTable().received(r, snap, h, frame)
	case wire.CmdPing:
		c.pong()
	case wire.CmdPong:
		c.ponged()
	default:
		r.control(h, frame)
	}
	return true
}

func malformedFrame(err error) error {
	return Errorf(CodeInvalidArgument, "arpc: malformed frame: %w", err)
}

func errNoCoder(reserved byte) error {
	return fmt.Errorf("no coder of this side reads what the bits %#02x of the reserved byte mark", reserved)
}

// pong answers a ping.
func (c *conn) pong() {
	c.sendReply(&outgoing{header: wire.Header{Cmd: wire.CmdPong}, reply: true, urgent: true})
}

// control handles the commands of version 2 that carry no message.
func (r *reader) control(h wire.Header, frame []byte) {
	c := r.conn
	data := frame[wire.HeaderLen+int(h.MethodLen)+r.sectionLen:]
	known := true
	switch {
	case h.Command() == wire.CmdCancel && c.features&wire.FeatureCancel != 0:
		known = r.cancel(h, data)
	case h.Command() == wire.CmdWindow && c.features&wire.FeatureWindows != 0:
		known = c.streams.Load().granted(h, data)
	case h.Command() == wire.CmdGoAway && c.features&wire.FeatureGoAway != 0:
		r.goAway(h, data)
	default:
		known = false
	}
	if !known {
		r.drop(frame, "command without effect")
	}
}

// cancel ends a request of the peer, or a stream. It reports false if there is no
// such thing any more, which is nothing unusual.
func (r *reader) cancel(h wire.Header, text []byte) bool {
	c := r.conn
	cause := remoteErrorOf(r.metaOf(h), text)
	if r.sectionLen == 0 {
		cause.code = CodeCanceled
	}
	if h.Cmd&wire.StreamEnd != 0 {
		if r.sectionLen > 0 && r.s.meta.HasCode && r.s.meta.Code == uint32(CodeOK) {
			return c.streams.Load().cancelled(h, nil)
		}
		return c.streams.Load().cancelled(h, cause)
	}
	if cause.msg == "" {
		cause.msg = "arpc: the caller gave up"
	}
	cause.cause = context.Canceled
	return c.cancelled(h.Seq, cause)
}

// readMeta reads the metadata section of a frame, if it has one, for metaOf.
func (r *reader) readMeta(h *wire.Header, frame []byte) error {
	r.sectionLen = 0
	switch {
	case h.Flag&wire.FlagMeta == 0:
		return nil
	case r.conn.features&wire.FeatureMetadata != 0:
		return r.parseMeta(*h, frame)
	}
	h.Flag &^= wire.FlagMeta // means nothing in version 1
	frame[6] = h.Flag
	return nil
}

func (r *reader) parseMeta(h wire.Header, frame []byte) error {
	if n := r.s.meta.ParseTimeout(frame, h); n > 0 && n <= r.conn.settings.maxMetadata {
		r.sectionLen = n
		return nil
	}
	_, section, payload, err := wire.SplitMeta(frame, h)
	if err == nil {
		err = r.s.meta.Parse(section)
	}
	if err != nil {
		return malformedFrame(err)
	}
	if limit := r.conn.settings.maxMetadata; len(section) > limit {
		return Errorf(CodeResourceExhausted, "arpc: metadata of %d bytes is over the receiver's limit of %d (WithMaxMetadata)", len(section), limit)
	}
	r.sectionLen = int(h.BodyLen) - int(h.MethodLen) - len(payload)
	return nil
}

// metaOf returns what the frame in hand carries beside its payload, nil for
// nothing. It is valid until the next frame.
func (r *reader) metaOf(h wire.Header) *wire.Meta {
	if h.Flag&wire.FlagMeta == 0 {
		return nil
	}
	return &r.s.meta
}

// maxTimeout is a time left, in microseconds, that is as good as none.
const maxTimeout = uint64(1) << 50

// deadlineOf returns when the peer stops waiting for what a frame asks, 0 if it
// does not say.
func (r *reader) deadlineOf(h wire.Header) int64 {
	if h.Flag&wire.FlagMeta == 0 || !r.s.meta.HasTimeout || r.s.meta.Timeout > maxTimeout {
		return 0
	}
	return r.arrived() + int64(r.s.meta.Timeout)*int64(time.Microsecond)
}

// arrived returns when the bytes in hand came, on the connection's clock.
func (r *reader) arrived() int64 {
	if r.readAt == 0 {
		r.readAt = r.conn.now()
		r.clock, r.unclocked = r.readAt, 0
	}
	return r.readAt
}

// malformed tells the peer, or our own caller, that a frame makes no sense. The
// frame may be only the start of one.
func (r *reader) malformed(h wire.Header, frame []byte, err error) {
	c := r.conn
	method := "?"
	if h.Check() == nil {
		name, _ := wire.Split(frame, h)
		method = string(name)
	}
	switch h.Command() {
	case wire.CmdRequest:
		c.refuse(h, method, err)
	case wire.CmdResponse:
		c.mu.Lock()
		k := c.calls.take(h.Seq)
		c.mu.Unlock()
		if k != nil {
			k.finish(c, err)
			return
		}
	case wire.CmdStream:
		c.streamTable().reset(c, h, method, err)
	case wire.CmdCancel:
		if h.Cmd&wire.StreamEnd != 0 {
			c.streams.Load().cancelled(h, err) // that much is clear
		}
	}
	r.drop(frame, err.Error())
}

// handle runs the handler of a request or notification: on this goroutine, or
// on another if its route was slow lately or it must wait for its turn.
func (r *reader) handle(snap *snapshot, h wire.Header, frame []byte) bool {
	c := r.conn
	method, _ := wire.Split(frame, h)
	rt := r.route(snap, method)
	if rt == nil {
		if snap.notFound == nil {
			r.noRoute(h, string(method), frame)
			return true
		}
		named := *snap.notFound
		named.method = string(method)
		rt = &named
	}
	deadline := r.deadlineOf(h)
	if c.full(len(frame), h.Command() == wire.CmdRequest) && !r.waitForTurn(h, rt.method, frame) {
		return true
	}
	if deadline != 0 && r.passed(deadline) {
		r.late(rt, h, frame)
		return true
	}
	ordered := rt.orderedRequest
	if h.Command() == wire.CmdNotify {
		ordered = rt.orderedNotify
	}
	if c.gate != nil && r.hookRuns() || rt.slow.slow() || ordered && r.orderedBusy() || c.settings.decisions.neverInline {
		c.hold(len(frame))
		if r.refusedInDrain(rt, h, c.acked.Load()) {
			c.release(len(frame))
			return true
		}
		j := r.newJob(rt, h, frame, deadline)
		j.carry(r.values)
		j.gate = c.gate
		r.spawn(j, ordered)
		return true
	}
	return r.handleHere(rt, h, frame, deadline, ordered)
}

// route returns the route of a method, nil if there is none. Messages for the same
// one tend to come in a row.
func (r *reader) route(snap *snapshot, method []byte) *route {
	if r.lastSnap == snap && string(method) == r.last.method {
		return r.last
	}
	rt := snap.routes[string(method)]
	if rt != nil {
		r.last, r.lastSnap = rt, snap
	}
	return rt
}

const (
	// clockEvery is for how many deadlines the clock is looked at once.
	clockEvery = 8
	// clockSlack is how close a deadline must be to be compared with the clock
	// itself. It is more than the handlers of clockEvery messages take, as slow ones
	// lose the baton.
	clockSlack = 50 * time.Millisecond
)

// passed reports whether a deadline is over.
func (r *reader) passed(deadline int64) bool {
	if r.unclocked++; r.unclocked < clockEvery && deadline-r.clock > int64(clockSlack) {
		return false
	}
	r.clock, r.unclocked = r.conn.now(), 0
	return r.clock >= deadline
}

// late does not run what came after its deadline.
func (r *reader) late(rt *route, h wire.Header, frame []byte) {
	if h.Command() == wire.CmdRequest {
		r.conn.refuse(h, rt.method, errExpired)
		return
	}
	r.drop(frame, errExpired.msg)
}

// refusedInDrain refuses a request of a connection that drains. The message is
// counted or marked already, see quiet.
func (r *reader) refusedInDrain(rt *route, h wire.Header, acked bool) bool {
	c := r.conn
	if h.Command() != wire.CmdRequest || !c.draining.Load() || !acked {
		return false
	}
	c.refuse(h, rt.method, errDraining)
	return true
}

var errDraining = NewError(CodeUnavailable, "arpc: the peer is shutting down")

func (r *reader) noRoute(h wire.Header, method string, frame []byte) {
	if h.Command() == wire.CmdRequest {
		r.conn.refuse(h, method, ErrMethodNotFound)
		return
	}
	r.drop(frame, "no route for the notification "+method)
}

// hookRuns reports whether the connected hook still runs, on another goroutine.
func (r *reader) hookRuns() bool {
	select {
	case <-r.conn.gate:
		r.conn.gate = nil
		return false
	default:
		return true
	}
}

func (r *reader) orderedBusy() bool {
	c := r.conn
	if c.orderedHint {
		c.orderedHint = c.orderedQueue().isBusy()
	}
	return c.orderedHint
}

// aliveInterval is how often a reader that waits, and does not see pings, tells
// the peer unasked that it is alive.
const aliveInterval = time.Second

// waitForTurn waits at the limits of WithMaxInflight until there is room for a
// message; the peer's sends wait with it. While something of ours waits for
// bytes of this connection, or its hello does, the message is refused instead, and
// it reports false.
func (r *reader) waitForTurn(h wire.Header, method string, frame []byte) bool {
	c := r.conn
	c.flushPending()
	if c.room.ch == nil {
		c.room.ch = make(chan struct{}, 1)
	}
	c.room.waiting.Store(true)
	defer c.room.waiting.Store(false)
	alive := time.NewTicker(aliveInterval)
	defer alive.Stop()
	for c.full(len(frame), h.Command() == wire.CmdRequest) {
		if c.busy() || c.phase == phaseHello { // what we wait for is behind it
			r.refuseOverLimit(h, method, frame)
			return false
		}
		select {
		case <-c.room.ch:
		case <-alive.C:
			c.reply(wire.Header{Cmd: wire.CmdPong}, "")
		case <-c.done.wait():
			return false
		}
	}
	r.unclocked = clockEvery
	return true
}

func (r *reader) refuseOverLimit(h wire.Header, method string, frame []byte) {
	c := r.conn
	err := Errorf(CodeResourceExhausted, "arpc: too many requests in flight on the connection, the limit is %d or %d bytes (WithMaxInflight, WithMaxInflightBytes)", c.settings.maxInflight, c.settings.maxInflightBytes)
	if h.Command() == wire.CmdRequest {
		c.client.count().refused.Add(1)
		c.refuse(h, method, err)
		return
	}
	r.drop(frame, err.Error())
}

// handleHere runs a handler on the reader.
func (r *reader) handleHere(rt *route, h wire.Header, frame []byte, deadline int64, ordered bool) bool {
	c := r.conn
	s := r.s
	ctx := s.contextFor(rt)
	s.req.msg.Buffer, s.req.msg.values = frame, r.values
	ctx.init(c, &s.req, rt, h, r.arrived(), deadline)
	if r.values != nil {
		ctx.own().carried = r.values
	}
	r.running = running{ordered: ordered, held: len(frame), pace: rt.slow, ctx: ctx}
	acked := c.acked.Load() // while the baton is here: what came before the acknowledgement is served
	mark := r.begin(true)
	if !c.draining.Load() || !r.refusedInDrain(rt, h, acked) {
		ctx.mark = mark
		ctx.handle()
	}
	if r.finish(mark) {
		r.running.ctx = nil // it would keep the buffer
		return true
	}
	c.unlist(ctx)
	c.release(len(frame))
	if ordered {
		c.orderedQueue().drain(c)
	}
	return false
}

// handle runs the handler and ends the Context.
func (ctx *Context) handle() {
	if ctx.rt.counters == nil {
		ctx.run()
		ctx.end()
		return
	}
	start := ctx.conn.now()
	ctx.run()
	failed := ctx.end()
	ctx.rt.counters.handled(time.Duration(ctx.conn.now()-start), failed)
}

func stack() string { return string(debug.Stack()) }
