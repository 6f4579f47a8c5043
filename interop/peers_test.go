package interop

import (
	"context"
	"time"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
)

// patience is how long a test waits for what is sure to come.
const patience = 20 * time.Second

// end is one end of a connection, made with either library.
type end interface {
	call(method string, req, rsp any) error
	callAsync(method string, req any, done func(reply string, err error)) error
	notify(method string, v any) error
	open(method string) (stream, error)
}

// request is what a handler gets. The Contexts of both libraries are.
type request interface {
	Bind(v any) error
	Write(v any) error
	Error(v any) error
}

// stream is a stream of either library.
type stream interface {
	send(v any) error
	recv(v any) error
	closeSend()
}

// routes is where handlers of either library are registered. The end that they
// get is the one they run on.
type routes interface {
	handle(method string, fn func(request, end))
	handleOrdered(method string, fn func(request, end))
	handleNotFound(fn func(method string, r request))
	handleStream(method string, fn func(stream))
}

type ourEnd struct{ *arpc.Client }

func (e ourEnd) call(method string, req, rsp any) error {
	return e.Call(method, req, rsp, patience)
}

func (e ourEnd) callAsync(method string, req any, done func(string, error)) error {
	return e.CallAsync(method, req, func(ctx *arpc.Context) {
		var reply string
		err := ctx.Bind(&reply)
		done(reply, err)
	}, patience)
}

func (e ourEnd) notify(method string, v any) error { return e.Notify(method, v, patience) }

func (e ourEnd) open(method string) (stream, error) {
	st, err := e.OpenStream(context.Background(), method)
	return ourStream{st}, err
}

type ourStream struct{ *arpc.Stream }

func (s ourStream) send(v any) error { return s.Send(v) }
func (s ourStream) recv(v any) error { return s.Recv(v) }
func (s ourStream) closeSend()       { s.CloseSend() }

type ourRoutes struct{ *arpc.Handler }

func (r ourRoutes) handle(method string, fn func(request, end)) {
	r.Handle(method, func(ctx *arpc.Context) { fn(ctx, ourEnd{ctx.Client}) })
}

func (r ourRoutes) handleOrdered(method string, fn func(request, end)) {
	r.Handle(method, func(ctx *arpc.Context) { fn(ctx, ourEnd{ctx.Client}) }, false)
}

func (r ourRoutes) handleNotFound(fn func(string, request)) {
	r.HandleNotFound(func(ctx *arpc.Context) { fn(ctx.Message.Method(), ctx) })
}

func (r ourRoutes) handleStream(method string, fn func(stream)) {
	r.HandleStream(method, func(st *arpc.Stream) { fn(ourStream{st}) })
}

type oldEnd struct{ *old.Client }

func (e oldEnd) call(method string, req, rsp any) error {
	return e.Call(method, req, rsp, patience)
}

func (e oldEnd) callAsync(method string, req any, done func(string, error)) error {
	return e.CallAsync(method, req, func(ctx *old.Context, err error) {
		var reply string
		if err == nil {
			err = ctx.Bind(&reply)
		}
		done(reply, err)
	}, patience)
}

func (e oldEnd) notify(method string, v any) error { return e.Notify(method, v, patience) }

func (e oldEnd) open(method string) (stream, error) {
	return oldStream{e.NewStream(method)}, nil
}

type oldStream struct{ *old.Stream }

func (s oldStream) send(v any) error { return s.Send(v) }
func (s oldStream) recv(v any) error { return s.Recv(v) }
func (s oldStream) closeSend()       { s.CloseSendContext(context.Background()) }

type oldRoutes struct{ old.Handler }

func (r oldRoutes) handle(method string, fn func(request, end)) {
	r.Handle(method, func(ctx *old.Context) { fn(ctx, oldEnd{ctx.Client}) })
}

func (r oldRoutes) handleOrdered(method string, fn func(request, end)) {
	r.Handle(method, func(ctx *old.Context) { fn(ctx, oldEnd{ctx.Client}) }, false)
}

func (r oldRoutes) handleNotFound(fn func(string, request)) {
	r.HandleNotFound(func(ctx *old.Context) { fn(ctx.Message.Method(), ctx) })
}

func (r oldRoutes) handleStream(method string, fn func(stream)) {
	r.HandleStream(method, func(st *old.Stream) { fn(oldStream{st}) })
}
