package arpc

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// request is what a Context stands on: the message and whether it is answered.
// Requests are reused; a Context keeps the generation of its own.
type request struct {
	state    atomic.Uint64 // generation, and the bits below
	msg      Message
	callback func(*Context) // instead of a route's handlers
	held     int            // bytes that Detach keeps count of
}

// Bits of request.state. The generation counts above them.
const (
	stateAnswered = 1 << iota
	stateFailed   // with an error
	stateNext
	stateBits = stateAnswered | stateFailed
)

// Context is what a handler gets: a message, its connection, and the means to
// answer. It is valid until the handler returns; afterwards its methods report
// ErrHandlerReturned, and it never answers another request. The handler's
// goroutine owns it, but Write and Error may be called from any.
//
// It is a context.Context: it ends with the deadline that the caller set, when the
// caller gives up, and with the connection; context.Cause says which. Calls that
// the handler makes with it have what is left of the deadline.
type Context struct {
	// Client is the connection's client, to call or notify the peer with.
	Client *Client
	// Message is the message as it came. Its bytes are valid until the
	// handler returns.
	Message *Message

	conn     *conn
	rt       *route // nil in callbacks
	req      *request
	gen      uint64 // of req
	seq      uint64
	mark     uint64       // under which the handler runs on the reader, 0: it does not
	deadline int64        // of the caller, on the connection's clock, 0: none
	received int64        // when the message came, on the connection's clock
	sooner   atomic.Int64 // what SetTimeout made of deadline, 0: nothing
	extra    atomic.Pointer[extras]
	index    int32 // in rt.chain
	cmd      byte
	flag     byte
	detached bool // this is what Detach made
}

// extras are what few handlers use of a Context, made when one does.
type extras struct {
	moved    bool // it was detached; guarded by conn.incoming.mu
	values   map[any]any
	carried  map[any]any                      // values of the message, which go with its response
	check    func(any) error                  // of what Bind decodes, nil: none
	metadata atomic.Pointer[responseMetadata] // nil: none
	life     atomic.Pointer[lifetime]
}

// noExtras stands for those that were not made. Never changed.
var noExtras extras

// looked returns the extras to look at.
func (ctx *Context) looked() *extras {
	if x := ctx.extra.Load(); x != nil {
		return x
	}
	return &noExtras
}

// own returns the extras to change.
func (ctx *Context) own() *extras {
	if x := ctx.extra.Load(); x != nil {
		return x
	}
	ctx.extra.CompareAndSwap(nil, new(extras))
	return ctx.extra.Load()
}

func (ctx *Context) init(c *conn, req *request, rt *route, h wire.Header, received, deadline int64) {
	ctx.Client, ctx.Message = c.client, &req.msg
	ctx.received, ctx.deadline = received, deadline
	ctx.conn, ctx.rt, ctx.req, ctx.gen = c, rt, req, req.state.Load()
	ctx.seq, ctx.cmd, ctx.flag, ctx.index = h.Seq, h.Command(), h.Flag, -1
}

// run calls the chain of handlers, or the callback.
func (ctx *Context) run() {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			ctx.panicked(p)
			return
		}
		ctx.exited()
	}()
	if ctx.rt == nil {
		ctx.req.callback(ctx)
	} else {
		ctx.Next()
	}
	returned = true
}

func (ctx *Context) panicked(p any) {
	ctx.conn.logPanic("handler of "+ctx.Message.Method(), p)
	if ctx.cmd == wire.CmdRequest && ctx.claim(true) {
		ctx.fail(errPanicked)
	}
}

// exited runs when the handler ended its goroutine, with runtime.Goexit, which
// may be the reader's: another one takes over what that has left to do.
func (ctx *Context) exited() {
	c := ctx.conn
	onReader := ctx.mark != 0
	if onReader {
		c.passBaton(ctx.mark, false)
	}
	ordered := ctx.rt != nil && (ctx.cmd == wire.CmdNotify && ctx.rt.orderedNotify || ctx.cmd == wire.CmdRequest && ctx.rt.orderedRequest)
	n := len(ctx.Message.Buffer)
	ctx.end()
	c.unlist(ctx)
	c.release(n)
	if ordered {
		go c.orderedQueue().drain(c)
	}
}

// end closes the Context after its handler. A request that was not answered
// gets an error, so that its caller does not wait out its deadline. It reports
// whether the request failed.
func (ctx *Context) end() (failed bool) {
	old := ctx.req.state.Swap(ctx.gen + stateNext)
	if old == ctx.gen && ctx.cmd == wire.CmdRequest {
		ctx.fail(ctx.unanswered())
		old |= stateFailed
	}
	ctx.endLife()
	return old&stateFailed != 0
}

// unanswered is the error of a request that its handler did not answer.
func (ctx *Context) unanswered() error {
	if ctx.rt.notFound {
		return ErrMethodNotFound
	}
	if err := ctx.expired(); err != nil {
		return err // that is why it returned
	}
	return Errorf(CodeInternal, "internal error: the handler of %s returned without an answer", ctx.rt.method)
}

var errPanicked = NewError(CodeInternal, "internal error: the handler panicked")

// live reports whether the handler still runs.
func (ctx *Context) live() bool {
	return ctx.req.state.Load()&^stateBits == ctx.gen
}

// claim takes the right to answer. Once.
func (ctx *Context) claim(failed bool) bool {
	state := ctx.gen | stateAnswered
	if failed {
		state |= stateFailed
	}
	return ctx.req.state.CompareAndSwap(ctx.gen, state)
}

// Answered reports whether the request was answered or detached, and whether
// with an error. After the handler has returned both are false.
func (ctx *Context) Answered() (answered, failed bool) {
	state := ctx.req.state.Load()
	if state&^stateBits != ctx.gen {
		return false, false
	}
	return state&stateAnswered != 0, state&stateFailed != 0
}

func (ctx *Context) hasAnswered() bool {
	answered, _ := ctx.Answered()
	return answered
}

// ReceivedAt returns when the message came: when its last bytes were read, whatever
// it waited for since. Messages that came later have no earlier time.
func (ctx *Context) ReceivedAt() time.Time { return ctx.conn.timeOf(ctx.received) }

// Conn returns the connection that the message came over. Client.Conn is the newest,
// which may be another one while the peer goes away or after a reconnect.
func (ctx *Context) Conn() net.Conn { return ctx.conn.nc }

// Body returns the payload. The bytes belong to the connection and are reused
// when the handler returns: copy what must last, or Detach.
func (ctx *Context) Body() []byte {
	if !ctx.live() {
		return nil
	}
	return ctx.Message.Data()
}

// Bind decodes the payload into v, which points to the value: raw into a
// *[]byte, a fresh copy, a *string or a *bytes.Buffer, which is reset first, with
// the codec into anything else. In a callback of CallAsync it returns the error that the call ended with.
func (ctx *Context) Bind(v any) error {
	if !ctx.live() {
		return ErrHandlerReturned
	}
	if err := ctx.Message.Error(); err != nil {
		return ctx.conn.handler.snapshot().details.decode(ctx.Client.Codec, err)
	}
	if err := decode(ctx.Client.Codec, ctx.Message.Data(), v); err != nil {
		return err
	}
	if check := ctx.looked().check; check != nil {
		return check(v)
	}
	return nil
}

// CheckBind has Bind, and what decodes requests for typed handlers, call fn with
// each value that it has decoded, and return its error. The value is the pointer
// that Bind got. Middleware calls it before the handler runs; a nil fn, or the
// next call, takes the place of the one before.
func (ctx *Context) CheckBind(fn func(v any) error) { ctx.own().check = fn }

// Write answers the request with v, which may be reused when Write returns. A
// request is answered once: then ErrAnswered. An error, or a value whose
// encoding fails, makes an error response; encoding errors are returned too.
// Write waits only when the send queue is full.
func (ctx *Context) Write(v any) error { return ctx.respond(v, false) }

// WriteBytes is Write for bytes, without the allocation that turning a slice
// into an interface costs.
func (ctx *Context) WriteBytes(b []byte) error {
	if ctx.cmd != wire.CmdRequest {
		return ErrNotRequest
	}
	return ctx.respondPayload(payload{b: b}, nil, false)
}

// Error answers the request with an error: an error value or a text. With nil
// it is Write.
func (ctx *Context) Error(v any) error { return ctx.respond(v, v != nil) }

func (ctx *Context) respond(v any, failed bool) error {
	if ctx.cmd != wire.CmdRequest {
		return ErrNotRequest
	}
	if err, ok := v.(error); ok {
		return ctx.respondError(err)
	}
	p, err := encode(ctx.Client.Codec, v)
	defer p.release()
	return ctx.respondPayload(p, err, failed)
}

func (ctx *Context) respondPayload(p payload, err error, failed bool) error {
	if err == nil {
		err = ctx.checkSize(p.len())
	}
	if !ctx.claim(failed || err != nil) {
		return ctx.notClaimed()
	}
	if err != nil {
		ctx.fail(err)
		return err
	}
	var o outgoing
	ctx.response(&o, p, failed)
	return ctx.send(&o)
}

func (ctx *Context) respondError(err error) error {
	if tooLong := ctx.checkSize(len(publicText(err))); tooLong != nil {
		return ctx.respondPayload(payload{}, tooLong, true)
	}
	if !ctx.claim(true) {
		return ctx.notClaimed()
	}
	return ctx.fail(err)
}

func (ctx *Context) checkSize(payload int) error {
	n := len(ctx.rt.method) + payload
	if int64(n) <= ctx.conn.maxSend.Load() {
		return nil
	}
	return ctx.conn.tooLarge(n)
}

// notClaimed says why claim failed.
func (ctx *Context) notClaimed() error {
	if ctx.live() {
		return ErrAnswered
	}
	return ErrHandlerReturned
}

// fail sends an error response. The caller has claimed the right to.
func (ctx *Context) fail(err error) error {
	var o outgoing
	ctx.response(&o, payload{s: publicText(err)}, true)
	o.section = ctx.conn.errorSection(o.section, err)
	return ctx.send(&o)
}

// response fills in an empty frame.
func (ctx *Context) response(o *outgoing, p payload, failed bool) {
	o.header.Cmd, o.header.Flag, o.header.Seq = wire.CmdResponse, ctx.flag&wire.FlagAsync, ctx.seq
	if failed {
		o.header.Flag |= wire.FlagError
	}
	o.method, o.payload, o.mark = ctx.rt.method, p, ctx.mark
	o.values = ctx.looked().carried
	if md := ctx.looked().metadata.Load(); md != nil {
		o.section = md.section
	}
}

func (ctx *Context) send(o *outgoing) error {
	err := ctx.conn.send(context.Background(), o)
	if err != nil && errors.Is(err, errCoding) {
		ctx.conn.replyError(o.header, o.method, err)
	}
	if ctx.detached {
		ctx.conn.unlist(ctx)
		ctx.conn.release(ctx.req.held)
		ctx.endLife()
	}
	return err
}

// Detach returns a Context that may be kept when the handler returns, and
// answered later, once, from any goroutine. It has a copy of the message. This
// Context cannot answer any more. A request that was detached counts as in
// flight, WithMaxInflight, until it is answered.
func (ctx *Context) Detach() *Context {
	d := &Context{
		Client: ctx.Client, Message: ctx.Message,
		conn: ctx.conn, rt: ctx.rt, req: new(request), seq: ctx.seq,
		received: ctx.received, deadline: ctx.ends(), index: aborted, cmd: ctx.cmd, flag: ctx.flag,
	}
	if x := ctx.extra.Load(); x != nil {
		d.own().values, d.own().carried, d.own().check = x.values, x.carried, x.check
		d.own().metadata.Store(x.metadata.Load())
	}
	if !ctx.live() {
		d.req.state.Store(stateNext)
		return d
	}
	d.req.msg = Message{Buffer: append([]byte(nil), ctx.Message.Buffer...), values: ctx.Message.values, err: ctx.Message.err}
	d.Message = &d.req.msg
	switch {
	case ctx.cmd != wire.CmdRequest:
	case !ctx.claim(false):
		d.req.state.Store(stateAnswered)
	default:
		d.detached, d.req.held = true, len(d.req.msg.Buffer)
		ctx.conn.hold(d.req.held)
		ctx.conn.relist(ctx, d)
	}
	return d
}

// aborted is an index behind every chain, with room for the increments of the
// functions that called Next.
const aborted = 1 << 30

// Next calls the rest of the chain. Middleware that wants to do something after
// the handler calls it.
func (ctx *Context) Next() {
	if ctx.rt == nil || !ctx.live() {
		return
	}
	chain := ctx.rt.chain
	for ctx.index++; int(ctx.index) < len(chain); ctx.index++ {
		at := ctx.index
		chain[at](ctx)
		if ctx.index == at && int(at) < ctx.rt.own && ctx.hasAnswered() {
			ctx.Abort() // it answered in the place of the handler
		}
	}
}

// Abort stops the chain behind the function that calls it.
func (ctx *Context) Abort() { ctx.index = aborted }

// Get returns a value that Set stored for this message, or that came with it, as
// Message.Get has it.
func (ctx *Context) Get(key any) (any, bool) {
	if v, ok := ctx.looked().values[key]; ok {
		return v, true
	}
	v, ok := ctx.looked().carried[key]
	return v, ok
}

// Set stores a value for what runs behind this function in the chain.
func (ctx *Context) Set(key, value any) {
	x := ctx.own()
	if x.values == nil {
		x.values = make(map[any]any)
	}
	x.values[key] = value
}
