package call_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

// manifold calls next many times, one after the other and at the same time, each
// time with a Call of its own, and reports the first failure.
func manifold(ctx context.Context, c *arpc.Call, next arpc.CallFunc) error {
	const times = 8
	errs := make([]error, 2*times+1)
	var all sync.WaitGroup
	for i := range times {
		all.Go(func() { errs[i] = once(ctx, *c, next) })
	}
	all.Wait()
	for i := times; i < 2*times; i++ {
		errs[i] = once(ctx, *c, next)
	}
	errs[2*times] = next(ctx, c)
	return errors.Join(errs...)
}

// once calls next and looks at what it did.
func once(ctx context.Context, c arpc.Call, next arpc.CallFunc) error {
	var answer string
	if c.Kind == arpc.KindCall {
		c.Response = &answer
	}
	switch err := next(ctx, &c); {
	case err != nil:
		return err
	case c.Kind == arpc.KindStream:
		return c.Stream.Close()
	case c.Kind == arpc.KindCall && answer != "hello":
		return fmt.Errorf("the answer is %q", answer)
	}
	return nil
}

func serve(h *arpc.Handler) {
	h.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(string(ctx.Body())) })
	h.Handle("/told", func(*arpc.Context) {})
	h.HandleStream("/talk", func(s *arpc.Stream) { s.Recv(nil) })
}

// What Retry and Hedge rely on.
func TestNextMayBeCalledManyTimesAtOnce(t *testing.T) {
	begin := func(t *testing.T, c arpc.Caller) {
		require.NoError(t, c.CallWith(t.Context(), "/echo", "hello", nil))
		require.NoError(t, c.NotifyWith(t.Context(), "/told", "hello"))
		s, err := c.OpenStream(t.Context(), "/talk")
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
	both := arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		for _, h := range []*arpc.Handler{s.Handler, client} {
			serve(h)
			h.UseCall(manifold)
		}
	})
	t.Run("client", func(t *testing.T) {
		arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
			begin(t, p.Client)
			begin(t, p.Peer())
			answers := make(chan error, 1)
			require.NoError(t, p.Client.CallAsync("/echo", "hello", func(ctx *arpc.Context) { answers <- ctx.Bind(nil) }, arpc.TimeForever))
			require.NoError(t, <-answers)
		}, both)
	})
	t.Run("pool", func(t *testing.T) {
		begin(t, connectPool(t, []func(*arpc.Handler){serve, serve, serve}, manifold))
	})
}
