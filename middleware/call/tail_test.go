package call_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/call"
)

// stalling is a server that stalls some requests for a second.
type stalling struct {
	stalls func(n int64) bool // the request number n
	usual  time.Duration      // what the others take

	requests, stalled, canceled atomic.Int64
}

func (s *stalling) register(h *arpc.Handler) {
	h.Handle("/read", func(ctx *arpc.Context) {
		takes := s.usual
		if s.stalls(s.requests.Add(1)) {
			s.stalled.Add(1)
			takes = time.Second
		}
		if takes > 0 && !pause(ctx, takes) {
			s.canceled.Add(1)
			return
		}
		ctx.Write(ctx.Body())
	})
}

// pause reports whether ctx lasted that long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// load makes n calls from so many goroutines and returns how long each took,
// shortest first.
func load(tb testing.TB, c arpc.Caller, callers, n int) []time.Duration {
	took := make([]time.Duration, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			ctx := arpc.ContextWithIdempotent(tb.Context())
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				start := time.Now()
				if err := c.CallWith(ctx, "/read", "x", nil); err != nil {
					tb.Error(err)
				}
				took[i] = time.Since(start)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// The hedges that the benchmark compares.
func hedges() map[string]arpc.CallInterceptor {
	return map[string]arpc.CallInterceptor{
		"fixed":    call.Hedge(call.WithDelay(20 * time.Millisecond)),
		"measured": call.Hedge(),
	}
}

// One request in twenty stalls for a second: the slowest call of a hundred takes less
// than a tenth of that, for a twentieth more calls, and the handlers of the attempts
// that lost are told.
func TestHedgeCutsTheTail(t *testing.T) {
	const n = 3000
	for name, hedge := range hedges() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stalling{stalls: func(n int64) bool { return n%20 == 0 }, usual: 2 * time.Millisecond}
				p := connect(t, s.register, hedge)
				load(t, p.Client, 20, 200)
				synctest.Wait()
				requests, stalled, canceled := s.requests.Load(), s.stalled.Load(), s.canceled.Load()

				took := load(t, p.Client, 20, n)
				synctest.Wait()
				require.Less(t, quantile(took, 0.99), 100*time.Millisecond)
				require.LessOrEqual(t, float64(s.requests.Load()-requests-n)/n, 0.06)
				notCanceled := s.stalled.Load() - stalled - (s.canceled.Load() - canceled)
				slow, _ := slices.BinarySearch(took, time.Second)
				require.EqualValues(t, n-slow, notCanceled, "only those that a caller waited for in vain ran to their end")
				require.Zero(t, p.Client.Inflight())
			})
		})
	}
}

// BenchmarkHedge is the same over TCP, in real time and with random stalls. Reported
// are p50 and p99, how many percent more requests there were than calls, and for how
// many percent of them a handler was told that nobody waits any more.
//
//	go test -run '^$' -bench Hedge -benchtime 20000x ./middleware/call
func BenchmarkHedge(b *testing.B) {
	all := hedges()
	all["none"] = func(ctx context.Context, c *arpc.Call, next arpc.CallFunc) error { return next(ctx, c) }
	for _, name := range []string{"none", "fixed", "measured"} {
		b.Run(name, func(b *testing.B) {
			s := &stalling{stalls: func(int64) bool { return rand.IntN(20) == 0 }}
			p := arpctest.New(b, arpctest.TCP(), arpctest.Setup(func(server *arpc.Server, client *arpc.Handler) {
				s.register(server.Handler)
				client.UseCall(all[name])
			}))
			load(b, p.Client, 100, 200)
			requests, canceled := s.requests.Load(), s.canceled.Load()
			b.ResetTimer()
			took := load(b, p.Client, 100, b.N)
			b.StopTimer()
			extra := s.requests.Load() - requests - int64(b.N)
			b.ReportMetric(float64(quantile(took, 0.5).Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(quantile(took, 0.99).Microseconds())/1000, "p99-ms")
			b.ReportMetric(100*float64(extra)/float64(b.N), "%extra")
			if extra > 0 {
				b.ReportMetric(100*float64(s.canceled.Load()-canceled)/float64(extra), "%canceled")
			}
		})
	}
}
