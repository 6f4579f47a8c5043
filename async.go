package arpc

import (
	"context"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// CallAsync sends a request and returns; the callback runs exactly once, when
// the response is in or the call has failed. Its Context's Bind decodes the
// response or returns the call's error. Callbacks run like concurrent handlers.
// An error from CallAsync means that nothing was sent and no callback comes. It
// waits for room in the send queue, at most for the timeout.
func (c *Client) CallAsync(method string, req any, callback func(*Context), timeout time.Duration) error {
	switch {
	case callback == nil:
		return unsent(NewError(CodeInvalidArgument, "arpc: CallAsync: the callback is nil; Notify sends without one"))
	case timeout <= 0:
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a call must be positive, not %v", timeout))
	}
	if snap := c.Handler.snapshot(); snap.around != nil {
		return c.interceptAsync(snap, method, req, callback, timeout)
	}
	return c.invokeAsync(&noInfo, method, req, callback, timeout)
}

// invokeAsync is CallAsync without interceptors.
func (c *Client) invokeAsync(info *callInfo, method string, req any, callback func(*Context), timeout time.Duration) error {
	var o outgoing
	if err := c.prepare(&o, info, wire.Header{Cmd: wire.CmdRequest, Flag: wire.FlagAsync}, method, req); err != nil {
		return err
	}
	defer o.payload.release()
	for {
		cn, left, err := c.acquire(context.Background(), timeout, info)
		if err != nil {
			return err
		}
		o.timeout, o.left = left, timeLeft(context.Background(), left)
		if err = cn.callAsync(&o, callback); !c.again(err, cn, info) {
			return err
		}
		timeout = o.timeout
	}
}

func (c *conn) callAsync(o *outgoing, callback func(*Context)) error {
	k := c.handler.calls.get(o.method, nil, nil)
	k.callback = callback
	o.call = k
	o.shared = c.flushedLater(o)
	err := c.send(context.Background(), o)
	if err == nil {
		return nil
	}
	if k.seq != 0 {
		if taken, _ := c.abandon(k); !taken {
			return nil // the connection ended meanwhile, and the callback is told
		}
	}
	c.handler.calls.put(k)
	return err
}

// interceptAsync runs a CallAsync through the interceptors, on a goroutine of its
// own.
func (c *Client) interceptAsync(snap *snapshot, method string, req any, callback func(*Context), timeout time.Duration) error {
	cn, left, err := c.acquire(context.Background(), timeout, &noInfo)
	if err != nil {
		return err
	}
	p, err := encode(c.Codec, req) // the caller may reuse req
	if err != nil {
		return unsent(err)
	}
	body := p.appendTo(make([]byte, 0, p.len()))
	p.release()
	go func() {
		var rsp []byte
		var md asyncMetadata
		err := error(errGoexit)
		defer func() {
			if p := recover(); p != nil {
				cn.logPanic("interceptor", p)
				err = NewError(CodeInternal, "arpc: an interceptor panicked")
			}
			cn.finishAsync(method, md.first(), rsp, callback, err)
		}()
		call := &Call{Kind: KindCall, Method: method, Request: body, Response: &rsp, Client: c}
		err = snap.interceptTimeout(context.Background(), left, call, func(ctx context.Context, call *Call) error {
			own := infoOf(ctx).response
			var got Metadata
			ctx = ContextWithResponseMetadata(ctx, &got)
			err := c.invoke(ctx, infoOf(ctx), 0, call.Method, call.Request, call.Response)
			if own != nil {
				*own = got
			}
			if err == nil {
				md.add(got)
			}
			return err
		})
	}()
	return nil
}

// asyncMetadata is the metadata of the first response of a CallAsync, whose
// interceptors may have called next more than once, at the same time too.
type asyncMetadata struct {
	mu sync.Mutex
	md Metadata
}

func (a *asyncMetadata) add(md Metadata) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.md == nil {
		a.md = md
	}
}

func (a *asyncMetadata) first() Metadata {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.md
}

// callback runs the callback of a CallAsync that was answered, like a
// concurrent handler.
func (r *reader) callback(k *call, h wire.Header, frame []byte) bool {
	c := r.conn
	if meta := r.metaOf(h); meta != nil && h.Flag&wire.FlagError != 0 && Code(meta.Code) == CodeDeadlineExceeded && k.deadline != 0 && c.now() >= k.deadline {
		k.finish(c, timeoutError(false)) // the peer was quicker to see that our deadline passed
		return true
	}
	fn := k.callback
	if c.handler.snapshot().coders == nil { // with these a peer may answer while the request is still being coded
		c.handler.calls.put(k)
	}
	if c.callbackPace.slow() || c.gate != nil {
		j := r.newJob(nil, h, frame, 0)
		j.carry(r.values)
		j.req.callback = fn
		c.hold(len(frame))
		r.spawn(j, false)
		return true
	}
	s := r.s
	ctx := s.context()
	s.req.msg.Buffer, s.req.msg.values = frame, r.values
	r.running = running{held: len(frame), pace: &c.callbackPace}
	ctx.init(c, &s.req, nil, h, r.arrived(), 0)
	if r.values != nil {
		ctx.own().carried = r.values
	}
	s.req.callback = fn
	mark := r.begin(true) // from here on the reader's state may be looked at by the watchdog
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
	c.deliver(frame, k.callback, err)
}

// finishAsync tells the callback of a CallAsync that went through interceptors.
func (c *conn) finishAsync(method string, md Metadata, rsp []byte, callback func(*Context), err error) {
	if err != nil {
		c.runCallback(&call{method: method, callback: callback}, err)
		return
	}
	info := callInfo{metadata: md}
	section, _ := info.section() // it was received
	o := outgoing{header: wire.Header{Cmd: wire.CmdResponse, Flag: wire.FlagAsync}, method: method, section: section, payload: payload{b: rsp}}
	c.deliver(o.appendTo(nil, wire.FeatureMetadata), callback, nil)
}

func (c *conn) deliver(frame []byte, callback func(*Context), err error) {
	j := newJob(c, wire.ParseHeader(frame), frame)
	j.req.msg.err = err
	j.req.callback = callback
	c.hold(len(frame))
	j.run()
}
