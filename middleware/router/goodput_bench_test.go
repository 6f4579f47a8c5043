package router_test

import (
	"context"
	"crypto/sha256"
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
// callers who wait for 100 ms: capacity/s is measured with as many callers as are of
// use, good/s are the calls answered in time then, and %capacity is the ratio. Run it
// with -benchtime 1x.
func BenchmarkGoodput(b *testing.B) {
	for _, service := range []struct {
		name string
		new  func() arpc.HandlerFunc
	}{
		{"waiting", func() arpc.HandlerFunc { return newWorkshop(40, 20*time.Millisecond).handle }}, // for something else
		{"working", func() arpc.HandlerFunc { return work(2 * time.Millisecond) }},
	} {
		for _, shedding := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/shedding=%v", service.name, shedding), func(b *testing.B) {
				h, handle := arpc.NewHandler(), service.new()
				h.Handle("/alone", handle)
				if shedding {
					h.Use(router.NewAdaptive().Handler())
				}
				h.Handle("/work", handle)
				benchGoodput(b, connect(b, h))
			})
		}
	}
}

// work returns a handler that keeps a processor busy, for so long if it has it alone.
func work(d time.Duration) arpc.HandlerFunc {
	data := make([]byte, 4096)
	rounds := 0
	for start := time.Now(); time.Since(start) < d; rounds++ {
		sha256.Sum256(data)
	}
	return func(ctx *arpc.Context) {
		for range rounds {
			sha256.Sum256(data)
		}
		ctx.Write(nil)
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
