package coder_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
)

// carriers are the coders that send values, with one that they send.
var carriers = map[string]struct {
	coder func() arpc.MessageCoder
	value any
}{
	"msgpack": {func() arpc.MessageCoder { return msgpack.New() }, map[string]any{"id": int64(7)}},
	"tracing": {func() arpc.MessageCoder { return tracing.New("key") }, []byte("id 7")},
}

// carrying runs a test for each of them, over all worlds.
func carrying(t *testing.T, routes func(h *arpc.Handler, value any), test func(t *testing.T, p *arpctest.Pair, value any)) {
	for name, c := range carriers {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) { test(t, p, c.value) }, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
				for _, h := range []*arpc.Handler{s.Handler, client} {
					h.UseCoder(c.coder())
					routes(h, c.value)
				}
			}))
		})
	}
}

func with(ctx context.Context, value any) context.Context {
	return arpc.ContextWithValues(ctx, map[any]any{"key": value})
}

// What the caller gives along with a call is found by middleware and handler, and
// goes back with the response.
func TestValuesOfCalls(t *testing.T) {
	type seen struct {
		byMiddleware, byHandler any
		found                   bool
	}
	requests := make(chan seen, 1)
	routes := func(h *arpc.Handler, _ any) {
		var s seen
		h.Use(func(ctx *arpc.Context) { s.byMiddleware, _ = ctx.Get("key") })
		h.Handle("/call", func(ctx *arpc.Context) {
			s.byHandler, s.found = ctx.Message.Get("key")
			requests <- s
			ctx.Write("hello")
		})
	}
	carrying(t, routes, func(t *testing.T, p *arpctest.Pair, value any) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			require.NoError(t, c.CallWith(with(t.Context(), value), "/call", "x", nil))
			require.Equal(t, seen{value, value, true}, <-requests)

			require.NoError(t, c.CallWith(t.Context(), "/call", "x", nil))
			require.Equal(t, seen{}, <-requests, "those of another message")
		}
	})
}

// A response has the values of its request, and those that the handler sets.
func TestValuesOfResponses(t *testing.T) {
	routes := func(h *arpc.Handler, value any) {
		h.Handle("/set", func(ctx *arpc.Context) {
			ctx.Message.Set("key", value)
			ctx.Write(ctx.Body())
		})
		h.Handle("/plain", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	}
	carrying(t, routes, func(t *testing.T, p *arpctest.Pair, value any) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			for method, want := range map[string]any{"/set": value, "/plain": nil} {
				got := make(chan any, 2)
				require.NoError(t, c.CallAsync(method, "hello", func(ctx *arpc.Context) {
					v, _ := ctx.Get("key")
					got <- v
					var rsp string
					got <- errors.Join(ctx.Bind(&rsp), differ(rsp, "hello"))
				}, wait))
				require.Equal(t, want, <-got)
				require.Nil(t, <-got)
			}
		}
	})
}

func differ(got, want string) error {
	if got != want {
		return errors.New("got " + got)
	}
	return nil
}

// Notifications carry values, those that are pushed the values of the message.
func TestValuesOfNotifications(t *testing.T) {
	got := make(chan any, 1)
	routes := func(h *arpc.Handler, _ any) {
		h.Handle("/notify", func(ctx *arpc.Context) {
			v, _ := ctx.Get("key")
			got <- v
		})
	}
	carrying(t, routes, func(t *testing.T, p *arpctest.Pair, value any) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			require.NoError(t, c.NotifyWith(with(t.Context(), value), "/notify", nil))
			require.Equal(t, value, <-got)
			msg := c.NewMessage(arpc.CmdNotify, "/notify", "hello")
			msg.Set("key", value)
			for range 2 {
				require.NoError(t, c.PushMsg(msg, wait))
				require.Equal(t, value, <-got)
			}
			require.NoError(t, c.Notify("/notify", nil, wait))
			require.Nil(t, <-got)
		}
	})
}

// A value that cannot be sent is an error to whoever sends it, and to the caller of a
// handler that does; the connection goes on.
func TestValuesThatCannotBeSent(t *testing.T) {
	routes := func(h *arpc.Handler, _ any) {
		h.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
		h.Handle("/bad", func(ctx *arpc.Context) {
			ctx.Message.Set("key", make(chan int))
			ctx.Write("never sent")
		})
	}
	carrying(t, routes, func(t *testing.T, p *arpctest.Pair, value any) {
		err := p.Client.CallWith(with(t.Context(), make(chan int)), "/echo", nil, nil)
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), err)
		require.ErrorContains(t, err, "chan int")
		require.True(t, arpc.SafeToRetry(err))
		require.Error(t, p.Client.NotifyWith(with(t.Context(), make(chan int)), "/echo", nil))

		err = p.Client.Call("/bad", nil, nil, arpc.TimeForever)
		require.Error(t, err)
		require.True(t, arpc.IsRemote(err), err)
		require.NoError(t, p.Client.Call("/echo", "hello", nil, wait))
	})
}
