package arpc

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// dispatch handles one frame, whose bytes are the reader's. It reports false
// when the baton went to another reader.
func (r *reader) dispatch(h wire.Header, frame []byte) bool {
	c := r.conn
	snap := c.handler.snapshot()
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
	if int64(h.BodyLen) > int64(c.settings.maxBody) {
		r.malformed(h, m.Buffer, receivedTooLarge(h, c.settings.maxBody))
		return true
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
	if cmd := h.Command(); cmd < wire.CmdRequest || cmd > wire.CmdStream || h.Check() != nil {
		c.fail(err)
		return
	}
	r.malformed(h, frame, err)
}

func (r *reader) dispatchPlain(snap *snapshot, h wire.Header, frame []byte) bool {
	c := r.conn
	cmd := h.Command()
	if cmd < wire.CmdRequest || cmd > wire.CmdStream {
		c.fail(notArpc(frame))
		r.r = r.w
		return true
	}
	c.useful = true
	if err := h.Check(); err != nil {
		r.malformed(h, frame, Errorf(CodeInvalidArgument, "arpc: malformed frame: %w", err))
		return true
	}
	switch cmd {
	case wire.CmdRequest, wire.CmdNotify:
		return r.handle(snap, h, frame)
	case wire.CmdResponse:
		return r.answered(h, frame)
	case wire.CmdStream:
		c.streams.received(r, snap, h, frame)
	case wire.CmdPing:
		c.reply(wire.Header{Cmd: wire.CmdPong}, "", "")
	}
	return true
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
		c.streams.reset(c, h, method, err)
	}
	r.drop(frame, err.Error())
}

// handle runs the handler of a request or notification: on this goroutine, or
// on another if its route was slow lately or it must wait for its turn.
func (r *reader) handle(snap *snapshot, h wire.Header, frame []byte) bool {
	c := r.conn
	method, _ := wire.Split(frame, h)
	rt := snap.routes[string(method)]
	if rt == nil {
		if snap.notFound == nil {
			r.noRoute(h, string(method), frame)
			return true
		}
		named := *snap.notFound
		named.method = string(method)
		rt = &named
	}
	if c.full(len(frame)) && !r.waitForTurn(h, rt.method, frame) {
		return true
	}
	ordered := rt.orderedRequest
	if h.Command() == wire.CmdNotify {
		ordered = rt.orderedNotify
	}
	if c.gate != nil && r.hookRuns() || rt.slow.slow() || ordered && r.orderedBusy() || c.settings.decisions.neverInline {
		c.hold(len(frame))
		if r.refusedInDrain(rt, h) {
			c.release(len(frame))
			return true
		}
		j := newJob(c, rt, h, frame)
		j.gate = c.gate
		r.spawn(j, ordered)
		return true
	}
	return r.handleHere(rt, h, frame, ordered)
}

// refusedInDrain refuses a request of a connection that drains. The message is
// counted or marked already, see quiet.
func (r *reader) refusedInDrain(rt *route, h wire.Header) bool {
	c := r.conn
	if h.Command() != wire.CmdRequest || !c.draining.Load() {
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
		c.orderedHint = c.ordered.isBusy()
	}
	return c.orderedHint
}

// aliveInterval is how often a reader that waits, and does not see pings, tells
// the peer unasked that it is alive.
const aliveInterval = time.Second

// waitForTurn waits at the limits of WithMaxInflight until there is room for a
// message; the peer's sends wait with it. While something of ours waits for
// bytes of this connection the message is refused instead, and it reports false.
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
	for c.full(len(frame)) {
		if c.busy() {
			r.refuseOverLimit(h, method, frame)
			return false
		}
		select {
		case <-c.room.ch:
		case <-alive.C:
			c.reply(wire.Header{Cmd: wire.CmdPong}, "", "")
		case <-c.done:
			return false
		}
	}
	return true
}

func (r *reader) refuseOverLimit(h wire.Header, method string, frame []byte) {
	c := r.conn
	err := Errorf(CodeResourceExhausted, "arpc: too many requests in flight on the connection, the limit is %d or %d bytes (WithMaxInflight, WithMaxInflightBytes)", c.settings.maxInflight, c.settings.maxInflightBytes)
	if h.Command() == wire.CmdRequest {
		c.client.stats.refused.Add(1)
		c.refuse(h, method, err)
		return
	}
	r.drop(frame, err.Error())
}

// handleHere runs a handler on the reader.
func (r *reader) handleHere(rt *route, h wire.Header, frame []byte, ordered bool) bool {
	c := r.conn
	s := r.s
	ctx := s.context()
	s.req.msg.Buffer = frame
	r.running = running{ordered: ordered, held: len(frame), pace: rt.slow}
	mark := r.begin(true)
	if !r.refusedInDrain(rt, h) {
		ctx.init(c, &s.req, rt, h)
		ctx.mark = mark
		ctx.run()
		ctx.end()
	}
	if r.finish(mark) {
		return true
	}
	c.release(len(frame))
	if ordered {
		c.ordered.drain(c)
	}
	return false
}

// job is a message on its way to a goroutine of its own.
type job struct {
	req  request
	ctx  *Context
	conn *conn
	gate chan struct{} // to wait for before it runs
}

var jobPool = sync.Pool{New: func() any { return new(job) }}

// newJob copies the frame.
func newJob(c *conn, rt *route, h wire.Header, frame []byte) *job {
	j := jobPool.Get().(*job)
	j.conn = c
	j.req.msg.Buffer = append(j.req.msg.Buffer[:0], frame...)
	j.ctx = new(Context)
	j.ctx.init(c, &j.req, rt, h)
	return j
}

// spawn runs a job that is counted already.
func (r *reader) spawn(j *job, ordered bool) {
	c := r.conn
	if ordered {
		c.orderedHint = true
		c.ordered.push(c, j)
		return
	}
	go j.run()
}

// run handles the message and gives the job back.
func (j *job) run() {
	if j.gate != nil {
		<-j.gate
	}
	start := time.Now()
	j.ctx.run()
	j.ctx.end()
	c := j.conn
	pace := &c.callbackPace
	if j.ctx.rt != nil {
		pace = j.ctx.rt.slow
	}
	pace.took(time.Since(start))
	c.release(len(j.req.msg.Buffer))
	j.ctx, j.conn, j.gate = nil, nil, nil
	j.req.msg.values, j.req.msg.err = nil, nil
	if cap(j.req.msg.Buffer) > stashLimit {
		j.req.msg.Buffer = nil
	}
	jobPool.Put(j)
}

// callback runs the callback of a CallAsync that was answered, like a
// concurrent handler.
func (r *reader) callback(k *call, h wire.Header, frame []byte) bool {
	c := r.conn
	if c.callbackPace.slow() || c.gate != nil {
		j := newJob(c, nil, h, frame)
		j.ctx.callback = k.callback
		c.hold(len(frame))
		r.spawn(j, false)
		return true
	}
	s := r.s
	ctx := s.context()
	s.req.msg.Buffer = frame
	r.running = running{held: len(frame), pace: &c.callbackPace}
	mark := r.begin(true)
	ctx.init(c, &s.req, nil, h)
	ctx.callback = k.callback
	ctx.mark = mark
	ctx.run()
	ctx.end()
	if r.finish(mark) {
		return true
	}
	c.release(len(frame))
	return false
}

// runCallback tells the callback of a CallAsync that there is no answer.
func (c *conn) runCallback(k *call, err error) {
	h := wire.Header{Cmd: wire.CmdResponse, Flag: wire.FlagError | wire.FlagAsync, Seq: k.seq}
	frame := appendFrame(nil, h, k.method, payload{s: publicText(err)})
	j := newJob(c, nil, wire.ParseHeader(frame), frame)
	j.req.msg.err = err
	j.ctx.callback = k.callback
	c.hold(len(frame))
	j.run()
}

func stack() string { return string(debug.Stack()) }
