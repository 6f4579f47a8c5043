package arpc

import (
	"context"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// lifetime is the context.Context behind a Context. Most handlers never look at
// it, so it is made when one does, or when the caller gives up.
type lifetime struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc // of the deadline; nil: there is none
}

// ended is the lifetime of a Context whose handler has returned.
var ended = func() *lifetime {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(context.Canceled)
	return &lifetime{ctx: ctx, cancel: cancel}
}()

func newLifetime(c *conn, deadline int64) *lifetime {
	l := new(lifetime)
	l.ctx, l.cancel = context.WithCancelCause(c.context())
	if deadline != 0 {
		l.ctx, l.stop = context.WithDeadline(l.ctx, c.timeOf(deadline))
	}
	return l
}

func (l *lifetime) end(cause error) {
	l.cancel(cause)
	if l.stop != nil {
		l.stop()
	}
}

// endAt has it end at a deadline that was set after it was made.
func (l *lifetime) endAt(t time.Time) {
	timer := time.AfterFunc(time.Until(t), func() { l.cancel(context.DeadlineExceeded) })
	context.AfterFunc(l.ctx, func() { timer.Stop() })
}

// err is what Context.Err returns.
func (l *lifetime) err() error {
	err := l.ctx.Err()
	if err != nil && context.Cause(l.ctx) == context.DeadlineExceeded {
		return context.DeadlineExceeded // of endAt
	}
	return err
}

// lifetime returns what Done and its like stand on.
func (ctx *Context) lifetime() *lifetime {
	if l := ctx.looked().life.Load(); l != nil {
		return l
	}
	if !ctx.live() {
		return ended
	}
	x, deadline := ctx.own(), ctx.ends()
	l := newLifetime(ctx.conn, deadline)
	if !x.life.CompareAndSwap(nil, l) {
		l.end(context.Canceled)
		return x.life.Load()
	}
	if !ctx.live() { // endLife may have come too early to see it
		l.end(context.Canceled)
	}
	if sooner := ctx.ends(); sooner != deadline { // SetTimeout, too
		l.endAt(ctx.conn.timeOf(sooner))
	}
	return l
}

// endLife ends the context.Context with the handler, or the answer to a detached
// request.
func (ctx *Context) endLife() {
	if l := ctx.looked().life.Load(); l != nil {
		l.end(context.Canceled)
	} else if ctx.detached {
		ctx.own().life.CompareAndSwap(nil, ended)
	}
}

// expired returns why the handler needs not run any more, nil if it does.
func (ctx *Context) expired() error {
	if ctx.overdue() {
		return errExpired
	}
	if l := ctx.looked().life.Load(); l != nil && l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return nil
}

var errExpired = &Error{code: CodeDeadlineExceeded, msg: "arpc: the deadline passed before the request was handled", cause: context.DeadlineExceeded}

// Deadline returns when the caller stops waiting. A peer of version 1 does not
// tell.
func (ctx *Context) Deadline() (deadline time.Time, ok bool) {
	at := ctx.ends()
	if at == 0 {
		return time.Time{}, false
	}
	return ctx.conn.timeOf(at), true
}

// SetTimeout has the Context end after d, unless its caller stops waiting before,
// and reports whether it does not. It is for middleware, which calls it before Next.
// It answers nobody, and it cannot move a deadline back.
func (ctx *Context) SetTimeout(d time.Duration) (sooner bool) {
	at := ctx.conn.now() + int64(max(d, 1))
	if old := ctx.ends(); old != 0 && old <= at || at <= 0 || !ctx.live() {
		return false
	}
	ctx.sooner.Store(at)
	if l := ctx.looked().life.Load(); l != nil {
		l.endAt(ctx.conn.timeOf(at))
	}
	return true
}

// ends returns the deadline on the connection's clock, 0 for none.
func (ctx *Context) ends() int64 {
	if at := ctx.sooner.Load(); at != 0 {
		return at
	}
	return ctx.deadline
}

// overdue reports whether the deadline has passed.
func (ctx *Context) overdue() bool {
	at := ctx.ends()
	return at != 0 && ctx.conn.now() >= at
}

// Done is closed when the caller gives up, the deadline passes, or the connection
// ends, and when the handler has returned or a detached request was answered.
func (ctx *Context) Done() <-chan struct{} { return ctx.lifetime().ctx.Done() }

// Err returns nil until Done is closed, then context.DeadlineExceeded if the
// deadline passed first, and context.Canceled otherwise. context.Cause returns
// more: the *Error that the caller sent, or why the connection ended.
func (ctx *Context) Err() error {
	if l := ctx.looked().life.Load(); l != nil {
		return l.err()
	}
	switch {
	case !ctx.live():
		return context.Canceled
	case ctx.overdue():
		return context.DeadlineExceeded
	}
	if ctx.conn.done.given() {
		return context.Canceled
	}
	return nil
}

type contextKey struct{}

// FromContext returns the Context that ctx is or was derived from, as the context
// of a typed handler is.
func FromContext(ctx context.Context) (c *Context, ok bool) {
	c, ok = ctx.Value(contextKey{}).(*Context)
	return c, ok
}

// Value returns what Set stored for key, nil if nothing.
func (ctx *Context) Value(key any) any {
	if v, ok := ctx.looked().values[key]; ok {
		return v
	}
	switch key.(type) {
	case contextKey:
		return ctx
	case callInfoKey:
		return ctx.callInfo()
	case *int: // how context.Cause and context.WithCancel find the context behind
		return ctx.lifetime().ctx.Value(key)
	}
	return nil
}

// callInfo is what calls made with this Context inherit: the trace.
func (ctx *Context) callInfo() *callInfo {
	if !ctx.live() {
		return &noInfo
	}
	meta, ok := ctx.Message.meta()
	if !ok || meta.TraceParent == nil {
		return &noInfo
	}
	return &callInfo{trace: Trace{Parent: string(meta.TraceParent), State: string(meta.TraceState)}}
}

// Metadata returns what came with the request, or in a callback with the
// response; nil if nothing did. The map is the caller's.
func (ctx *Context) Metadata() Metadata {
	if !ctx.live() {
		return nil
	}
	return ctx.Message.Metadata()
}

// maxCodeField is how many bytes of a section a status code takes.
const maxCodeField = 7

// SetMetadata adds a pair to what travels with the response, before Write or
// Error. The error says what is wrong with the key, or that a message carries none
// because it is not a request. A peer of version 1 does not get it.
func (ctx *Context) SetMetadata(key, value string) error {
	if ctx.cmd != wire.CmdRequest {
		return ErrNotRequest
	}
	if err := wire.CheckKey(key); err != nil {
		return Errorf(CodeInvalidArgument, "arpc: metadata: %w", err)
	}
	x := ctx.own()
	md := x.metadata.Load()
	if md == nil {
		md = new(responseMetadata)
	}
	section := wire.AppendPair(md.section, key, value)
	if limit := ctx.conn.maxMetadata() - maxCodeField; len(section) > limit && ctx.conn.hello.Load() != nil {
		return metadataTooLarge(len(section), limit)
	}
	if md.pairs == wire.MaxPairs {
		return Errorf(CodeInvalidArgument, "arpc: metadata: more than %d pairs", wire.MaxPairs)
	}
	x.metadata.Store(&responseMetadata{section: section, pairs: md.pairs + 1})
	return nil
}

// responseMetadata is what SetMetadata gathers.
type responseMetadata struct {
	section []byte
	pairs   int
}
