//go:build !race

package call_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/call"
)

// cost is how often an interceptor may allocate for a call that succeeds at once.
type cost struct {
	fn     arpc.CallInterceptor
	allocs int
}

func costs() map[string]cost {
	return map[string]cost{
		"Retry, idempotent":  {call.Retry(), 4},
		"Retry":              {notIdempotent(call.Retry()), 0},
		"Breaker":            {call.NewBreaker("x").Intercept, 0},
		"Breaker of a peer":  {call.NewBreaker("x", call.WithScope(call.PerPeer)).Intercept, 0},
		"RateLimit":          {call.RateLimit(1e9, 1e9), 0},
		"Only":               {call.Only(call.RateLimit(1e9, 1e9), "/x"), 0},
		"Hedge, not for it":  {call.Only(call.Hedge(), "/y"), 0},
		"Hedge that is fast": {call.Hedge(call.WithDelay(time.Hour)), 8},
		"Timeout":            {call.Timeout(time.Hour), 4},
	}
}

// notIdempotent has fn see a context that says nothing.
func notIdempotent(fn arpc.CallInterceptor) arpc.CallInterceptor {
	return func(_ context.Context, c *arpc.Call, next arpc.CallFunc) error {
		return fn(context.Background(), c, next)
	}
}

// What is in front of every call costs little while nothing goes wrong.
func TestAllocOfCallsThatSucceed(t *testing.T) {
	ctx := arpc.ContextWithIdempotent(t.Context())
	for name, c := range costs() {
		t.Run(name, func(t *testing.T) {
			one := &arpc.Call{Method: "/x", Client: aClient}
			allocs := testing.AllocsPerRun(1000, func() {
				if err := c.fn(ctx, one, nothing); err != nil {
					panic(err)
				}
			})
			require.LessOrEqual(t, int(allocs), c.allocs)
		})
	}
}

// BenchmarkCallThatSucceeds is the time that an interceptor adds to a call, with
// callers on all cores.
func BenchmarkCallThatSucceeds(b *testing.B) {
	ctx := arpc.ContextWithIdempotent(b.Context())
	for name, c := range costs() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				one := &arpc.Call{Method: "/x", Client: aClient}
				for pb.Next() {
					if err := c.fn(ctx, one, nothing); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
