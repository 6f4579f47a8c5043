package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/arpc-go/arpc"
)

// Sender sends commands, for Send, SendMulti and Start, which may be called by any
// number of goroutines at the same time.
//
// What one goroutine sends over one client reaches the server in that order: a command
// is on its way when Send or Start returns, or SendMulti yields. Commands are
// executed at the same time, though. The members of a pool are connections of their
// own, without an order among them.
type Sender[T any] struct {
	registry *Registry[T]
	caller   arpc.Caller
	around   []arpc.CallInterceptor
	onResult func(ctx context.Context, method string, result any)
}

// SenderOption is a setting of Registry.Sender.
type SenderOption struct {
	apply func(*senderOptions)
}

type senderOptions struct {
	around   []arpc.CallInterceptor
	onResult func(ctx context.Context, method string, result any)
}

// WithInterceptors has interceptors, such as those of middleware/call, around
// each command as a whole: next returns when all results are in, with the error
// that the command has ended with. The first is the outermost. Those of
// arpc.Handler.UseCall see a command of Send so, but of SendMulti and Start only that
// a stream is opened, and run inside of these.
//
// The Call has the command as its Request. Of Send its Kind is KindCall; otherwise it is
// KindStream, next must not be called twice at the same time, and once results were
// given away it returns the error of that attempt again. A pool has chosen a member,
// Client, when next returns, and only of KindStream, so that a Breaker of
// call.PerPeer belongs to the handler of the pool.
func WithInterceptors(fns ...arpc.CallInterceptor) SenderOption {
	return SenderOption{func(o *senderOptions) { o.around = append(o.around, fns...) }}
}

// WithOnResult has fn called with each result, before the caller has it, by the
// goroutine of Send or SendMulti, or that of the command after Start. It should not
// wait. Results of type None are left out.
func WithOnResult(fn func(ctx context.Context, method string, result any)) SenderOption {
	return SenderOption{func(o *senderOptions) { o.onResult = fn }}
}

// Sender returns what sends the commands of the registry over a client, a pool, or the
// client of a handler's Context.
func (reg *Registry[T]) Sender(caller arpc.Caller, opts ...SenderOption) *Sender[T] {
	if caller == nil {
		panic("command: Sender: the caller is nil")
	}
	var o senderOptions
	for _, opt := range opts {
		opt.apply(&o)
	}
	return &Sender[T]{registry: reg, caller: caller, around: o.around, onResult: o.onResult}
}

type sendDeadlineKey struct{}

// ContextWithSendDeadline has commands sent with the returned context fail with
// arpc.CodeDeadlineExceeded unless they are on their way at t, whatever time they have
// for the rest: the deadline of the context itself is for all of it and reaches Exec.
// Such a command of Send is sent on a stream.
func ContextWithSendDeadline(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, sendDeadlineKey{}, t)
}

// Send sends a command and waits for its result; a command without one returns None.
// When ctx ends it gives up, and the context of Exec ends too.
//
// The error is that of arpc.Client.CallWith: what Exec returned (arpc.IsRemote), the end
// of ctx, or the loss of the connection. Further, it has arpc.CodeUnimplemented when
// this end or the other does not know the command, arpc.CodeNotFound when there was no
// result, and arpc.CodeFailedPrecondition when there was more than one.
// arpc.SafeToRetry says whether the command may be sent again. The command may be
// changed when Send returns.
func Send[R, T any](ctx context.Context, s *Sender[T], cmd Command[T, R]) (R, error) {
	if _, ok := ctx.Value(sendDeadlineKey{}).(time.Time); ok {
		return sendOnStream[R](ctx, s, cmd)
	}
	k, err := s.registry.kindOf(cmd)
	if err != nil {
		var none R
		return none, err
	}
	if k.idempotent {
		ctx = arpc.ContextWithIdempotent(ctx)
	}
	target := fresh[R]()
	if err = s.call(ctx, k, cmd, target); err != nil {
		var none R
		return none, err
	}
	result := taken[R](target)
	tell(ctx, s, k, result)
	return result, nil
}

// tell calls the hook for results.
func tell[R, T any](ctx context.Context, s *Sender[T], k *kind[T], result R) {
	if s.onResult != nil && !isNone[R]() {
		s.onResult(ctx, k.method, result)
	}
}

// call sends a command as a request and stores the result where target points to.
func (s *Sender[T]) call(ctx context.Context, k *kind[T], cmd, target any) error {
	if _, none := target.(*None); none {
		target = nil
	}
	if s.around == nil {
		return k.explain(s.caller.CallWith(ctx, k.method, cmd, target))
	}
	call := &arpc.Call{Kind: arpc.KindCall, Method: k.method, Request: cmd, Response: target}
	return s.intercept(ctx, call, func(ctx context.Context, call *arpc.Call) error {
		return k.explain(s.caller.CallWith(ctx, call.Method, call.Request, call.Response))
	})
}

// intercept runs a command through the interceptors, and final behind them.
func (s *Sender[T]) intercept(ctx context.Context, call *arpc.Call, final arpc.CallFunc) error {
	next := final
	for _, fn := range slices.Backward(s.around) {
		inner := next
		next = func(ctx context.Context, call *arpc.Call) error { return fn(ctx, call, inner) }
	}
	return next(ctx, call)
}

// explain says of a missing route that it is that of a command.
func (k *kind[T]) explain(err error) error {
	if err == nil || !errors.Is(err, arpc.ErrMethodNotFound) {
		return err
	}
	return fmt.Errorf("command: the peer does not know %s: %w", k.method, err)
}
