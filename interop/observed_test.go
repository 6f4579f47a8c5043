package interop

import (
	"context"
	"testing"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// What docs/migrate/arpc.md says of the old library and is easily seen. When one of
// these fails with a later version of it, the guide is to be changed.

func observe(t *testing.T, prepare func(old.Handler)) oldClient {
	server := serveOld(t, setup{old: prepare})
	return dialOld(t, server.dial, setup{})
}

func TestObservedValuesThatCannotBeEncodedAreSentEmpty(t *testing.T) {
	bodies := make(chan string, 1)
	client := observe(t, func(h old.Handler) {
		h.Handle("/body", func(ctx *old.Context) {
			bodies <- string(ctx.Body())
			ctx.Write(nil)
		})
	})
	require.NoError(t, client.Call("/body", make(chan int), nil, patience))
	require.Empty(t, receive(t, bodies))
}

func TestObservedCanceledContextIsATimeout(t *testing.T) {
	began, release, missed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server := serveOld(t, setup{old: func(h old.Handler) {
		h.Handle("/wait", func(ctx *old.Context) {
			close(began)
			<-release
			ctx.Write(nil)
		})
	}})
	client := dialOld(t, server.dial, setup{old: func(h old.Handler) {
		h.HandleSessionMiss(func(*old.Client, *old.Message) { close(missed) })
	}})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- client.CallWith(ctx, "/wait", nil, nil) }()
	receive(t, began)
	cancel()
	require.Equal(t, old.ErrClientTimeout, receive(t, failed))
	close(release)
	receive(t, missed) // the answer, which is the last that the server sends
}

func TestObservedHandlersSeeNoEnd(t *testing.T) {
	seen := make(chan context.Context, 1)
	client := observe(t, func(h old.Handler) {
		h.Handle("/context", func(ctx *old.Context) {
			seen <- ctx
			ctx.Write(nil)
		})
	})
	require.NoError(t, client.Call("/context", nil, nil, patience))
	ctx := receive(t, seen)
	_, limited := ctx.Deadline()
	require.False(t, limited)
	require.Nil(t, ctx.Done())
}

func TestObservedHandlersRunBehindMiddlewareThatAnswers(t *testing.T) {
	ran := make(chan struct{}, 1)
	client := observe(t, func(h old.Handler) {
		h.Use(func(ctx *old.Context) {
			if ctx.Message.Method() == "/guarded" {
				ctx.Error("not allowed")
			}
		})
		h.Handle("/guarded", func(*old.Context) { ran <- struct{}{} })
	})
	require.EqualError(t, client.Call("/guarded", nil, nil, patience), "not allowed")
	receive(t, ran)
}

func TestObservedEachMessageIsAWrite(t *testing.T) {
	h := old.NewHandler()
	require.True(t, h.BatchSend())
	require.Zero(t, h.SendBufferSize(), "so that nothing is ever put together")
	require.Equal(t, arpc.DefaultMaxBodyLen, h.MaxBodyLen())
	require.Equal(t, 4, h.StreamQueueSize())
}
