package router

import (
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
)

// Adaptive lets as many messages through at a time as their handlers can deal with,
// and turns the rest away with CodeResourceExhausted, so that a process that is asked
// for more than it can do goes on doing what it can. How many that are it finds out:
// more handlers at a time are of no use once each takes longer for it. It is safe
// for concurrent use, also by several handlers.
//
// It sees the time that handlers take, and not what waits in sockets before them;
// limit what it is for with Only if some routes take much longer than others. Times
// under a millisecond are never too long. It needs some sixteen messages for each
// step: where there are less than a hundred a second a Bulkhead does better. A
// request that is detached counts with the time of its handler. For streams, which
// last as long as they last, there is Bulkhead.
type Adaptive struct {
	born     time.Time
	gradient gradient
	door     door
}

// AdaptiveOption is a setting for NewAdaptive.
type AdaptiveOption func(*Adaptive)

// WithLimits sets the lowest and the highest limit, and the one to begin with.
// Default: 1, 1000 and 16. It panics unless 1 <= lowest <= first <= highest.
func WithLimits(lowest, first, highest int) AdaptiveOption {
	if lowest < 1 || first < lowest || highest < first {
		panic(fmt.Sprintf("router: WithLimits(%d, %d, %d): they must be positive and in order", lowest, first, highest))
	}
	return func(a *Adaptive) {
		a.gradient.lowest, a.gradient.limit, a.gradient.highest = float64(lowest), float64(first), float64(highest)
	}
}

// NewAdaptive returns an Adaptive that knows nothing yet.
func NewAdaptive(opts ...AdaptiveOption) *Adaptive {
	a := &Adaptive{born: time.Now()}
	a.gradient.interval = 1
	WithLimits(1, 16, 1000)(a)
	for _, opt := range opts {
		opt(a)
	}
	return a
}

var errOverloaded = arpc.NewError(arpc.CodeResourceExhausted, "overloaded (NewAdaptive)")

// Handler returns the middleware.
func (a *Adaptive) Handler() arpc.HandlerFunc { return a.handle }

func (a *Adaptive) handle(ctx *arpc.Context) {
	p := passage{start: time.Since(a.born)}
	var ok bool
	if p.round, ok = a.gradient.enter(p.start); !ok {
		a.door.turnAway(ctx, errOverloaded)
		return
	}
	defer a.leave(ctx, &p)
	ctx.Next()
	p.returned = true
}

// passage is a message on its way through.
type passage struct {
	start    time.Duration // since Adaptive.born
	round    uint64
	returned bool
}

func (a *Adaptive) leave(ctx *arpc.Context, p *passage) {
	a.gradient.leave(p.round, p.start, time.Since(a.born), p.returned && tells(ctx))
}

// tells reports whether the time that a message took says something about the load.
// Who fails is often quick; who ran out of time is not.
func tells(ctx *arpc.Context) bool {
	_, failed := ctx.Answered()
	return !failed || ctx.Err() != nil
}

// Limit returns how many messages are let through at a time now.
func (a *Adaptive) Limit() int {
	limit, _ := a.gradient.state()
	return limit
}

// InHand returns how many messages are being handled.
func (a *Adaptive) InHand() int {
	_, inHand := a.gradient.state()
	return inHand
}

// Refused returns how many requests were refused.
func (a *Adaptive) Refused() uint64 { return a.door.refused.Load() }

// Dropped returns how many notifications were dropped.
func (a *Adaptive) Dropped() uint64 { return a.door.dropped.Load() }
