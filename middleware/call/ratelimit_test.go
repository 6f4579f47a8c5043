package call_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/call"
)

func nothing(context.Context, *arpc.Call) error { return nil }

func TestRateLimitLetsCallsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen tally
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/x", func(ctx *arpc.Context) { seen.add("/x"); ctx.Write(nil) })
		}, call.RateLimit(10, 5))
		start := time.Now()
		for range 5 {
			require.NoError(t, p.Client.Call("/x", nil, nil, time.Minute))
		}
		require.Zero(t, time.Since(start), "a burst")
		for range 20 {
			require.NoError(t, p.Client.Call("/x", nil, nil, time.Minute))
		}
		require.InDelta(t, 2, time.Since(start).Seconds(), 0.001)
		require.Equal(t, 25, seen.of("/x"))
	})
}

func TestRateLimitRefusesAtOnceWhoWouldWaitTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := call.RateLimit(10, 1, call.WithMaxWait(500*time.Millisecond))
		errs := make(chan error, 100)
		for range 100 {
			go func() { errs <- limit(t.Context(), &arpc.Call{}, nothing) }()
		}
		synctest.Wait()
		require.Len(t, errs, 95, "one goes, five wait")
		passed := 0
		for range 95 {
			err := <-errs
			if err == nil {
				passed++
				continue
			}
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.True(t, arpc.SafeToRetry(err))
			require.EqualError(t, err, "call: over the limit of 10 calls per second (call.RateLimit)")
		}
		require.Equal(t, 1, passed)
		start := time.Now()
		for range 5 {
			require.NoError(t, <-errs)
		}
		require.InDelta(t, 0.5, time.Since(start).Seconds(), 0.001)
	})
}

// Those that are refused take nothing from the others.
func TestRateLimitIsReachedUnderAnyLoad(t *testing.T) {
	for name, wait := range map[string]time.Duration{"without waiting": 0, "with waiting": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := call.RateLimit(100, 10, call.WithMaxWait(wait))
				var passed tally
				var all sync.WaitGroup
				start := time.Now()
				for range 20 {
					all.Go(func() {
						for time.Since(start) < 5*time.Second {
							if limit(t.Context(), &arpc.Call{}, nothing) == nil {
								passed.add("")
							}
							time.Sleep(10 * time.Millisecond)
						}
					})
				}
				all.Wait()
				require.InDelta(t, 10+100*time.Since(start).Seconds(), passed.of(""), 10)
			})
		})
	}
}

func TestRateLimitRefusesWhoseDeadlineIsEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := call.RateLimit(1, 1, call.WithMaxWait(time.Minute))
		require.NoError(t, limit(t.Context(), &arpc.Call{}, nothing))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := limit(ctx, &arpc.Call{}, nothing)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.Zero(t, time.Since(start))
		var hint interface{ RetryAfter() time.Duration }
		require.ErrorAs(t, err, &hint)
		require.Equal(t, time.Second, hint.RetryAfter())
		require.ErrorContains(t, hint.(error), "retry after 1s")
		require.NoError(t, call.Retry()(t.Context(), &arpc.Call{}, func(ctx context.Context, c *arpc.Call) error { return limit(ctx, c, nothing) }))
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestRateLimitOfACanceledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := call.RateLimit(1, 1)
		require.NoError(t, limit(t.Context(), &arpc.Call{}, nothing))
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(500*time.Millisecond, func() { cancel(errMine) })
		start := time.Now()
		err := limit(ctx, &arpc.Call{}, nothing)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errMine)
		require.True(t, arpc.SafeToRetry(err))
		require.Equal(t, 500*time.Millisecond, time.Since(start))
		require.NoError(t, limit(t.Context(), &arpc.Call{}, nothing))
		require.Equal(t, time.Second, time.Since(start), "it gave its turn back")
	})
}

func TestRateLimitCountsEverythingThatBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, serve, call.RateLimit(1, 3, call.WithMaxWait(0)))
		require.NoError(t, p.Client.Call("/echo", "x", nil, time.Second))
		require.NoError(t, p.Client.Notify("/told", nil, time.Second))
		st, err := p.Client.OpenStream(t.Context(), "/talk")
		require.NoError(t, err)
		require.NoError(t, st.Close())
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(p.Client.Call("/echo", "x", nil, time.Second)))
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(p.Client.Notify("/told", nil, time.Second)))
		_, err = p.Client.OpenStream(t.Context(), "/talk")
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
	})
}

func TestRateLimitKeepsNotificationsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 100)
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/told", func(ctx *arpc.Context) { got <- string(ctx.Body()) }, false)
		}, call.RateLimit(1000, 1))
		for i := range 50 {
			require.NoError(t, p.Client.Notify("/told", string('A'+rune(i)), time.Second))
		}
		for i := range 50 {
			require.Equal(t, string('A'+rune(i)), <-got)
		}
	})
}

func TestRateLimitOfAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := connectPool(t, []func(*arpc.Handler){serve, serve}, call.RateLimit(10, 1))
		start := time.Now()
		for range 11 {
			require.NoError(t, pool.CallWith(t.Context(), "/echo", "x", nil))
		}
		require.InDelta(t, 1, time.Since(start).Seconds(), 0.001)
	})
}

func TestRateLimitThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { call.RateLimit(0, 1) })
	require.Panics(t, func() { call.RateLimit(1, 0) })
	require.Panics(t, func() { call.WithMaxWait(-1) })
}
