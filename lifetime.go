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

// lifetime returns what Done and its like stand on.
func (ctx *Context) lifetime() *lifetime {
	if l := ctx.life.Load(); l != nil {
		return l
	}
	if !ctx.live() {
		return ended
	}
	l := newLifetime(ctx.conn, ctx.deadline)
	if !ctx.life.CompareAndSwap(nil, l) {
		l.end(context.Canceled)
		return ctx.life.Load()
	}
	if !ctx.live() { // endLife may have come too early to see it
		l.end(context.Canceled)
	}
	return l
}

// endLife ends the context.Context with the handler, or the answer to a detached
// request.
func (ctx *Context) endLife() {
	detached := ctx.held >= 0
	if l := ctx.life.Load(); l != nil {
		l.end(context.Canceled)
	} else if detached {
		ctx.life.CompareAndSwap(nil, ended)
	}
}

// expired returns why the handler needs not run any more, nil if it does.
func (ctx *Context) expired() error {
	if ctx.deadline != 0 && ctx.conn.now() >= ctx.deadline {
		return errExpired
	}
	if l := ctx.life.Load(); l != nil && l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return nil
}

var errExpired = &Error{code: CodeDeadlineExceeded, msg: "arpc: the deadline passed before the request was handled", cause: context.DeadlineExceeded}

// Deadline returns when the caller stops waiting. A peer of version 1 does not
// tell.
func (ctx *Context) Deadline() (deadline time.Time, ok bool) {
	if ctx.deadline == 0 {
		return time.Time{}, false
	}
	return ctx.conn.timeOf(ctx.deadline), true
}

// Done is closed when the caller gives up, the deadline passes, or the connection
// ends, and when the handler has returned or a detached request was answered.
func (ctx *Context) Done() <-chan struct{} { return ctx.lifetime().ctx.Done() }

// Err returns nil until Done is closed, then context.DeadlineExceeded if the
// deadline passed first, and context.Canceled otherwise. context.Cause returns
// more: the *Error that the caller sent, or why the connection ended.
func (ctx *Context) Err() error {
	if l := ctx.life.Load(); l != nil {
		return l.ctx.Err()
	}
	switch {
	case !ctx.live():
		return context.Canceled
	case ctx.deadline != 0 && ctx.conn.now() >= ctx.deadline:
		return context.DeadlineExceeded
	}
	select {
	case <-ctx.conn.done:
		return context.Canceled
	default:
		return nil
	}
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
	if v, ok := ctx.values[key]; ok {
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
	md := ctx.metadata
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
	ctx.metadata = &responseMetadata{section: section, pairs: md.pairs + 1}
	return nil
}

// responseMetadata is what SetMetadata gathers.
type responseMetadata struct {
	section []byte
	pairs   int
}
