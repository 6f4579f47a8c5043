package arpc_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

type (
	typedRequest struct{ Name string }
	typedReply   struct{ Text string }
)

var (
	typedGreet = arpc.NewMethod[typedRequest, typedReply]("/greet")
	typedRaw   = arpc.NewMethod[[]byte, string]("/raw")
	typedTold  = arpc.NewNotice[typedRequest]("/told")
)

// typedGreets answers with a greeting and the type of the context.
func typedGreets(ctx context.Context, req *typedRequest) (*typedReply, error) {
	return &typedReply{Text: fmt.Sprintf("hello %s (%T)", req.Name, ctx)}, nil
}

// typedEnds returns both ends of the pair's connection.
func typedEnds(p *arpctest.Pair) map[string]*arpc.Client {
	return map[string]*arpc.Client{"client": p.Client, "server": p.Peer()}
}

// typedCode is what an error's code becomes on its way: peers of version 1 get the
// text alone.
func typedCode(p *arpctest.Pair, code arpc.Code) arpc.Code {
	if p.Version == 1 {
		return arpc.CodeUnknown
	}
	return code
}

// typedBoth registers at both ends.
func typedBoth(register func(h *arpc.Handler)) arpctest.Option {
	return arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		register(s.Handler)
		register(client)
	})
}

func TestTypedCallFromBothEnds(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, c := range typedEnds(p) {
			reply, err := typedGreet.Call(t.Context(), c, &typedRequest{Name: name})
			require.NoError(t, err)
			require.Equal(t, "hello "+name+" (*arpc.Context)", reply.Text)
		}
	}, typedBoth(func(h *arpc.Handler) { typedGreet.Handle(h, typedGreets) }))
}

func TestTypedHandlerCallsBack(t *testing.T) {
	ask := arpc.NewMethod[string, string]("/ask")
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		reply, err := typedGreet.Call(t.Context(), p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, "hello gopher", reply.Text)
	}, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		ask.Handle(client, func(_ context.Context, what *string) (*string, error) {
			return new(map[string]string{"name": "gopher"}[*what]), nil
		})
		typedGreet.Handle(s.Handler, func(ctx context.Context, _ *typedRequest) (*typedReply, error) {
			c, _ := arpc.FromContext(ctx)
			name, err := ask.Call(ctx, c.Client, new("name"))
			if err != nil {
				return nil, err
			}
			return &typedReply{Text: "hello " + *name}, nil
		})
	}))
}

func TestTypedOnPool(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		told := make(chan string, 1)
		typedTold.Handle(p.Server.Handler, func(_ context.Context, v *typedRequest) { told <- v.Name })
		pool, err := arpc.NewClientPool(p.Dialer(), 2)
		require.NoError(t, err)
		defer pool.Stop()
		reply, err := typedGreet.Call(t.Context(), pool, &typedRequest{Name: "pool"})
		require.NoError(t, err)
		require.Contains(t, reply.Text, "hello pool")
		require.NoError(t, typedTold.Notify(t.Context(), pool, &typedRequest{Name: "pool"}))
		require.Equal(t, "pool", suiteNext(t, told))
		s, err := typedEcho.Open(t.Context(), pool)
		require.NoError(t, err)
		typedEchoed(t, s, "pool")
		require.NoError(t, s.Close())
	}, typedBoth(func(h *arpc.Handler) {
		typedGreet.Handle(h, typedGreets)
		typedEcho.Handle(h, typedEchoes)
	}))
}

// Bytes and strings travel as they are, with no codec between.
func TestTypedRawValues(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		reply, err := typedRaw.Call(t.Context(), p.Client, new([]byte("\x00{\xff")))
		require.NoError(t, err)
		require.Equal(t, "got \x00{\xff", *reply)
		var untyped []byte
		require.NoError(t, p.Client.Call("/raw", "not JSON", &untyped, suitePatience))
		require.Equal(t, "got not JSON", string(untyped))
	}, typedBoth(func(h *arpc.Handler) {
		typedRaw.Handle(h, func(_ context.Context, req *[]byte) (*string, error) {
			return new("got " + string(*req)), nil
		})
	}))
}

// Any type that the codec takes will do, pointers or not.
func TestTypedTypes(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		typedRoundTrip(t, p, "/int", 42)
		typedRoundTrip(t, p, "/slice", []int{1, 2})
		typedRoundTrip(t, p, "/map", map[string]bool{"a": true})
		typedRoundTrip(t, p, "/pointer", &typedRequest{Name: "x"})
		typedRoundTrip(t, p, "/named", arpc.CodeNotFound)
		typedRoundTrip(t, p, "/empty", struct{}{})
		typedRoundTrip[any](t, p, "/any", "text")
	})
}

func typedRoundTrip[T any](t *testing.T, p *arpctest.Pair, name string, v T) {
	m := arpc.NewMethod[T, T](name)
	require.Equal(t, name, m.Name())
	m.Handle(p.Server.Handler, func(_ context.Context, req *T) (*T, error) { return req, nil })
	reply, err := m.Call(t.Context(), p.Client, &v)
	require.NoError(t, err, name)
	require.Equal(t, v, *reply, name)
}

// A nil pointer and an empty payload are the zero value.
func TestTypedNilIsZero(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := make(chan typedRequest, 1)
		typedGreet.Handle(p.Server.Handler, func(_ context.Context, req *typedRequest) (*typedReply, error) {
			got <- *req
			return nil, nil
		})
		reply, err := typedGreet.Call(t.Context(), p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, &typedReply{}, reply)
		require.Zero(t, suiteNext(t, got))

		untyped := typedReply{}
		require.NoError(t, p.Client.Call("/greet", nil, &untyped, suitePatience))
		require.Zero(t, untyped)
		require.Zero(t, suiteNext(t, got))

		typedRaw.Handle(p.Server.Handler, func(context.Context, *[]byte) (*string, error) { return nil, nil })
		text, err := typedRaw.Call(t.Context(), p.Client, nil)
		require.NoError(t, err)
		require.Empty(t, *text)
	})
}

func TestTypedErrorsKeepTheirCode(t *testing.T) {
	cause := errors.New("out of tea")
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, c := range map[string]struct {
			err  error
			code arpc.Code
			text string
		}{
			"plain":    {cause, arpc.CodeUnknown, "out of tea"},
			"coded":    {arpc.NewError(arpc.CodeNotFound, "no such tea"), arpc.CodeNotFound, "no such tea"},
			"wrapping": {arpc.Errorf(arpc.CodeAborted, "brewing: %w", cause), arpc.CodeAborted, "brewing: out of tea"},
			"wrapped":  {fmt.Errorf("brewing: %w", arpc.NewError(arpc.CodeNotFound, "no tea")), arpc.CodeNotFound, "brewing: no tea"},
			"context":  {context.DeadlineExceeded, arpc.CodeDeadlineExceeded, context.DeadlineExceeded.Error()},
		} {
			m := arpc.NewMethod[string, typedReply]("/" + name)
			m.Handle(p.Server.Handler, func(context.Context, *string) (*typedReply, error) {
				return &typedReply{Text: "not sent"}, c.err
			})
			reply, err := m.Call(t.Context(), p.Client, nil)
			require.Nil(t, reply, name)
			suiteRemote(t, err, c.text)
			require.Equal(t, typedCode(p, c.code), arpc.CodeOf(err), name)
		}
	})
}

func TestTypedUndecodableRequest(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		err := p.Client.Call("/greet", "no JSON", nil, suitePatience)
		suiteRemote(t, err, "typedRequest")
		require.Equal(t, typedCode(p, arpc.CodeInvalidArgument), arpc.CodeOf(err))
	}, typedBoth(func(h *arpc.Handler) {
		typedGreet.Handle(h, func(context.Context, *typedRequest) (*typedReply, error) { panic("not reached") })
	}))
}

func TestTypedUnencodableValues(t *testing.T) {
	floats := arpc.NewMethod[float64, float64]("/floats")
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		_, err := floats.Call(t.Context(), p.Client, new(math.NaN()))
		suiteUnsent(t, err, arpc.CodeInternal)
		_, err = floats.Call(t.Context(), p.Client, new(-1.0))
		suiteRemote(t, err, "encode")
		require.Equal(t, typedCode(p, arpc.CodeInternal), arpc.CodeOf(err))
	}, typedBoth(func(h *arpc.Handler) {
		floats.Handle(h, func(_ context.Context, req *float64) (*float64, error) { return new(math.Sqrt(*req)), nil })
	}))
}

// A call that its context ends says so, and no answer is half a reply.
func TestTypedCallContextEnds(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		typedGreet.Handle(p.Server.Handler, func(context.Context, *typedRequest) (*typedReply, error) {
			cancel()
			<-release
			return nil, nil
		})
		reply, err := typedGreet.Call(ctx, p.Client, nil)
		close(release)
		require.Nil(t, reply)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// Middleware sees a typed handler as any other.
func TestTypedBehindMiddleware(t *testing.T) {
	type key struct{}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		failures := make(chan bool, 1)
		p.Server.Handler.Use(func(ctx *arpc.Context) {
			ctx.Set(key{}, "middleware")
			ctx.Next()
			_, failed := ctx.Answered()
			failures <- failed
		})
		typedGreet.Handle(p.Server.Handler, func(ctx context.Context, req *typedRequest) (*typedReply, error) {
			if req.Name == "" {
				return nil, arpc.NewError(arpc.CodeInvalidArgument, "who?")
			}
			return &typedReply{Text: ctx.Value(key{}).(string)}, nil
		})
		reply, err := typedGreet.Call(t.Context(), p.Client, &typedRequest{Name: "x"})
		require.NoError(t, err)
		require.Equal(t, "middleware", reply.Text)
		require.False(t, suiteNext(t, failures))
		_, err = typedGreet.Call(t.Context(), p.Client, nil)
		require.Error(t, err)
		require.True(t, suiteNext(t, failures))
	})
}

// A typed handler may detach its Context and answer later.
func TestTypedDetached(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		returned := make(chan struct{})
		p.Server.Handler.Use(func(ctx *arpc.Context) { ctx.Next(); close(returned) })
		typedGreet.Handle(p.Server.Handler, func(ctx context.Context, _ *typedRequest) (*typedReply, error) {
			c, ok := arpc.FromContext(ctx)
			require.True(t, ok)
			later := c.Detach()
			go func() {
				<-returned
				later.Write(&typedReply{Text: "later"})
			}()
			return &typedReply{Text: "ignored"}, nil
		})
		reply, err := typedGreet.Call(t.Context(), p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, "later", reply.Text)
	})
}

// Calls may run at the same time and notices keep their order, unless they are
// registered otherwise.
func TestTypedModes(t *testing.T) {
	for name, c := range map[string]struct {
		async          []bool
		calls, notices int // that run at the same time, of two
	}{
		"default":    {nil, 2, 1},
		"concurrent": {[]bool{true}, 2, 2},
		"ordered":    {[]bool{false}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := arpctest.New(t, arpctest.Memory())
			entered, release := make(chan struct{}, 2), make(chan struct{})
			wait := func() { entered <- struct{}{}; <-release }
			typedTold.Handle(p.Server.Handler, func(context.Context, *typedRequest) { wait() }, c.async...)
			typedGreet.Handle(p.Server.Handler, func(context.Context, *typedRequest) (*typedReply, error) {
				wait()
				return nil, nil
			}, c.async...)
			typedTogether(t, p.Client, entered, release, c.calls, func() error {
				return p.Client.CallAsync("/greet", nil, func(*arpc.Context) {}, suitePatience)
			})
			typedTogether(t, p.Client, entered, release, c.notices, func() error {
				return typedTold.Notify(t.Context(), p.Client, nil)
			})
		})
	}
}

// typedTogether begins two of something and requires that so many of them run
// before the first is released.
func typedTogether(t *testing.T, c *arpc.Client, entered <-chan struct{}, release chan<- struct{}, together int, begin func() error) {
	t.Helper()
	require.NoError(t, begin())
	require.NoError(t, begin())
	for range together {
		suiteNext(t, entered)
	}
	err := c.Call("/none", nil, nil, suitePatience)
	require.ErrorIs(t, err, arpc.ErrMethodNotFound, "what comes behind is handled")
	require.Empty(t, entered)
	for range 2 {
		release <- struct{}{}
	}
	for range 2 - together {
		suiteNext(t, entered)
	}
}

// A call that says it may run twice outlives the connection it was sent on.
func TestTypedIdempotent(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, opts := range map[string][]arpc.MethodOption{"/once": nil, "/again": {arpc.Idempotent}} {
			m := arpc.NewMethod[string, int](name, opts...)
			ran := make(chan struct{}, 2)
			m.Handle(p.Server.Handler, func(ctx context.Context, _ *string) (*int, error) {
				ran <- struct{}{}
				if len(ran) == 1 {
					c, _ := arpc.FromContext(ctx)
					c.Client.Stop()
				}
				return new(len(ran)), nil
			})
			reply, err := m.Call(arpc.ContextWithWaitForReady(t.Context(), true), p.Client, nil)
			if opts == nil {
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
				require.False(t, arpc.SafeToRetry(err))
				continue
			}
			require.NoError(t, err)
			require.Equal(t, 2, *reply)
		}
	}, arpctest.ClientOptions(arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)))
}

func TestTypedRegistrationPanics(t *testing.T) {
	h := arpc.NewHandler()
	typedGreet.Handle(h, typedGreets)
	require.PanicsWithValue(t, `arpc: Handle("/greet"): the method has a handler already`, func() { typedGreet.Handle(h, typedGreets) })
	require.PanicsWithValue(t, `arpc: Handle("/greet"): the handler is nil`, func() { typedGreet.Handle(h, nil) })
	require.PanicsWithValue(t, `arpc: Handle("/told"): the handler is nil`, func() { typedTold.Handle(h, nil) })
	require.PanicsWithValue(t, `arpc: HandleStream("/echo"): the handler is nil`, func() { typedEcho.Handle(h, nil) })
	require.Panics(t, func() { arpc.Method[typedRequest, typedReply]{}.Handle(h, typedGreets) })
}

// Without a name nothing is sent.
func TestTypedWithoutName(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	_, err := arpc.NewMethod[string, string]("").Call(t.Context(), p.Client, nil)
	suiteUnsent(t, err, arpc.CodeInvalidArgument)
	suiteUnsent(t, arpc.NewNotice[string]("").Notify(t.Context(), p.Client, nil), arpc.CodeInvalidArgument)
	_, err = arpc.NewStreamMethod[string, string]("").Open(t.Context(), p.Client)
	suiteUnsent(t, err, arpc.CodeInvalidArgument)
}

// What a handler's panic says stays on its side.
func TestTypedHandlerPanics(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		_, err := typedGreet.Call(t.Context(), p.Client, nil)
		suiteRemote(t, err, "panicked")
		require.Equal(t, typedCode(p, arpc.CodeInternal), arpc.CodeOf(err))
		require.NotContains(t, err.Error(), "the pot broke")
	}, typedBoth(func(h *arpc.Handler) {
		typedGreet.Handle(h, func(context.Context, *typedRequest) (*typedReply, error) { panic("the pot broke") })
	}))
}
