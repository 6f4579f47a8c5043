package router_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// wholeChain has everything in the order that the package says.
func wholeChain(h *arpc.Handler) {
	quiet := router.WithLogger(slog.New(slog.DiscardHandler))
	h.Use(router.Logger(quiet))
	h.Use(router.Recover(quiet))
	h.Use(router.NewGraceful().Handler())
	h.Use(router.NewAuth(router.Allow(router.Anyone(), "*")).Handler())
	h.Use(router.NewRateLimit(router.ByPeer(), 1000, 1000).Handler())
	h.Use(router.NewTimeout(time.Minute).Handler())
	h.Use(router.NewAdaptive().Handler())
	h.Use(router.NewBulkhead(100).Handler())
	h.Use(router.Validate())
}

// With the whole chain around them handlers that take long delay nobody, and call
// back over the connection they serve.
func TestWholeChainLeavesTheConnectionToOthers(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		release := make(chan struct{})
		p := serve(t, world, func(h *arpc.Handler) {
			wholeChain(h)
			h.Handle("/held", func(ctx *arpc.Context) { <-release; ctx.Write("done") })
			h.Handle("/fast", answering)
			h.Handle("/back", func(ctx *arpc.Context) {
				var text string
				if err := ctx.Client.CallWith(ctx, "/name", nil, &text); err != nil {
					ctx.Error(err)
					return
				}
				ctx.Write("hello " + text)
			})
		}, arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
			client.Handle("/name", func(ctx *arpc.Context) { ctx.Write("you") })
		}))
		held := make(chan error, 1)
		go func() { held <- p.Client.CallWith(t.Context(), "/held", nil, nil) }()
		settle()
		for range 10 {
			start := time.Now()
			require.NoError(t, p.Client.CallWith(t.Context(), "/fast", nil, nil))
			require.Zero(t, time.Since(start))
			var text string
			require.NoError(t, p.Client.CallWith(t.Context(), "/back", nil, &text))
			require.Equal(t, "hello you", text)
		}
		close(release)
		require.NoError(t, <-held)
	})
}
