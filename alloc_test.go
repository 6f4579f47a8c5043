//go:build !race

package arpc_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// An echo call allocates the response's bytes and nothing else, on both ends
// together. Contexts come 64 to an allocation, which rounds to nothing.
func TestAllocCall(t *testing.T) {
	s, addr := serve(t)
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	c := dial(t, addr)
	req, rsp := bytes.Repeat([]byte("x"), 128), []byte(nil)
	allocs := testing.AllocsPerRun(2000, func() {
		require.NoError(t, c.Call("/echo", &req, &rsp, time.Minute))
	})
	require.LessOrEqual(t, allocs, 1.0)
}

// An echo call into a buffer allocates nothing on either end.
func TestAllocCallIntoBuffer(t *testing.T) {
	s, addr := serve(t)
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	c := dial(t, addr)
	var req, rsp bytes.Buffer
	req.WriteString(strings.Repeat("x", 128))
	allocs := testing.AllocsPerRun(2000, func() {
		require.NoError(t, c.Call("/echo", &req, &rsp, time.Minute))
	})
	require.Zero(t, allocs)
	require.Equal(t, req.String(), rsp.String())
}

// A call without a response to decode allocates nothing on either end.
func TestAllocEmptyCall(t *testing.T) {
	s, addr := serve(t)
	s.Handler.Handle("/ack", func(ctx *arpc.Context) { ctx.WriteBytes(nil) })
	c := dial(t, addr)
	req := bytes.Repeat([]byte("x"), 128)
	allocs := testing.AllocsPerRun(2000, func() {
		require.NoError(t, c.Call("/ack", &req, nil, time.Minute))
	})
	require.Zero(t, allocs)
}

func TestAllocNotify(t *testing.T) {
	s, addr := serve(t)
	done := make(chan struct{}, 1)
	s.Handler.Handle("/n", func(ctx *arpc.Context) {
		if len(ctx.Body()) == 128 {
			done <- struct{}{}
		}
	})
	c := dial(t, addr)
	v := bytes.Repeat([]byte("x"), 128)
	allocs := testing.AllocsPerRun(2000, func() {
		require.NoError(t, c.Notify("/n", &v, time.Minute))
		<-done
	})
	require.Zero(t, allocs)
}

// A call with a callback allocates nothing on either end.
func TestAllocCallAsync(t *testing.T) {
	s, addr := serve(t)
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	c := dial(t, addr)
	req, done := bytes.Repeat([]byte("x"), 128), make(chan int, 1)
	callback := func(ctx *arpc.Context) { done <- len(ctx.Body()) }
	allocs := testing.AllocsPerRun(2000, func() {
		require.NoError(t, c.CallAsync("/echo", &req, callback, time.Minute))
		require.Equal(t, len(req), <-done)
	})
	require.Zero(t, allocs)
}

// A broadcast allocates the message, however many clients there are.
func TestAllocBroadcast(t *testing.T) {
	s, addr := serve(t)
	const clients = 10
	done := make(chan struct{}, clients)
	for range clients {
		dial(t, addr).Handler.Handle("/n", func(*arpc.Context) { done <- struct{}{} })
	}
	require.Eventually(t, func() bool { return len(s.Clients()) == clients }, 10*time.Second, time.Millisecond)
	v := bytes.Repeat([]byte("x"), 128)
	allocs := testing.AllocsPerRun(2000, func() {
		require.NoError(t, s.Broadcast("/n", &v))
		for range clients {
			<-done
		}
	})
	require.LessOrEqual(t, allocs, 3.0)
}
