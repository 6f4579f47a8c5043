//go:build !race

package router_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

// allocRuns is large, so that what is allocated once rounds to nothing.
const allocRuns = 2000

// What is let through costs no allocation, except that Validate needs one to be
// remembered.
func TestAllocMiddleware(t *testing.T) {
	for _, chain := range benchChains() {
		t.Run(chain.name, func(t *testing.T) {
			h := arpc.NewHandler()
			h.HandleConnected(func(c *arpc.Client) { c.SetIdentity("ann") })
			for _, mw := range chain.middleware {
				h.Use(mw)
			}
			h.Handle("/ack", func(ctx *arpc.Context) { ctx.WriteBytes(nil) })
			c, ctx, req := connect(t, h), context.Background(), make([]byte, 128)
			allocs := testing.AllocsPerRun(allocRuns, func() {
				require.NoError(t, c.CallWith(ctx, "/ack", &req, nil))
			})
			want := 0.0
			if chain.name == "Validate" {
				want = 1
			}
			require.Equal(t, want, allocs)
		})
	}
}
