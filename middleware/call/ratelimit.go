package call

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/arpc-go/arpc"
)

// RateLimitOption is a setting of RateLimit.
type RateLimitOption func(*rateLimit)

type rateLimit struct {
	limiter *rate.Limiter
	maxWait time.Duration
}

// RateLimit lets through so many calls per second on average, and burst of them at
// once. The others wait for their turn, in the order in which they came; those
// that would wait longer than WithMaxWait, or past their deadline, fail at once
// with CodeResourceExhausted, and nothing of them was sent (arpc.SafeToRetry). It
// panics unless both are positive.
//
// Calls, notifications and the opening of streams count alike, and those of all
// handlers that it is added to count together. Notifications that one goroutine
// sends stay in order.
func RateLimit(perSecond float64, burst int, opts ...RateLimitOption) arpc.CallInterceptor {
	mustHave(fmt.Sprintf("RateLimit(%v, %d): a positive rate and burst", perSecond, burst), perSecond > 0 && burst > 0)
	l := &rateLimit{limiter: rate.NewLimiter(rate.Limit(perSecond), burst), maxWait: time.Second}
	for _, opt := range opts {
		opt(l)
	}
	return l.intercept
}

// WithMaxWait sets how long a call may wait for its turn; with 0 none waits. No
// more wait than may be made in that time. Default: 1 s.
func WithMaxWait(d time.Duration) RateLimitOption {
	mustHave(fmt.Sprintf("WithMaxWait(%v): a duration that is not negative", d), d >= 0)
	return func(l *rateLimit) { l.maxWait = d }
}

func (l *rateLimit) intercept(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
	if !l.limiter.Allow() {
		if err := l.wait(ctx); err != nil {
			return err
		}
	}
	return next(ctx, call)
}

// wait returns when it is the call's turn, or why it will not be.
func (l *rateLimit) wait(ctx context.Context) error {
	if l.maxWait > 0 {
		err := l.limiter.Wait(before(ctx, time.Now().Add(l.maxWait)))
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return arpc.Unsent(arpc.Errorf(arpc.CodeOf(ctx.Err()), "call: given up while waiting for its turn (call.RateLimit): %w", context.Cause(ctx)))
		}
	}
	err := arpc.NewError(arpc.CodeResourceExhausted, fmt.Sprintf("call: over the limit of %v calls per second (call.RateLimit)", l.limiter.Limit()))
	return arpc.Unsent(err.WithDetail(retryAfter(l.nextTurn())))
}

// nextTurn returns how long the next one to come would wait.
func (l *rateLimit) nextTurn() time.Duration {
	seconds := (1 - l.limiter.Tokens()) / float64(l.limiter.Limit())
	return time.Duration(seconds * float64(time.Second))
}

// earlier is a context with an earlier deadline, which it does not enforce: by it a
// rate.Limiter knows whom to refuse at once. (A reservation that is canceled would
// not give everything back.)
type earlier struct {
	context.Context
	deadline time.Time
}

// before returns ctx with a deadline at t, unless its own is earlier.
func before(ctx context.Context, t time.Time) context.Context {
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(t) {
		return ctx
	}
	return earlier{ctx, t}
}

// Deadline returns the earlier deadline.
func (e earlier) Deadline() (time.Time, bool) { return e.deadline, true }
