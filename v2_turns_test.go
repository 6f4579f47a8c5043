package arpc_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Queue makes calls with numbers as their bodies, one behind the other.
func v2Queue(t *testing.T, ctx context.Context, c *arpc.Client, from, to int) []<-chan error {
	t.Helper()
	var results []<-chan error
	for i := from; i <= to; i++ {
		result := make(chan error, 1)
		go func() { result <- c.CallWith(ctx, "/m", fmt.Sprint(i), nil) }()
		results = append(results, result)
		synctest.Wait()
	}
	return results
}

func TestV2CallsOverThePeersLimitWaitForTheirTurnInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxInflight: 3}, suiteNoKeepalive)
		results := v2Queue(t, t.Context(), c, 1, 20)
		require.Equal(t, 3, c.Inflight())
		inHand := []rowFrame{p.next(), p.next(), p.next()}
		for i := 4; i <= 20; i++ {
			p.answer(inHand[0], "")
			inHand = append(inHand[1:], p.next())
			require.Equal(t, fmt.Sprint(i), inHand[2].payload)
			synctest.Wait()
			require.Equal(t, 3, c.Inflight())
		}
		for _, f := range inHand {
			p.answer(f, "")
		}
		for _, result := range results {
			require.NoError(t, <-result)
		}
		require.Zero(t, c.Inflight())
	})
}

// Whoever calls again as soon as it has its answer goes to the end of the queue.
func TestV2CallerThatCallsAgainDoesNotOvertakeThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxInflight: 1}, suiteNoKeepalive)
		var eager sync.WaitGroup
		eager.Go(func() {
			for range 3 {
				assert.NoError(t, c.CallWith(t.Context(), "/m", "eager", nil))
			}
		})
		synctest.Wait()
		v2Queue(t, t.Context(), c, 1, 20)
		var order []string
		for range 23 {
			f := p.next()
			order = append(order, f.payload)
			p.answer(f, "")
		}
		eager.Wait()
		require.Equal(t, "eager", order[0])
		for i := 1; i <= 20; i++ {
			require.Equal(t, fmt.Sprint(i), order[i], "%v", order)
		}
	})
}

func TestV2WaitForATurnEndsWithTheContextAndTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxInflight: 1}, suiteNoKeepalive)
		v2Queue(t, t.Context(), c, 1, 1)
		p.next()
		start := time.Now()
		suiteUnsent(t, c.Call("/m", "x", nil, 2*time.Second), arpc.CodeDeadlineExceeded)
		suiteUnsent(t, c.CallAsync("/m", "x", func(*arpc.Context) { t.Error("a callback") }, 2*time.Second), arpc.CodeDeadlineExceeded)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		suiteUnsent(t, c.CallWith(ctx, "/m", "x", nil), arpc.CodeDeadlineExceeded)
		require.Equal(t, 6*time.Second, time.Since(start))
		require.NoError(t, c.Notify("/m", "notifications do not wait", arpc.TimeZero))
		require.Equal(t, "notifications do not wait", p.next().payload)
	})
}

func TestV2CallThatIsCancelledWhileItWaitsPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxInflight: 1}, suiteNoKeepalive)
		v2Queue(t, t.Context(), c, 1, 1)
		first := p.next()
		ctx, cancel := context.WithCancel(t.Context())
		given := v2Queue(t, ctx, c, 2, 5)
		last := v2Queue(t, t.Context(), c, 6, 6)
		cancel()
		for _, result := range given {
			suiteUnsent(t, <-result, arpc.CodeCanceled)
		}
		p.answer(first, "")
		f := p.next()
		require.Equal(t, "6", f.payload)
		p.answer(f, "")
		require.NoError(t, <-last[0])
	})
}

// Whoever is cancelled at the moment its turn comes passes it on as well.
func TestV2NoTurnIsLost(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.ServerOptions(arpc.WithMaxInflight(2)))
	p.Server.Handler.Handle("/m", func(ctx *arpc.Context) {
		time.Sleep(100 * time.Microsecond)
		ctx.Write("x")
	})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*j)%17)*100*time.Microsecond)
				p.Client.CallWith(ctx, "/m", "x", nil)
				cancel()
			}
		})
	}
	all.Wait()
	require.Eventually(t, func() bool { return p.Client.Inflight() == 0 }, suitePatience, suiteTick)
	for range 10 {
		require.NoError(t, p.Client.Call("/m", "x", nil, suitePatience))
	}
}

// The peer is told what is left of the time when the request leaves.
func TestV2TimeSpentWaitingForATurnIsNotTheHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxInflight: 1}, suiteNoKeepalive)
		v2Queue(t, t.Context(), c, 1, 1)
		first := p.next()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls := map[string]func() error{
			"CallWith": func() error { return c.CallWith(ctx, "/m", "x", nil) },
			"Call":     func() error { return c.Call("/m", "x", nil, 10*time.Second) },
		}
		start := time.Now()
		results := make(chan error, 2)
		for _, call := range calls {
			go func() { results <- call() }()
		}
		time.Sleep(4 * time.Second)
		p.answer(first, "")
		for range calls {
			f := p.next()
			meta, err := wire.ParseMeta([]byte(f.payload[1 : 1+f.payload[0]]))
			require.NoError(t, err)
			require.Equal(t, uint64(6_000_000), meta.Timeout)
			p.answer(f, "")
		}
		for range calls {
			require.NoError(t, <-results)
		}
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

func TestV2CallsThatWaitForATurnWereNeverSentWhenTheConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, d := v2Connect(t, wire.Hello{MaxInflight: 1}, suiteNoKeepalive)
		results := v2Queue(t, t.Context(), c, 1, 5)
		p.next()
		p.nc.Close()
		require.False(t, arpc.SafeToRetry(<-results[0]))
		for _, result := range results[1:] {
			suiteUnsent(t, <-result, arpc.CodeUnavailable)
		}
		p = <-d.peers // the next connection begins with an empty queue
		p.welcome(wire.Hello{MaxInflight: 1})
		synctest.Wait()
		result := v2Queue(t, t.Context(), c, 9, 9)
		p.answer(p.next(), "")
		require.NoError(t, <-result[0])
	})
}

// With WithWaitForReady what was never sent waits for the next connection.
func TestV2CallsThatWereNeverSentWaitForTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, d := v2Connect(t, wire.Hello{MaxInflight: 1}, suiteNoKeepalive, arpc.WithWaitForReady(true))
		results := v2Queue(t, t.Context(), c, 1, 5)
		p.next()
		p.nc.Close()
		require.False(t, arpc.SafeToRetry(<-results[0]), "this one was")
		p = <-d.peers
		p.welcome(wire.Hello{})
		for range 4 {
			p.answer(p.next(), "")
		}
		for _, result := range results[1:] {
			require.NoError(t, <-result)
		}
	})
}

// A handler that waits for its turn does not keep the answers from being read.
func TestV2HandlerMayWaitForItsTurn(t *testing.T) {
	v2Each(t, func(t *testing.T, p *arpctest.Pair) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { assert.NoError(t, p.Client.Call("/back", "x", nil, suitePatience)) })
		}
		all.Wait()
	}, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		suiteWithEcho(s, client)
		s.Handler.Handle("/back", func(ctx *arpc.Context) { ctx.Write(ctx.Client.CallWith(ctx, "/echo", "x", nil)) })
	}), arpctest.ClientOptions(arpc.WithMaxInflight(1)), arpctest.ServerOptions(arpc.WithMaxInflight(50)))
}

func TestV2ManyCallersShareAFewTurns(t *testing.T) { v2ManyCallers(t, 5000) }

// v2ManyCallers has so many call over one connection to a peer that takes a hundred
// at a time: all are served, a hundred at a time, and nobody is refused.
func v2ManyCallers(t *testing.T, callers int) {
	t.Helper()
	const limit, each = 100, 10 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ServerOptions(arpc.WithMaxInflight(limit)), arpctest.ClientOptions(suiteNoKeepalive))
		var running, most atomic.Int64
		p.Server.Handler.Handle("/m", func(ctx *arpc.Context) {
			n := running.Add(1)
			for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			}
			time.Sleep(each)
			running.Add(-1) // before: the answer is what lets the next one come
			ctx.Write("x")
		})
		start := time.Now()
		var all sync.WaitGroup
		for range callers {
			all.Go(func() { assert.NoError(t, p.Client.Call("/m", "x", nil, time.Hour)) })
		}
		all.Wait()
		require.LessOrEqual(t, most.Load(), int64(limit))
		require.LessOrEqual(t, time.Since(start), 2*each*time.Duration(callers/limit+1))
	})
}
