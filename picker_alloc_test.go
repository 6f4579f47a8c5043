//go:build !race

package arpc_test

import (
	"net"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

func TestAllocPick(t *testing.T) {
	for name, picker := range poolPickers() {
		for _, lost := range []int{0, 1, 4} {
			pool, _ := poolStart(t, 4)
			pool.SetPicker(picker)
			for i := range lost {
				pool.Get(i).Stop()
			}
			require.Zero(t, testing.AllocsPerRun(1000, func() { pool.Next() }), "%s, %d of 4 lost", name, lost)
		}
	}
}

// A call through a pool allocates what a call does: nothing.
func TestAllocPoolCall(t *testing.T) {
	s, addr := serve(t)
	s.Handler.Handle("/ack", func(ctx *arpc.Context) { ctx.WriteBytes(nil) })
	pool, err := arpc.NewClientPool(func() (net.Conn, error) { return net.Dial("tcp", addr) }, 2)
	require.NoError(t, err)
	t.Cleanup(pool.Stop)
	req := make([]byte, 128)
	for name, picker := range poolPickers() {
		pool.SetPicker(picker)
		allocs := testing.AllocsPerRun(2000, func() {
			require.NoError(t, pool.Call("/ack", &req, nil, time.Minute))
		})
		require.Zero(t, allocs, name)
		allocs = testing.AllocsPerRun(2000, func() {
			require.NoError(t, pool.CallWith(t.Context(), "/ack", &req, nil))
		})
		require.Zero(t, allocs, name)
	}
}
