package router_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

// What is left of a service's capacity when it is asked for three times as much, by
// callers who wait for five times of what a call takes alone: capacity/s is measured
// with as many callers as are of use, good/s are the calls answered in time then, and
// %capacity is the ratio. Run it with -benchtime 1x, on a machine that has nothing
// else to do.
func BenchmarkGoodput(b *testing.B) {
	for _, shedding := range []bool{false, true} {
		b.Run(fmt.Sprintf("shedding=%v", shedding), func(b *testing.B) {
			h, w := arpc.NewHandler(), newWorkshop(40, 20*time.Millisecond)
			h.Handle("/alone", w.handle)
			if shedding {
				h.Use(router.NewAdaptive().Handler())
			}
			h.Handle("/work", w.handle)
			benchGoodput(b, connect(b, h))
		})
	}
}

func benchGoodput(b *testing.B, c *arpc.Client) {
	const (
		during   = 5 * time.Second
		patience = 100 * time.Millisecond
	)
	var capacity, good float64
	for range b.N {
		perSecond := capacityOf(b, c)
		storm(c, "/work", 3*perSecond, during/2, patience)
		o := storm(c, "/work", 3*perSecond, during, patience)
		capacity += perSecond
		good += float64(o.good.Load()) / during.Seconds()
	}
	b.ReportMetric(capacity/float64(b.N), "capacity/s")
	b.ReportMetric(good/float64(b.N), "good/s")
	b.ReportMetric(100*good/capacity, "%capacity")
	b.ReportMetric(0, "ns/op")
}

// capacityOf returns how many calls a second are answered when there is always one
// more than can be.
func capacityOf(b *testing.B, c *arpc.Client) (perSecond float64) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var done atomic.Int64
	var callers sync.WaitGroup
	start := time.Now()
	for range 80 {
		callers.Go(func() {
			for c.CallWith(ctx, "/alone", nil, nil) == nil {
				done.Add(1)
			}
		})
	}
	callers.Wait()
	require.NotZero(b, done.Load())
	return float64(done.Load()) / time.Since(start).Seconds()
}
