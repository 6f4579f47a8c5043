package router

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
)

// Bulkhead lets a number of messages and streams through at a time, so that one
// kind of work cannot take everything a process has; Only says which kind. What
// finds no place is turned away with CodeResourceExhausted, or waits in a queue, see
// WithQueue. It is safe for concurrent use, also by several handlers.
//
// A place is taken until the handler returns, though its request be detached or
// answered by Timeout before; a stream takes one for as long as it is handled. A
// handler that has its peer call back needs a place for that call too: see that
// there are enough.
type Bulkhead struct {
	// Set by NewBulkhead, never changed.
	queue    int           // how many may wait
	patience time.Duration // for how long; 0: as their context says
	full     error
	late     error

	places  chan struct{} // one in it for each place that is taken
	waiting atomic.Int64
	door    door
}

// BulkheadOption is a setting for NewBulkhead.
type BulkheadOption func(*Bulkhead)

// WithQueue has messages and streams wait for a place, in the order in which they
// come, no more than length of them and for no longer than patience; 0 is as long
// as somebody waits for the answer. A message that waits holds up those behind it
// if its route is ordered. Default: no queue. It panics if one of them is negative.
func WithQueue(length int, patience time.Duration) BulkheadOption {
	if length < 0 || patience < 0 {
		panic(fmt.Sprintf("router: WithQueue(%d, %v): neither can be negative", length, patience))
	}
	return func(b *Bulkhead) { b.queue, b.patience = length, patience }
}

// NewBulkhead returns a Bulkhead with this number of places. It panics if there is
// not at least one.
func NewBulkhead(places int, opts ...BulkheadOption) *Bulkhead {
	if places < 1 {
		panic(fmt.Sprintf("router: NewBulkhead(%d): at least one place is needed", places))
	}
	b := &Bulkhead{places: make(chan struct{}, places)}
	for _, opt := range opts {
		opt(b)
	}
	b.full = arpc.Errorf(arpc.CodeResourceExhausted, "%d are handled at a time (NewBulkhead) and %d wait (WithQueue)", places, b.queue)
	b.late = arpc.Errorf(arpc.CodeResourceExhausted, "none of %d places was free within %v (NewBulkhead, WithQueue)", places, b.patience)
	return b
}

// Handler returns the middleware.
func (b *Bulkhead) Handler() arpc.HandlerFunc { return b.handle }

func (b *Bulkhead) handle(ctx *arpc.Context) {
	if err := b.enter(ctx); err != nil {
		b.door.turnAway(ctx, err)
		return
	}
	defer b.leave()
	ctx.Next()
}

// Stream is the middleware for streams.
func (b *Bulkhead) Stream(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
	return func(s *arpc.Stream) {
		if err := b.enter(s.Context()); err != nil {
			b.door.failStream(s, err)
			return
		}
		defer b.leave()
		next(s)
	}
}

// InHand returns how many places are taken.
func (b *Bulkhead) InHand() int { return len(b.places) }

// Waiting returns how many wait for a place.
func (b *Bulkhead) Waiting() int { return int(b.waiting.Load()) }

// Refused returns how many requests and streams were refused.
func (b *Bulkhead) Refused() uint64 { return b.door.refused.Load() }

// Dropped returns how many notifications were dropped.
func (b *Bulkhead) Dropped() uint64 { return b.door.dropped.Load() }

func (b *Bulkhead) enter(ctx context.Context) error {
	select {
	case b.places <- struct{}{}:
		return nil
	default:
		return b.wait(ctx)
	}
}

func (b *Bulkhead) leave() { <-b.places }

// wait waits for a place in the queue, if there is room in it.
func (b *Bulkhead) wait(ctx context.Context) error {
	if !b.queueUp() {
		return b.full
	}
	defer b.waiting.Add(-1)
	var late <-chan time.Time
	if b.patience > 0 {
		timer := time.NewTimer(b.patience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case b.places <- struct{}{}:
		if ctx.Err() == nil {
			return nil
		}
		b.leave() // it came too late
	case <-late:
		return b.late
	case <-ctx.Done():
	}
	return arpc.Errorf(arpc.CodeOf(ctx.Err()), "nobody waits for an answer any more: %w", context.Cause(ctx))
}

func (b *Bulkhead) queueUp() bool {
	for {
		n := b.waiting.Load()
		if n >= int64(b.queue) {
			return false
		}
		if b.waiting.CompareAndSwap(n, n+1) {
			return true
		}
	}
}
