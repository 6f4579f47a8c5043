package router_test

import (
	"bytes"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

// What each middleware costs a call, and all of them together: 100 callers on one
// TCP connection, 128 bytes there and back.
func BenchmarkChain(b *testing.B) {
	for _, chain := range benchChains() {
		b.Run(chain.name, func(b *testing.B) {
			h := arpc.NewHandler()
			h.HandleConnected(func(c *arpc.Client) { c.SetIdentity("ann") }) // as a HandleAuth hook would
			for _, mw := range chain.middleware {
				h.Use(mw)
			}
			h.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
			benchCalls(b, connect(b, h), 100)
		})
	}
}

type benchChain struct {
	name       string
	middleware []arpc.HandlerFunc
}

func benchChains() []benchChain {
	const enough = 1e9 // per second
	recovers := router.Recover(router.WithLogger(slog.New(slog.DiscardHandler)))
	logs := router.Logger(router.WithLogger(slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))), router.WithSampling(1_000_000, 1))
	timeout := router.NewTimeout(30 * time.Second).Handler()
	limit := router.NewRateLimit(router.ByPeer(), enough, enough).Handler()
	auth := router.NewAuth(router.Allow(router.Known(), "/*"), router.Allow(router.Role("admin"), "/admin/*")).Handler()
	return []benchChain{
		{"empty", nil},
		{"Recover", []arpc.HandlerFunc{recovers}},
		{"Logger", []arpc.HandlerFunc{logs}},
		{"Timeout", []arpc.HandlerFunc{timeout}},
		{"RateLimit", []arpc.HandlerFunc{limit}},
		{"Auth", []arpc.HandlerFunc{auth}},
		{"Bulkhead", []arpc.HandlerFunc{router.NewBulkhead(1000).Handler()}},
		{"Adaptive", []arpc.HandlerFunc{router.NewAdaptive(router.WithLimits(100, 1000, 1000)).Handler()}},
		{"Validate", []arpc.HandlerFunc{router.Validate()}},
		{"Graceful", []arpc.HandlerFunc{router.NewGraceful().Handler()}},
		{"all", []arpc.HandlerFunc{logs, recovers, auth, limit, timeout}},
	}
}

func benchCalls(b *testing.B, c *arpc.Client, callers int) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			req, rsp := bytes.Repeat([]byte("x"), 128), []byte(nil)
			for left.Add(-1) >= 0 {
				if err := c.Call("/echo", &req, &rsp, time.Minute); err != nil || len(rsp) != len(req) {
					b.Errorf("%d bytes, error %v", len(rsp), err)
					return
				}
			}
		})
	}
	all.Wait()
	require.False(b, b.Failed())
}
