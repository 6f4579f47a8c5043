package arpc_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// Two peers that flood each other with large calls in both directions at once
// make progress: neither reader waits for its own writes.
func TestFloodsInBothDirections(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		echo := func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) }
		p.Server.Handler.Handle("/flood", echo)
		p.Client.Handler.Handle("/flood", echo)
		body := bytes.Repeat([]byte("flood"), 400<<10/5)
		var callers sync.WaitGroup
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			for range 24 {
				callers.Go(func() {
					for range 2 {
						var rsp []byte
						if err := c.Call("/flood", body, &rsp, time.Minute); err != nil || !bytes.Equal(rsp, body) {
							t.Errorf("%d bytes, error %v", len(rsp), err)
							return
						}
					}
				})
			}
		}
		callers.Wait()
	}, arpctest.ServerOptions(arpc.WithSendQueue(64, 1<<20)), arpctest.ClientOptions(arpc.WithSendQueue(64, 1<<20)))
}

// A peer that stops reading: calls to it end by their own deadlines, others are
// not affected, memory stays within the bound, and the write timeout cuts it.
func TestPeerThatStopsReading(t *testing.T) {
	const bound = 4 << 20
	s, addr := serve(t, arpc.WithSendQueue(1000, bound), arpc.WithWriteTimeout(2*time.Second))
	connected := make(chan *arpc.Client, 2)
	s.Handler.HandleConnected(func(c *arpc.Client) { connected <- c })
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })

	deaf, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer deaf.Close()
	victim := <-connected
	other := dial(t, addr)

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	body := make([]byte, 64<<10)
	var sent, timedOut atomic.Int64
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			for ctx.Err() == nil {
				err := victim.CallWith(ctx, "/void", body, nil)
				sent.Add(1)
				if arpc.CodeOf(err) == arpc.CodeDeadlineExceeded {
					timedOut.Add(1)
				}
			}
		})
	}
	for range 100 {
		var rsp string
		require.NoError(t, other.Call("/echo", "still here", &rsp, 10*time.Second))
		require.Equal(t, "still here", rsp)
	}
	callers.Wait()
	require.EqualValues(t, 20, timedOut.Load())

	for victim.Notify("/void", body, arpc.TimeZero) == nil {
		sent.Add(1)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(4*bound), "after %d messages of 64 KiB", sent.Load())

	<-victim.Done()
	require.ErrorContains(t, victim.Err(), "WithWriteTimeout")
	require.ErrorIs(t, victim.Notify("/void", body, arpc.TimeZero), arpc.ErrClosed)
	n, _ := io.Copy(io.Discard, deaf)
	require.NotZero(t, n)
}
