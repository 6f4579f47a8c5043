//go:build !race

package command_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// Of both ends together: the command in an interface at the one and decoded at the
// other, the Reply, the result in an interface and decoded. The call itself takes what a
// call with the same values takes.
func TestAllocSend(t *testing.T) {
	p, s := pair(t, arpctest.TCP(), double, arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		s.Handler.Handle("/plain", func(ctx *arpc.Context) {
			var o order
			if err := ctx.Bind(&o); err != nil {
				ctx.Error(err)
				return
			}
			ctx.Write(2 * o.N)
		})
	}))
	ctx := context.Background()
	plain := testing.AllocsPerRun(2000, func() {
		var n int
		require.NoError(t, p.Client.CallWith(ctx, "/plain", order{1000}, &n))
	})
	sent := testing.AllocsPerRun(2000, func() {
		n, err := command.Send(ctx, s, order{1000})
		require.NoError(t, err)
		require.Equal(t, 2000, n)
	})
	t.Logf("a command takes %v allocations, a call %v", sent, plain)
	require.LessOrEqual(t, sent, plain+2)
}
