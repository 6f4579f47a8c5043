//go:build linux && !race

package arpc_test

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

const idlePeers = 2000

// A connection that has answered a call and rests costs less than 5 KiB of heap and
// stack, in which the goroutine that waits for its bytes has 2 KiB.
func TestIdleConnectionsAreCheap(t *testing.T) {
	called := make(chan struct{}, idlePeers)
	s, addr := serve(t)
	s.Handler.Handle("/echo", func(ctx *arpc.Context) {
		ctx.Write(ctx.Body())
		called <- struct{}{}
	})
	before := usedMemory()
	exited, end := peersApart(t, "TestIdlePeers", "ARPC_TEST_IDLE", addr)
	for range idlePeers {
		select {
		case <-called:
		case err := <-exited:
			require.FailNow(t, "the peers ended", "%v", err)
		}
	}
	var each int64
	rests := func() bool {
		each = (usedMemory() - before) / idlePeers
		return each < 5<<10
	}
	require.Eventually(t, rests, 30*time.Second, 100*time.Millisecond)
	t.Logf("%d bytes a connection", each)
	require.Len(t, s.Clients(), idlePeers)
	end()
}

// TestIdlePeers is the other process of the test above; by itself it does nothing.
func TestIdlePeers(t *testing.T) {
	addr := os.Getenv("ARPC_TEST_IDLE")
	if addr == "" {
		return
	}
	for range idlePeers {
		c := dial(t, addr)
		require.NoError(t, c.Call("/echo", make([]byte, 128), nil, time.Minute))
	}
	io.Copy(io.Discard, os.Stdin) // until the test has measured
}
