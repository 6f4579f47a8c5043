package arpc

import (
	"context"
	"fmt"
	"reflect"
)

var (
	typeOfGoContext = reflect.TypeFor[context.Context]()
	typeOfError     = reflect.TypeFor[error]()
)

// Register handles the exported methods of receiver as "service.Method". It
// takes methods of three shapes and leaves others alone:
//
//	func(ctx context.Context, req *Req) (*Rsp, error)
//	func(ctx context.Context, req *Req, rsp *Rsp)
//	func(ctx *arpc.Context)
//
// The context is the *Context of the request. Without a service name that of
// the receiver's type is used. The error says that there is no such method, or
// that a name is too long or taken; then nothing was registered.
func (h *Handler) Register(service string, receiver any) error {
	if receiver == nil {
		return NewError(CodeInvalidArgument, "arpc: Register: the receiver is nil")
	}
	v := reflect.ValueOf(receiver)
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return Errorf(CodeInvalidArgument, "arpc: Register: the receiver is a nil %T", receiver)
	}
	if service == "" {
		service = reflect.Indirect(v).Type().Name()
	}
	if service == "" {
		return Errorf(CodeInvalidArgument, "arpc: Register: the receiver's type %T has no name, give one", receiver)
	}
	found := make(map[string]HandlerFunc)
	for i := range v.NumMethod() {
		method := v.Type().Method(i)
		if fn := handlerOf(v.Method(i)); fn != nil {
			found[service+"."+method.Name] = fn
		}
	}
	if len(found) == 0 {
		return Errorf(CodeInvalidArgument, "arpc: Register(%q): %T has no exported method of a suitable shape", service, receiver)
	}
	return h.handleAll(found)
}

// handleAll registers all of them, or none.
func (h *Handler) handleAll(found map[string]HandlerFunc) (err error) {
	h.change(func() {
		for name := range found {
			switch {
			case checkMethod(name) != nil:
				err = checkMethod(name)
				return
			case h.routes[name] != nil:
				err = Errorf(CodeAlreadyExists, "arpc: Register: %q has a handler already", name)
				return
			}
		}
		for name, fn := range found {
			h.routes[name] = h.newRoute(name, fn, nil)
		}
	})
	return err
}

// handlerOf returns a handler that calls the method, nil if it has another
// shape.
func handlerOf(method reflect.Value) HandlerFunc {
	if fn, ok := method.Interface().(func(*Context)); ok {
		return fn
	}
	t := method.Type()
	if t.IsVariadic() || t.NumIn() < 2 || t.In(0) != typeOfGoContext || t.In(1).Kind() != reflect.Pointer {
		return nil
	}
	switch {
	case t.NumIn() == 2 && t.NumOut() == 2 && t.Out(1) == typeOfError:
		return returningHandler(method, t.In(1).Elem())
	case t.NumIn() == 3 && t.NumOut() == 0 && t.In(2).Kind() == reflect.Pointer:
		return fillingHandler(method, t.In(1).Elem(), t.In(2).Elem())
	}
	return nil
}

// returningHandler calls func(ctx, *Req) (Rsp, error).
func returningHandler(method reflect.Value, req reflect.Type) HandlerFunc {
	return func(ctx *Context) {
		arg, ok := bindArg(ctx, req)
		if !ok {
			return
		}
		out := method.Call([]reflect.Value{reflect.ValueOf(ctx), arg})
		if err, _ := out[1].Interface().(error); err != nil {
			ctx.Error(err)
			return
		}
		if rsp := out[0]; rsp.Kind() != reflect.Pointer || !rsp.IsNil() {
			ctx.Write(rsp.Interface())
			return
		}
		ctx.Write(nil)
	}
}

// fillingHandler calls func(ctx, *Req, *Rsp).
func fillingHandler(method reflect.Value, req, rsp reflect.Type) HandlerFunc {
	return func(ctx *Context) {
		arg, ok := bindArg(ctx, req)
		if !ok {
			return
		}
		out := reflect.New(rsp)
		method.Call([]reflect.Value{reflect.ValueOf(ctx), arg, out})
		if !ctx.hasAnswered() {
			ctx.Write(out.Interface())
		}
	}
}

// bindArg decodes the request, or answers that it cannot.
func bindArg(ctx *Context, t reflect.Type) (reflect.Value, bool) {
	arg := reflect.New(t)
	if err := ctx.Bind(arg.Interface()); err != nil {
		ctx.Error(Errorf(CodeInvalidArgument, "%s", fmt.Sprint(err)))
		return arg, false
	}
	return arg, true
}
