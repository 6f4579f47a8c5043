package router_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
)

// workshop is a service that can do a number of things at a time, each of which
// takes about so long: a database, say.
type workshop struct {
	places chan struct{}
	each   time.Duration
}

func newWorkshop(places int, each time.Duration) *workshop {
	return &workshop{places: make(chan struct{}, places), each: each}
}

// capacity is what it can do in a second.
func (w *workshop) capacity() float64 { return float64(cap(w.places)) / w.each.Seconds() }

func (w *workshop) handle(ctx *arpc.Context) {
	w.places <- struct{}{}
	time.Sleep(time.Duration(float64(w.each) * (0.5 + rand.Float64())))
	<-w.places
	ctx.Write(nil)
}

// outcomes counts how calls have ended.
type outcomes struct{ good, refused, late atomic.Int64 }

// storm calls so many times a second, whether or not there are answers, and waits
// for those that are still to come. Callers wait for patience.
func storm(c *arpc.Client, method string, perSecond float64, during, patience time.Duration) *outcomes {
	var o outcomes
	var calls sync.WaitGroup
	start := time.Now()
	for next := time.Duration(0); next < during; next += time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second)) {
		time.Sleep(next - time.Since(start))
		calls.Go(func() { o.call(c, method, patience) })
	}
	calls.Wait()
	return &o
}

func (o *outcomes) call(c *arpc.Client, method string, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch err := c.CallWith(ctx, method, nil, nil); {
	case err == nil:
		o.good.Add(1)
	case arpc.CodeOf(err) == arpc.CodeResourceExhausted:
		o.refused.Add(1)
	default:
		o.late.Add(1)
	}
}
