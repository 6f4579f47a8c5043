package call_test

import (
	"fmt"
	"math/rand/v2"
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

// rough is a server that answers with what it got, late, or with an error.
func rough(h *arpc.Handler) {
	h.Handle("/read", func(ctx *arpc.Context) {
		switch rand.IntN(20) {
		case 0:
			ctx.Error(arpc.NewError(arpc.CodeUnavailable, "not now"))
		case 1:
			ctx.Error(arpc.NewError(arpc.CodeInternal, "a bug"))
		case 2:
			if pause(ctx, time.Second) {
				ctx.Write(ctx.Body())
			}
		default:
			if pause(ctx, rand.N(5*time.Millisecond)) {
				ctx.SetMetadata("of", string(ctx.Body()))
				ctx.Write(ctx.Body())
			}
		}
	})
}

// cutNowAndThen breaks connections of a pool until over is called.
func cutNowAndThen(pool *arpc.ClientPool) (over func()) {
	var end atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for !end.Load() {
			time.Sleep(rand.N(200 * time.Millisecond))
			arpctest.FaultsOf(pool.Get(rand.IntN(pool.Size())).Conn()).Cut()
		}
	})
	return func() { end.Store(true); all.Wait() }
}

// callFromMany makes calls from so many goroutines and returns how many failed.
func callFromMany(t *testing.T, c arpc.Caller, callers, times int) int64 {
	var failed atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for j := range times {
				req := fmt.Sprintf("%d/%d", i, j)
				var rsp string
				var md arpc.Metadata
				if err := c.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &md), "/read", req, &rsp); err != nil {
					failed.Add(1)
				} else if rsp != req || md["of"] != "" && md["of"] != req {
					t.Errorf("%s was answered with %s, %v", req, rsp, md)
				}
			}
		})
	}
	all.Wait()
	return failed.Load()
}

// Everything at once, over a pool whose connections break: an answer is that of its
// own call, and most calls get one.
func TestAllOfThemTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker := call.NewBreaker("members", call.WithScope(call.PerPeer), call.WithOpenFor(time.Second))
		pool := connectPool(t, []func(*arpc.Handler){rough, rough, rough},
			call.Timeout(10*time.Second),
			call.Retry(call.WithIdempotent("/read"), call.WithMaxAttempts(6), call.WithBudget(call.NewBudget(0.5, 100))),
			call.Hedge(call.WithIdempotent("/read")),
			breaker.Intercept,
			call.RateLimit(5000, 500),
			call.Timeout(2*time.Second),
		)
		pool.SetPicker(breaker.Picker(arpc.LeastInFlight()))
		over := cutNowAndThen(pool)
		failed := callFromMany(t, pool, 20, 100)
		over()
		require.Less(t, failed, int64(400), "of 2000; one in twenty is an answer that is an error")
		time.Sleep(time.Minute)
		for _, m := range pool.Members() {
			require.Zero(t, m.Inflight())
		}
	})
}
