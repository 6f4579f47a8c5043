package arpc_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
)

// The interceptor of a call runs on the goroutine of the caller: a panic is the
// caller's, as one in a method of its own would be.
func TestV2PanicOfAnInterceptorIsTheCallers(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		if call.Method == "/before" {
			panic("before")
		}
		err := next(ctx, call)
		if call.Method == "/stream" || call.Method == "/fail" {
			panic("behind")
		}
		return err
	})
	require.PanicsWithValue(t, "before", func() { p.Client.Call("/before", "x", nil, suitePatience) })
	require.PanicsWithValue(t, "before", func() { p.Client.Notify("/before", "x", arpc.TimeZero) })
	require.PanicsWithValue(t, "behind", func() { p.Client.CallWith(t.Context(), "/fail", "x", nil) })
	require.PanicsWithValue(t, "behind", func() { p.Client.OpenStream(t.Context(), "/stream") })
	suiteAlive(t, p)
}

// That of an asynchronous call runs on a goroutine that nobody else looks after.
func TestV2PanicOfAnInterceptorOfAnAsyncCallIsTheCallsError(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("a bug") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			rowInChild(t, func(t *testing.T) {
				p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
				p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
					if call.Method == "/before" {
						end()
					}
					err := next(ctx, call)
					if call.Method == "/behind" {
						end()
					}
					return err
				})
				for _, method := range []string{"/before", "/behind"} {
					_, err := v2AsyncCall(t, p.Client, method, "x")
					require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
					require.False(t, arpc.IsRemote(err))
				}
				suiteAlive(t, p)
			})
		})
	}
}

func TestV2PanicOfAnInterceptorInsideAHandlerIsTheHandlers(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	p.Server.Handler.UseCall(func(context.Context, *arpc.Call, arpc.CallFunc) error { panic("a bug") })
	p.Server.Handler.Handle("/back", func(ctx *arpc.Context) { ctx.Write(ctx.Client.CallWith(ctx, "/echo", "x", nil)) })
	suiteRemote(t, p.Client.Call("/back", nil, nil, suitePatience), "panicked")
	suiteRequireEcho(t, p.Client)
}

func TestV2CallbackRunsOnceWhateverTheInterceptorDoes(t *testing.T) {
	interceptors := map[string]arpc.CallInterceptor{
		"goes on": func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error { return next(ctx, call) },
		"goes on twice": func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			next(ctx, call)
			return next(ctx, call)
		},
		"forgets":       func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error { return nil },
		"fails":         func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error { next(ctx, call); return errV2No },
		"fails without": func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error { return errV2No },
		"without code":  func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error { return io.EOF },
	}
	for name, interceptor := range interceptors {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
				p.Server.Handler.Handle("/slow", func(ctx *arpc.Context) { <-ctx.Done() })
				p.Client.Handler.UseCall(interceptor)
				var ran rowTally
				for _, method := range []string{"/echo", "/fail", "/none", "/slow", "/slow", ""} {
					p.Client.CallAsync(method, "x", func(ctx *arpc.Context) { ran.add("callback"); ctx.Bind(nil) }, time.Second)
				}
				time.Sleep(time.Minute)
				require.Equal(t, 6, ran.total())
			})
		})
	}
}

func TestV2CallbackRunsOnceWhenTheClientIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
		p.Server.Handler.Handle("/slow", func(ctx *arpc.Context) { <-ctx.Done() })
		p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			defer time.Sleep(time.Second)
			time.Sleep(time.Second)
			return next(ctx, call)
		})
		ended := make(chan error, 100)
		for i := range 100 {
			time.AfterFunc(time.Duration(i)*10*time.Millisecond, func() {
				callback := func(ctx *arpc.Context) { ended <- ctx.Bind(nil) }
				assert.NoError(t, p.Client.CallAsync("/slow", "x", callback, time.Minute))
			})
		}
		time.Sleep(1500 * time.Millisecond) // some are under way, some are not
		p.Client.Stop()
		time.Sleep(time.Minute)
		require.Len(t, ended, 100)
		for range 100 {
			require.ErrorIs(t, <-ended, arpc.ErrClosed)
		}
	})
}

// What is wrong with an asynchronous call that its interceptors cannot mend is
// said at once.
func TestV2AsyncCallThatCannotBeMadeIsAnErrorAtOnce(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	p.Client.Handler.UseCall(func(context.Context, *arpc.Call, arpc.CallFunc) error { t.Error("intercepted"); return nil })
	callback := func(*arpc.Context) { t.Error("a callback") }
	require.Error(t, p.Client.CallAsync("/echo", make(chan int), callback, suitePatience))
	require.Error(t, p.Client.CallAsync("/echo", "x", callback, 0))
	require.Error(t, p.Client.CallAsync("/echo", "x", nil, suitePatience))
	p.Client.Stop()
	require.ErrorIs(t, p.Client.CallAsync("/echo", "x", callback, suitePatience), arpc.ErrClosed)
}

// The request may be used again when CallAsync has returned.
func TestV2AsyncCallKeepsNothingOfTheRequest(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error { return next(ctx, call) })
	req := []byte("aaaa")
	bodies := make(chan string, 100)
	for i := range cap(bodies) {
		for j := range req {
			req[j] = 'a' + byte(i%26)
		}
		require.NoError(t, p.Client.CallAsync("/echo", req, func(ctx *arpc.Context) { bodies <- string(ctx.Body()) }, suitePatience))
	}
	count := make(map[string]int)
	for range cap(bodies) {
		count[suiteNext(t, bodies)]++
	}
	require.Equal(t, 4, count["aaaa"])
	require.Len(t, count, 26)
}

func TestV2StreamOfAnInterceptorThatFailsIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory())
		ended := make(chan error, 1)
		p.Server.Handler.HandleStream("/stream", func(st *arpc.Stream) { ended <- st.Recv(nil) })
		p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			assert.Nil(t, call.Stream)
			assert.NoError(t, next(ctx, call))
			assert.Equal(t, "/stream", call.Stream.Method())
			return errV2No
		})
		st, err := p.Client.OpenStream(t.Context(), "/stream")
		require.ErrorIs(t, err, errV2No)
		require.Nil(t, st)
		require.Error(t, <-ended)
	})
}

func TestV2InterceptorMayMakeACallIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, d := v2Redial(t)
		c.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			return next(arpc.ContextWithIdempotent(ctx), call)
		})
		result := make(chan error, 1)
		go func() { result <- c.Call("/read", nil, nil, time.Minute) }()
		p.next()
		p.nc.Close()
		p = <-d.peers
		p.welcome(wire.Hello{})
		p.answer(p.next(), "")
		require.NoError(t, <-result)
	})
}

func TestV2InterceptorsMayBeAddedAtAnyTime(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				assert.NoError(t, p.Client.Call("/echo", "x", nil, suitePatience))
			}
		})
	}
	var seen rowTally
	for range 20 {
		p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			seen.add(call.Method)
			return next(ctx, call)
		})
	}
	all.Wait()
	before := seen.total()
	require.NoError(t, p.Client.Call("/echo", "x", nil, suitePatience))
	require.Equal(t, 20, seen.total()-before)
}

func TestV2CallSaysWhoCalls(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		if call.Client != p.Client {
			return errors.New("another client")
		}
		return next(ctx, call)
	})
	suiteRequireEcho(t, p.Client)
	_, err := v2AsyncCall(t, p.Client, "/echo", "x")
	require.NoError(t, err)
	require.Equal(t, []string{"call", "notify", "stream"}, []string{arpc.KindCall.String(), arpc.KindNotify.String(), arpc.KindStream.String()})
	require.Panics(t, func() { p.Client.Handler.UseCall(nil) })
}
