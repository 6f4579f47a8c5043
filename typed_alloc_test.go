//go:build !race

package arpc_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// typedAllocRuns is large, so that what is allocated once rounds to nothing.
const typedAllocRuns = 2000

func typedAllocPair(t *testing.T) (*arpc.Handler, *arpc.Client) {
	s, addr := serve(t)
	return s.Handler, dial(t, addr)
}

// A typed call allocates the response more than one that passes a pointer to it.
func TestAllocTypedCall(t *testing.T) {
	h, c := typedAllocPair(t)
	ctx, req := context.Background(), bytes.Repeat([]byte("x"), 128)
	m := arpc.NewMethod[[]byte, []byte]("/echo")
	h.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	var rsp []byte
	untyped := testing.AllocsPerRun(typedAllocRuns, func() {
		require.NoError(t, c.CallWith(ctx, "/echo", &req, &rsp))
	})
	typed := testing.AllocsPerRun(typedAllocRuns, func() {
		_, err := m.Call(ctx, c, &req)
		require.NoError(t, err)
	})
	require.LessOrEqual(t, typed, untyped+1)
}

// A typed handler allocates what one does that binds the request and writes a
// pointer to the response.
func TestAllocTypedHandler(t *testing.T) {
	h, c := typedAllocPair(t)
	ctx, req := context.Background(), typedRequest{Name: "gopher"}
	h.Handle("/untyped", func(ctx *arpc.Context) {
		var req typedRequest
		if ctx.Bind(&req) == nil {
			ctx.Write(&typedReply{Text: req.Name})
		}
	})
	typedGreet.Handle(h, func(_ context.Context, req *typedRequest) (*typedReply, error) {
		return &typedReply{Text: req.Name}, nil
	})
	call := func(method string) float64 {
		var rsp typedReply
		return testing.AllocsPerRun(typedAllocRuns, func() {
			require.NoError(t, c.CallWith(ctx, method, &req, &rsp))
		})
	}
	require.LessOrEqual(t, call(typedGreet.Name()), call("/untyped"))
}

func TestAllocTypedNotify(t *testing.T) {
	h, c := typedAllocPair(t)
	done := make(chan struct{}, 1)
	h.Handle("/told", func(*arpc.Context) { done <- struct{}{} })
	n := arpc.NewNotice[[]byte]("/told")
	ctx, v := context.Background(), bytes.Repeat([]byte("x"), 128)
	allocs := testing.AllocsPerRun(typedAllocRuns, func() {
		require.NoError(t, n.Notify(ctx, c, &v))
		<-done
	})
	require.Zero(t, allocs)
}

// A stream that receives into one value allocates what the untyped one does.
func TestAllocTypedStream(t *testing.T) {
	h, c := typedAllocPair(t)
	h.HandleStream("/bytes", func(s *arpc.Stream) {
		for b, err := range s.RecvSeq() {
			if err != nil || s.Send(&b) != nil {
				return
			}
		}
	})
	s := typedOpen(t, typedBytes, c)
	v, text := bytes.Repeat([]byte("x"), 128), ""
	untyped := testing.AllocsPerRun(typedAllocRuns, func() {
		require.NoError(t, s.Stream().Send(&v))
		require.NoError(t, s.Stream().Recv(&text))
	})
	typed := testing.AllocsPerRun(typedAllocRuns, func() {
		require.NoError(t, s.Send(&v))
		require.NoError(t, s.RecvInto(&text))
	})
	require.LessOrEqual(t, typed, untyped)
}
