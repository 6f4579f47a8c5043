package arpc

import (
	"context"
	"errors"
	"reflect"
)

// Method is a method whose request is a Req and whose response is a Rsp. Both
// ends share it, so that neither can mistake the types, and it takes the place
// of generated code: it is a name, and may be copied and used at the same time.
//
// What Client.Call sends raw is sent raw: []byte and string, but not types made
// of them. A nil pointer stands for the zero value, and so does a request with
// an empty payload.
type Method[Req, Rsp any] struct {
	name       string
	idempotent bool
}

// MethodOption says something about a method.
type MethodOption struct {
	idempotent bool
}

// Idempotent says that running a call twice does no harm. See
// ContextWithIdempotent, which says it of a single one.
var Idempotent = MethodOption{idempotent: true}

// NewMethod returns the method with a name of 1 to 127 bytes. It registers
// nothing.
func NewMethod[Req, Rsp any](name string, opts ...MethodOption) Method[Req, Rsp] {
	m := Method[Req, Rsp]{name: name}
	for _, opt := range opts {
		m.idempotent = m.idempotent || opt.idempotent
	}
	return m
}

// Name returns the name.
func (m Method[Req, Rsp]) Name() string { return m.name }

// Handle registers fn, as Handler.Handle does, modes and panics included. The
// ctx that fn gets is the request's *Context, see FromContext. The request is
// fn's to keep.
//
// An error is the answer, as with Context.Error; without one the response is. A
// request that cannot be decoded is answered with CodeInvalidArgument and does
// not reach fn. When fn has answered through the Context, or has detached it,
// what it returns is ignored.
func (m Method[Req, Rsp]) Handle(h *Handler, fn func(ctx context.Context, req *Req) (*Rsp, error), async ...bool) {
	mustRegister("Handle", m.name, fn != nil)
	h.Handle(m.name, func(ctx *Context) {
		req := new(Req)
		if !ctx.bindTyped(req) {
			return
		}
		rsp, err := fn(ctx, req)
		if err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write(orZero(rsp))
	}, async...)
	h.describe(m.name, reflect.TypeFor[Req](), reflect.TypeFor[Rsp]())
}

// Call sends a request and waits for the response, as Client.CallWith does. The
// response is nil if there is an error.
func (m Method[Req, Rsp]) Call(ctx context.Context, caller Caller, req *Req) (*Rsp, error) {
	if m.idempotent {
		ctx = ContextWithIdempotent(ctx)
	}
	rsp := new(Rsp)
	if err := caller.CallWith(ctx, m.name, orZero(req), rsp); err != nil {
		return nil, err
	}
	return rsp, nil
}

// Notice is a notification that carries a T. What is said of Method's types
// holds for T.
type Notice[T any] struct {
	name string
}

// NewNotice returns the notification with a name of 1 to 127 bytes. It
// registers nothing.
func NewNotice[T any](name string) Notice[T] { return Notice[T]{name: name} }

// Name returns the name.
func (n Notice[T]) Name() string { return n.name }

// Handle registers fn, as Handler.Handle does, modes and panics included. The
// ctx that fn gets is the *Context, see FromContext. The value is fn's to keep.
//
// A notification that cannot be decoded counts as dropped, see
// HandleMessageDropped. A peer that calls instead of notifying gets an empty
// response when fn has returned.
func (n Notice[T]) Handle(h *Handler, fn func(ctx context.Context, v *T), async ...bool) {
	mustRegister("Handle", n.name, fn != nil)
	h.Handle(n.name, func(ctx *Context) {
		v := new(T)
		if ctx.bindTyped(v) {
			fn(ctx, v)
			ctx.Write(nil)
		}
	}, async...)
	h.describe(n.name, reflect.TypeFor[T](), nil)
}

// Notify sends a notification, as Client.NotifyWith does.
func (n Notice[T]) Notify(ctx context.Context, caller Caller, v *T) error {
	return caller.NotifyWith(ctx, n.name, orZero(v))
}

// Broadcast notifies all clients of a server, or those for which every filter
// holds, as Server.Broadcast does.
func (n Notice[T]) Broadcast(server *Server, v *T, filter ...func(*Client) bool) error {
	return server.Broadcast(n.name, orZero(v), filter...)
}

// bindTyped decodes the payload of a message for its handler. When that fails it
// tells the caller, or of a notification this side, and reports false. Not every
// codec takes an empty payload: v is left as it is then.
func (ctx *Context) bindTyped(v any) bool {
	err := ctx.decodeTyped(v)
	if err == nil {
		return true
	}
	err = Errorf(CodeInvalidArgument, "%w", err)
	if errors.Is(ctx.Error(err), ErrNotRequest) {
		ctx.dropped(err)
	}
	return false
}

func (ctx *Context) decodeTyped(v any) error {
	switch {
	case len(ctx.Body()) > 0:
		return ctx.Bind(v)
	case ctx.looked().check != nil:
		return ctx.looked().check(v)
	}
	return nil
}

// dropped tells of a notification that reached its route and cannot be handled.
func (ctx *Context) dropped(why error) {
	c := ctx.conn
	c.client.count().dropped.Add(1)
	c.settings.logger.Warn("arpc: message dropped", "peer", c.peer(), "why", why)
	for _, hook := range c.handler.snapshot().hooks.dropped {
		c.guard("message-dropped hook", func() { hook(ctx.Client, ctx.Message) })
	}
}

// orZero returns v, or a zero value in the place of nil.
func orZero[T any](v *T) *T {
	if v == nil {
		return new(T)
	}
	return v
}
