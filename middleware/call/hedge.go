package call

import (
	"context"
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
)

// hedge is what Hedge returns the method of.
type hedge struct {
	delay      time.Duration // fixed; 0: measured
	latencies  latencies
	budget     *Budget
	idempotent idempotency
}

// Hedge makes a second attempt at a call whose answer takes unusually long,
// without giving up the first, and returns what comes first: an answer, which may
// be an error of the handler. A failure that Retry would try again is none; the
// call then waits for the other attempt. The slower attempt is canceled, as its
// handler sees, and has ended when the call returns. In a pool the second attempt
// goes to whoever the picker chooses then.
//
// Only idempotent calls are hedged. Other calls, notifications and the opening of
// streams pass through.
//
// Attempts run at the same time, and both encode the request. What they receive is
// kept apart and decoded when it is known which counts: an interceptor behind
// Hedge finds a *[]byte in Call.Response, as with CallAsync.
func Hedge(opts ...HedgeOption) arpc.CallInterceptor {
	h := &hedge{latencies: latencies{quantile: 0.9, times: 2, methods: make(map[string]*latency)}}
	for _, opt := range opts {
		opt.toHedge(h)
	}
	if h.budget == nil {
		h.budget = NewBudget(0.05, 100)
	}
	return h.intercept
}

// WithDelay sets how long to wait for the first answer. Default: see WithQuantile.
func WithDelay(d time.Duration) HedgeOption {
	mustHave(fmt.Sprintf("WithDelay(%v): a positive duration", d), d > 0)
	return hedgeOption(func(h *hedge) { h.delay = d })
}

// WithQuantile has the time to wait for the first answer measured, for each method
// by itself: a share q of the last 1000 to 2000 calls took less than it, times a
// factor. It is at least 1 ms, and nothing is hedged in the first 100 calls.
// Default: 0.9 and 2, which is more than twice as long as nine calls in ten take.
//
// When more than 1-q of the calls are slow from the start, slow is what is usual,
// and they are not hedged.
func WithQuantile(q, times float64) HedgeOption {
	mustHave(fmt.Sprintf("WithQuantile(%v, %v): a share above 0 and below 1, and a factor of at least 1,", q, times), q > 0 && q < 1 && times >= 1)
	return hedgeOption(func(h *hedge) { h.delay, h.latencies.quantile, h.latencies.times = 0, q, times })
}

func (h *hedge) intercept(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
	if call.Kind != arpc.KindCall || !h.idempotent.of(ctx, call) || !decodable(call.Response) {
		return next(ctx, call)
	}
	h.budget.add()
	delay, m := h.delay, (*latency)(nil)
	if delay == 0 {
		m = h.latencies.of(call.Method)
		delay = m.hedgeAfter()
	}
	start := time.Now()
	var err error
	if delay == 0 || endsWithin(ctx, delay) {
		err = next(ctx, call)
	} else {
		r := race{ctx: ctx, call: call, next: next, mayHedge: h.budget.take, hedged: make(chan struct{})}
		err = r.run(delay)
	}
	if took := time.Since(start); tells(err, took, delay) {
		m.took(took)
	}
	return err
}

// tells reports whether a call says something about how long calls take. One that
// was ended before its time would make the others seem slow.
func tells(err error, took, delay time.Duration) bool {
	switch {
	case err == nil:
		return true
	case arpc.CodeOf(err) == arpc.CodeDeadlineExceeded:
		return delay > 0 && took >= delay
	}
	return arpc.IsRemote(err)
}
