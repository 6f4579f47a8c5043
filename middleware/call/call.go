// Package call has interceptors for [arpc.Handler.UseCall], which stand around
// outgoing calls: [Timeout], [Retry], [Hedge], [Breaker] and [RateLimit]. They
// work on clients, dialled and accepted, and on pools alike.
//
// The first added is the outermost. In this order each guards what is behind it:
//
//	handler.UseCall(call.Timeout(5 * time.Second))          // for all attempts together
//	handler.UseCall(call.Retry())
//	handler.UseCall(call.Hedge())
//	handler.UseCall(call.NewBreaker("billing").Intercept)   // sees each attempt
//	handler.UseCall(call.RateLimit(1000, 100))              // counts each attempt
//	handler.UseCall(call.Timeout(time.Second))              // for one attempt
//
// What each does with notifications and with the opening of streams is in its
// comment. All may be used by any number of goroutines and handlers.
package call

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/arpc-go/arpc"
)

// Only returns an interceptor that does what fn does, for calls of these methods
// only.
func Only(fn arpc.CallInterceptor, methods ...string) arpc.CallInterceptor {
	methods = slices.Clone(methods)
	return func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		if !slices.Contains(methods, call.Method) {
			return next(ctx, call)
		}
		return fn(ctx, call, next)
	}
}

// idempotency says which calls may run twice.
type idempotency struct {
	methods []string
}

func (i *idempotency) of(ctx context.Context, call *arpc.Call) bool {
	return arpc.IsIdempotent(ctx) || slices.Contains(i.methods, call.Method)
}

// transient reports whether the same call may fare better a moment later, or with
// another peer. A client that is closed stays so; of a pool it is one of many.
func transient(err error, pool bool) bool {
	switch arpc.CodeOf(err) {
	case arpc.CodeUnavailable:
		return pool || !errors.Is(err, arpc.ErrClosed)
	case arpc.CodeResourceExhausted, arpc.CodeDeadlineExceeded:
		return true
	}
	return false
}

// sleep waits, at most until ctx ends; it reports false then.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// endsWithin reports whether the deadline of ctx is not more than d away.
func endsWithin(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= d
}
