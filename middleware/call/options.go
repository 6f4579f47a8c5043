package call

import "slices"

// RetryOption is a setting of Retry.
type RetryOption interface{ toRetry(*retry) }

// HedgeOption is a setting of Hedge.
type HedgeOption interface{ toHedge(*hedge) }

// Option is a setting that Retry and Hedge both have.
type Option interface {
	RetryOption
	HedgeOption
}

type retryOption func(*retry)

func (fn retryOption) toRetry(r *retry) { fn(r) }

type hedgeOption func(*hedge)

func (fn hedgeOption) toHedge(h *hedge) { fn(h) }

// option is both.
type option struct {
	retryOption
	hedgeOption
}

// WithBudget sets what bounds the further attempts. Default: a budget of its own,
// NewBudget(0.2, 100) of a Retry and NewBudget(0.05, 100) of a Hedge.
func WithBudget(b *Budget) Option {
	mustHave("WithBudget: a budget", b != nil)
	return option{func(r *retry) { r.budget = b }, func(h *hedge) { h.budget = b }}
}

// WithIdempotent says that running calls of these methods twice does no harm, in
// addition to those that say so themselves: by arpc.Idempotent, or by
// arpc.ContextWithIdempotent.
func WithIdempotent(methods ...string) Option {
	methods = slices.Clone(methods)
	return option{
		func(r *retry) { r.idempotent.methods = append(r.idempotent.methods, methods...) },
		func(h *hedge) { h.idempotent.methods = append(h.idempotent.methods, methods...) },
	}
}

// mustHave panics unless a setting makes sense.
func mustHave(what string, ok bool) {
	if !ok {
		panic("call: " + what + " is needed")
	}
}
