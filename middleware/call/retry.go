package call

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/arpc-go/arpc"
)

// retry is what Retry returns the method of.
type retry struct {
	attempts   int
	base, max  time.Duration
	budget     *Budget
	idempotent idempotency
}

// Retry tries calls again that failed for a reason which may pass: CodeUnavailable
// (a lost connection too), CodeResourceExhausted, and a CodeDeadlineExceeded that
// is not the caller's. It does so only if nothing was sent (arpc.SafeToRetry) or
// the call is idempotent. A call that the caller cancels is over at once.
//
// Between attempts it waits a random time of up to WithBackoff, or as long as it is
// asked to: by the peer, with router.RetryAfterKey in the metadata of its response,
// or by an error in the chain with a method RetryAfter() time.Duration, such as
// OpenError. It gives up when that would be past the caller's deadline, or when the
// attempts or the budget are used up, and returns the last error. Then
// arpc.SafeToRetry speaks of all attempts together.
//
// In a pool each attempt may go to another member. The opening of a stream is
// retried if nothing was sent; what comes on the stream is not its business.
// Notifications are not retried: later ones would overtake them.
func Retry(opts ...RetryOption) arpc.CallInterceptor {
	r := &retry{attempts: 3, base: 50 * time.Millisecond, max: time.Second}
	for _, opt := range opts {
		opt.toRetry(r)
	}
	if r.budget == nil {
		r.budget = NewBudget(0.2, 100)
	}
	return r.intercept
}

// WithMaxAttempts sets how often a call is tried, the first time included.
// Default: 3.
func WithMaxAttempts(n int) RetryOption {
	mustHave("WithMaxAttempts: at least one attempt", n > 0)
	return retryOption(func(r *retry) { r.attempts = n })
}

// WithBackoff sets how long to wait before another attempt: a random time of up to
// base before the second, up to twice that before the third, and so on, but never
// more than max. Who asks for more than max is not asked again. Default: 50 ms and
// 1 s.
func WithBackoff(base, max time.Duration) RetryOption {
	mustHave(fmt.Sprintf("WithBackoff(%v, %v): a positive base, not above max,", base, max), base > 0 && base <= max)
	return retryOption(func(r *retry) { r.base, r.max = base, max })
}

func (r *retry) intercept(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
	if call.Kind == arpc.KindNotify {
		return next(ctx, call)
	}
	r.budget.add()
	first, sent := *call, false
	idempotent := call.Kind == arpc.KindCall && r.idempotent.of(ctx, call)
	var hints hints
	if idempotent {
		ctx = hints.listen(ctx)
	}
	for n := 1; ; n++ {
		err := next(ctx, call)
		if err == nil {
			return nil
		}
		safe := arpc.SafeToRetry(err)
		if ctx.Err() != nil || !transient(err, first.Client == nil) || !safe && !idempotent {
			return asSent(err, sent)
		}
		wait, ok := r.pause(ctx, err, n, &hints)
		if !ok || !r.budget.take() {
			return asSent(err, sent)
		}
		sent = sent || !safe
		if !sleep(ctx, wait) {
			return gaveUp(ctx, err, sent)
		}
		if call.Stream != nil { // of an interceptor that had it opened and failed
			call.Stream.Close()
		}
		*call = first
	}
}

// pause returns how long to wait after the attempt number n, if there is to be
// another.
func (r *retry) pause(ctx context.Context, err error, n int, hints *hints) (wait time.Duration, ok bool) {
	if n >= r.attempts {
		return 0, false
	}
	wait = rand.N(r.longest(n))
	if hint, ok := hints.of(err); ok {
		if hint < 0 || hint > r.max {
			return 0, false
		}
		wait = hint + rand.N(hint/5+1) // not all at once
	}
	return wait, !endsWithin(ctx, wait)
}

// longest returns how long to wait at most after the attempt number n.
func (r *retry) longest(n int) time.Duration {
	d := r.base
	for range n - 1 {
		if d > r.max/2 {
			return r.max
		}
		d *= 2
	}
	return d
}

// asSent returns err as one of a call that was sent, if an earlier attempt was.
func asSent(err error, sent bool) error {
	if !sent || !arpc.SafeToRetry(err) {
		return err
	}
	return arpc.Errorf(arpc.CodeOf(err), "%w", err)
}

// gaveUp is the error of a call that was canceled between two attempts.
func gaveUp(ctx context.Context, last error, sent bool) error {
	err := arpc.Errorf(arpc.CodeOf(ctx.Err()), "call: given up while waiting to retry after: %w", last)
	if sent {
		return err
	}
	return arpc.Unsent(err)
}
