package arpc_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteOutcome is what a callback got.
type suiteOutcome struct {
	text string
	err  error
}

// suiteAsync calls and returns where the outcome comes.
func suiteAsync(t testing.TB, c *arpc.Client, method string, req any) <-chan suiteOutcome {
	t.Helper()
	outcome := make(chan suiteOutcome, 2)
	require.NoError(t, c.CallAsync(method, req, func(ctx *arpc.Context) {
		var o suiteOutcome
		o.err = ctx.Bind(&o.text)
		outcome <- o
	}, suitePatience))
	return outcome
}

func TestSuiteAsyncAnswers(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/fail", func(ctx *arpc.Context) { ctx.Error("no luck today") })
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			require.Equal(t, suiteOutcome{text: "hello"}, suiteNext(t, suiteAsync(t, c, "/echo", "hello")))
			require.ErrorIs(t, suiteNext(t, suiteAsync(t, c, "/nowhere", nil)).err, arpc.ErrMethodNotFound)
		}
		suiteRemote(t, suiteNext(t, suiteAsync(t, p.Client, "/fail", nil)).err, "no luck today")
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// Each callback runs once, and gets the answer to its own request.
func TestSuiteAsyncExactlyOnce(t *testing.T) {
	const calls = 1000
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		var counts [calls]atomic.Int32
		var all sync.WaitGroup
		all.Add(calls)
		for i := range calls {
			want := strconv.Itoa(i)
			require.NoError(t, p.Client.CallAsync("/echo", want, func(ctx *arpc.Context) {
				var got string
				if err := ctx.Bind(&got); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
				if counts[i].Add(1) == 1 {
					all.Done()
				}
			}, suitePatience))
		}
		suiteReturns(t, all.Wait)
		suiteAlive(t, p)
		for i := range counts {
			require.EqualValues(t, 1, counts[i].Load())
		}
	}, arpctest.Setup(suiteWithEcho))
}

// However a connection ends while answers are coming in, each callback of a call
// that was taken runs once.
func TestSuiteAsyncExactlyOnceAtTheEnd(t *testing.T) {
	ends := map[string]func(p *arpctest.Pair){
		"clientStops": func(p *arpctest.Pair) { p.Client.Stop() },
		"serverStops": func(p *arpctest.Pair) { p.Server.Stop() },
		"peerStops":   func(p *arpctest.Pair) { p.Peer().Stop() },
		"connCloses":  func(p *arpctest.Pair) { p.Client.Conn().Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				var taken, ran atomic.Int64
				enough := make(chan struct{})
				var sending sync.WaitGroup
				for range 4 {
					sending.Go(func() {
						for range 2000 {
							if p.Client.CallAsync("/echo", "x", func(*arpc.Context) {
								if ran.Add(1) == 100 {
									close(enough)
								}
							}, suitePatience) != nil {
								return
							}
							taken.Add(1)
						}
					})
				}
				suiteNext(t, enough)
				end(p)
				suiteReturns(t, sending.Wait)
				require.Eventually(t, func() bool { return ran.Load() == taken.Load() }, suitePatience, suiteTick)
			}, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		})
	}
}

// A callback learns why its connection ended.
func TestSuiteAsyncConnectionLost(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		gate := newSuiteGate()
		defer close(gate.release)
		p.Server.Handler.Handle("/wait", gate.handle)
		outcome := suiteAsync(t, p.Client, "/wait", nil)
		suiteNext(t, gate.began)
		p.Client.Stop()
		err := suiteNext(t, outcome).err
		require.ErrorIs(t, err, arpc.ErrClosed)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.False(t, arpc.SafeToRetry(err))
		suiteUnsent(t, p.Client.CallAsync("/echo", nil, suiteNever(t), suitePatience), arpc.CodeUnavailable)
	})
}

// The error of a call is for its own callback, and for no message after it.
func TestSuiteErrorsStayWithTheirCall(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		release := make(chan struct{})
		p.Server.Handler.Handle("/wait", func(ctx *arpc.Context) {
			<-release
			ctx.Write(nil)
		})
		failed := make(chan error, 50)
		for range cap(failed) {
			callback := func(ctx *arpc.Context) { failed <- ctx.Bind(nil) }
			require.NoError(t, p.Client.CallAsync("/wait", nil, callback, time.Millisecond))
		}
		for range cap(failed) {
			require.ErrorIs(t, suiteNext(t, failed), context.DeadlineExceeded)
		}
		close(release)
		bound := make(chan error, 100)
		p.Server.Handler.Handle("/n", func(ctx *arpc.Context) {
			suiteRequireEcho(t, ctx.Client) // slow enough for others to wait on goroutines of their own
			bound <- ctx.Bind(new(string))
		}, true)
		for range cap(bound) {
			require.NoError(t, p.Client.Notify("/n", "x", suitePatience))
		}
		for range cap(bound) {
			require.NoError(t, suiteNext(t, bound))
		}
	}, arpctest.Setup(suiteWithEcho))
}

// A slow callback delays nobody, and callbacks may call back.
func TestSuiteAsyncCallbackMayBlock(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		release, done := make(chan struct{}), make(chan error, 1)
		require.NoError(t, p.Client.CallAsync("/echo", "x", func(ctx *arpc.Context) {
			<-release
			done <- ctx.Client.Call("/echo", "y", nil, suitePatience)
		}, suitePatience))
		for range 3 {
			suiteAlive(t, p)
		}
		close(release)
		require.NoError(t, suiteNext(t, done))
	}, arpctest.Setup(suiteWithEcho))
}

// What a callback or a handler begins leaves at once, while it still runs.
func TestSuiteAsyncFromHandlersLeavesMeanwhile(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		told := make(chan string, 1)
		p.Client.Handler.Handle("/told", func(ctx *arpc.Context) { told <- string(ctx.Body()) })
		p.Server.Handler.Handle("/around", func(ctx *arpc.Context) {
			require.NoError(t, ctx.Client.Notify("/told", "before", suitePatience))
			require.Equal(t, "before", suiteNext(t, told))
			ctx.Write(suiteNext(t, suiteAsync(t, ctx.Client, "/echo", "around")).text)
		})
		p.Client.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
		outcome := make(chan suiteOutcome, 1)
		require.NoError(t, p.Client.CallAsync("/around", nil, func(ctx *arpc.Context) {
			outcome <- suiteNext(t, suiteAsync(t, p.Client, "/around", nil))
		}, suitePatience))
		require.Equal(t, suiteOutcome{text: "around"}, suiteNext(t, outcome))
	})
}

// The Context of a callback is no request, and ends with the callback.
func TestSuiteAsyncContext(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		kept, wrote := make(chan *arpc.Context, 1), make(chan error, 1)
		require.NoError(t, p.Client.CallAsync("/echo", "x", func(ctx *arpc.Context) {
			wrote <- ctx.Write("an answer to an answer")
			kept <- ctx.Detach()
		}, suitePatience))
		require.ErrorIs(t, suiteNext(t, wrote), arpc.ErrNotRequest)
		var text string
		require.NoError(t, suiteNext(t, kept).Bind(&text))
		require.Equal(t, "x", text)
	}, arpctest.Setup(suiteWithEcho))
}

// A callback that panics or ends its goroutine harms nobody.
func TestSuiteAsyncCallbackFails(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, fail := range suiteFailures {
			require.NoError(t, p.Client.CallAsync("/echo", nil, func(*arpc.Context) { fail() }, suitePatience))
			suiteAlive(t, p)
		}
	}, arpctest.Setup(suiteWithEcho))
}

// The contexts that callers share end all of their calls.
func TestSuiteManyCallsCanceledAtOnce(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		gate := newSuiteGate()
		p.Server.Handler.Handle("/wait", gate.handle)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 100)
		for range cap(errs) {
			go func() { errs <- p.Client.CallWith(ctx, "/wait", nil, nil) }()
			suiteNext(t, gate.began)
		}
		cancel()
		for range cap(errs) {
			require.ErrorIs(t, suiteNext(t, errs), context.Canceled)
		}
		close(gate.release)
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}
