package interop

import (
	"context"
	"runtime"
	"testing"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// ourSetup registers handlers at our end alone.
func ourSetup(register func(*arpc.Handler)) setup {
	return setup{routes: func(r routes) {
		if ours, ok := r.(ourRoutes); ok {
			register(ours.Handler)
		}
	}}
}

// Handlers of ours that do not answer do not leave an old caller waiting: the
// error comes at once, long before its timeout.
func TestHandlerWithoutAnswer(t *testing.T) {
	cases := map[string]struct {
		handler arpc.HandlerFunc
		want    string
	}{
		"returns": {func(*arpc.Context) {}, "returned without an answer"},
		"panics":  {func(*arpc.Context) { panic("secret") }, "panicked"},
		"exits":   {func(*arpc.Context) { runtime.Goexit() }, "returned without an answer"},
		"answers with what has no encoding": {
			func(ctx *arpc.Context) { ctx.Write(make(chan int)) }, "encode chan int",
		},
	}
	s := ourSetup(func(h *arpc.Handler) {
		for name, test := range cases {
			h.Handle(name, test.handler)
		}
	})
	oldCalls(t, s, func(t *testing.T, caller oldEnd) {
		for name, test := range cases {
			t.Run(name, func(t *testing.T) {
				err := caller.call(name, "x", nil)
				require.ErrorContains(t, err, test.want)
				require.NotContains(t, err.Error(), "secret")
				replies := make(chan error, 1)
				require.NoError(t, caller.callAsync(name, nil, func(_ string, err error) { replies <- err }))
				require.ErrorContains(t, receive(t, replies), test.want)
			})
		}
	})
}

// A detached request is answered after others that came later.
func TestHandlerAnswersLate(t *testing.T) {
	late := make(chan *arpc.Context, 1)
	s := ourSetup(func(h *arpc.Handler) {
		h.Handle("/late", func(ctx *arpc.Context) { late <- ctx.Detach() })
		h.Handle("/now", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	})
	oldCalls(t, s, func(t *testing.T, caller oldEnd) {
		replies := make(chan string, 1)
		go func() {
			var reply string
			caller.call("/late", "question", &reply)
			replies <- reply
		}()
		detached := receive(t, late)
		requireReply(t, caller, "/now", "in between", "in between")
		require.NoError(t, detached.Write("late answer to "+string(detached.Body())))
		require.Equal(t, "late answer to question", receive(t, replies))
	})
}

// A handler of ours is told when its old caller is gone. That the caller has
// given up it is not told: version 1 has no cancellation.
func TestHandlerOutlivesOldCaller(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	s := ourSetup(func(h *arpc.Handler) {
		h.Handle("/wait", func(ctx *arpc.Context) {
			entered <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
		})
		h.Handle("/now", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	})
	server := serveOurs(t, s)
	client := dialOld(t, server.dial, setup{})
	receive(t, server.accepted)
	err := giveUp(t, func(ctx context.Context) error { return client.CallWith(ctx, "/wait", nil, nil) }, entered)
	require.Equal(t, old.ErrClientTimeout, err)
	requireReply(t, oldEnd{client.Client}, "/now", "in between", "in between")
	require.Empty(t, ended)

	client.stop()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
}

// giveUp calls, gives up when the handler has the request, and returns
// the error of the call.
func giveUp(t *testing.T, callWith func(context.Context) error, entered <-chan struct{}) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- callWith(ctx) }()
	receive(t, entered)
	cancel()
	return receive(t, result)
}

// The answer to a call that was given up is dropped by the caller, and reaches
// no other call.
func TestLateAnswer(t *testing.T) {
	entered, leave, missed := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	s := setup{
		routes: func(r routes) {
			r.handle("/string", echo[string])
			r.handle("/late", func(r request, _ end) {
				entered <- struct{}{}
				<-leave
				r.Write("late")
			})
			if ours, ok := r.(ourRoutes); ok {
				ours.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) { missed <- string(m.Data()) })
			}
		},
		old: func(h old.Handler) {
			h.HandleSessionMiss(func(_ *old.Client, m *old.Message) { missed <- string(m.Data()) })
		},
	}
	lateAnswer := func(t *testing.T, caller end) {
		leave <- struct{}{}
		require.Equal(t, "late", receive(t, missed))
		requireReply(t, caller, "/string", "next", "next")
	}
	ourCalls(t, s, func(t *testing.T, caller ourEnd) {
		err := giveUp(t, func(ctx context.Context) error { return caller.CallWith(ctx, "/late", nil, nil) }, entered)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, arpc.IsRemote(err))
		require.False(t, arpc.SafeToRetry(err))
		lateAnswer(t, caller)
	})
	oldCalls(t, s, func(t *testing.T, caller oldEnd) {
		err := giveUp(t, func(ctx context.Context) error { return caller.CallWith(ctx, "/late", nil, nil) }, entered)
		require.Equal(t, old.ErrClientTimeout, err)
		lateAnswer(t, caller)
	})
}
