package router_test

import (
	"context"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// held is a handler that tells when it has begun and waits for its release.
type held struct {
	begun, release chan struct{}
	once           sync.Once
}

func newHeld(t *testing.T) *held {
	h := &held{begun: make(chan struct{}, 100), release: make(chan struct{})}
	t.Cleanup(h.free)
	return h
}

func (h *held) handle(ctx *arpc.Context) {
	h.begun <- struct{}{}
	<-h.release
	ctx.Write("done")
}

func (h *held) free() { h.once.Do(func() { close(h.release) }) }

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestGraceful(t *testing.T) {
	var g router.Graceful
	slow := newHeld(t)
	h := arpc.NewHandler()
	h.Use(g.Handler())
	h.Handle("/slow", slow.handle, true)
	h.Handle("/fast", answering)
	client := connect(t, h)

	require.NoError(t, client.Call("/fast", nil, nil, wait))
	answer := make(chan error, 1)
	go func() { answer <- client.Call("/slow", nil, nil, wait) }()
	receive(t, slow.begun)

	require.ErrorIs(t, g.Shutdown(ended()), context.Canceled)
	err := client.Call("/fast", nil, nil, wait)
	require.True(t, arpc.IsRemote(err))
	require.EqualError(t, err, "shutting down")
	require.Equal(t, uint64(1), g.Refused())
	require.ErrorContains(t, g.Shutdown(ended()), "1 messages and streams in hand")

	shut := make(chan error, 2)
	for range cap(shut) {
		go func() { shut <- g.Shutdown(context.Background()) }()
	}
	require.Empty(t, shut)
	slow.free()
	require.NoError(t, receive(t, answer))
	require.NoError(t, receive(t, shut))
	require.NoError(t, receive(t, shut))
	require.NoError(t, g.Shutdown(ended()), "nothing is left to wait for")
	require.Error(t, client.Call("/fast", nil, nil, wait))
	require.Equal(t, uint64(2), g.Refused())
	require.Zero(t, g.Dropped())
}

func TestGracefulNotifications(t *testing.T) {
	g := router.NewGraceful()
	slow := newHeld(t)
	h := arpc.NewHandler()
	h.Use(g.Handler())
	h.Handle("/slow", slow.handle, true)
	h.Handle("/fast", answering)
	client := connect(t, h)

	require.NoError(t, client.Notify("/slow", nil, wait))
	receive(t, slow.begun)
	require.ErrorIs(t, g.Shutdown(ended()), context.Canceled, "notifications in hand count")
	for range 3 {
		require.NoError(t, client.Notify("/slow", nil, wait))
	}
	require.Error(t, client.Call("/fast", nil, nil, wait))
	require.Eventually(t, func() bool { return g.Dropped() == 3 }, wait, tick)
	require.Empty(t, slow.begun)
	slow.free()
	require.NoError(t, g.Shutdown(t.Context()))
}

// Streams are waited for, and refused, like requests.
func TestGracefulStreams(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		var g router.Graceful
		p := serve(t, world, func(h *arpc.Handler) {
			h.UseStream(g.Stream)
			h.HandleStream("/echo", echoStream)
		})
		first, err := openEcho(t, p)
		require.NoError(t, err)
		require.ErrorIs(t, g.Shutdown(ended()), context.Canceled)
		_, err = openEcho(t, p)
		if p.Version == 1 {
			require.ErrorIs(t, err, io.EOF, "version 1 knows no other end")
		} else {
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		}
		require.Equal(t, uint64(1), g.Refused())
		require.NoError(t, first.Close())
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

// What ends without returning is not waited for.
func TestGracefulPanicAndGoexit(t *testing.T) {
	g := router.NewGraceful()
	h := arpc.NewHandler()
	h.Use(g.Handler())
	h.Handle("/boom", boom)
	h.Handle("/exit", func(*arpc.Context) { runtime.Goexit() })
	client := connect(t, h)
	require.Error(t, client.Call("/boom", nil, nil, wait))
	require.Error(t, client.Call("/exit", nil, nil, wait))
	require.NoError(t, g.Shutdown(t.Context()))
}

func TestGracefulUnused(t *testing.T) {
	require.NoError(t, new(router.Graceful).Shutdown(ended()))
	require.NoError(t, router.NewGraceful().Shutdown(t.Context()))
}

// Under load no handler runs after a Shutdown that returned nil, and every
// request is either answered or refused.
func TestGracefulUnderLoad(t *testing.T) {
	var g router.Graceful
	var running, over atomic.Int64
	h := arpc.NewHandler()
	h.Use(g.Handler())
	h.Handle("/m", func(ctx *arpc.Context) {
		running.Add(1)
		defer running.Add(-1)
		over.Add(1)
		runtime.Gosched()
		ctx.Write("done")
	})
	client := connect(t, h)

	var answered, refused atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 1000 {
				if err := client.Call("/m", nil, nil, wait); err == nil {
					answered.Add(1)
				} else if err.Error() == "shutting down" {
					refused.Add(1)
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool { return answered.Load() > 100 }, wait, tick)
	var shutdowns sync.WaitGroup
	for range 4 {
		shutdowns.Go(func() {
			if err := g.Shutdown(context.Background()); err != nil || running.Load() != 0 {
				t.Errorf("Shutdown returned %v with %d handlers running", err, running.Load())
			}
		})
	}
	shutdowns.Wait()
	at := over.Load()
	callers.Wait()
	require.Equal(t, at, over.Load(), "a handler ran after Shutdown")
	require.Equal(t, at, answered.Load())
	require.Equal(t, uint64(refused.Load()), g.Refused())
}
