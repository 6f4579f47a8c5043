package arpc_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// engEnd is how the context of a handler ended.
type engEnd struct {
	at    time.Time
	err   error
	cause error
}

func engEnded(ctx context.Context) engEnd {
	<-ctx.Done()
	return engEnd{time.Now(), ctx.Err(), context.Cause(ctx)}
}

// requireCanceled requires that the caller's giving up, and nothing else, was the
// end.
func (e engEnd) requireCanceled(t *testing.T) {
	t.Helper()
	require.Equal(t, context.Canceled, e.err)
	require.ErrorIs(t, e.cause, context.Canceled)
	var said *arpc.Error
	require.ErrorAs(t, e.cause, &said)
	require.Equal(t, arpc.CodeCanceled, said.Code())
	require.True(t, arpc.IsRemote(e.cause))
}

// engModes are the ways in which a handler of /x runs that reports its end.
var engModes = map[string]func(h *arpc.Handler, ends chan<- engEnd){
	"on the reader": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) { ends <- engEnded(ctx); ctx.Error(ctx.Err()) })
	},
	"ordered": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) { ends <- engEnded(ctx); ctx.Error(ctx.Err()) }, false)
	},
	"looks late": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			time.Sleep(110 * time.Millisecond) // the Cancel comes at 110 ms
			ends <- engEnded(ctx)
			ctx.Error(ctx.Err())
		})
	},
	"detached": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			d := ctx.Detach()
			go func() { ends <- engEnded(d); d.Error(d.Err()) }()
		})
	},
	"detached before and after a look": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			before, cancel := context.WithCancel(ctx)
			d := ctx.Detach()
			go func() { defer cancel(); <-before.Done(); ends <- engEnded(d); d.Error(d.Err()) }()
		})
	},
	"detached by a handler that goes on": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			d := ctx.Detach()
			go func() { ends <- engEnded(d); d.Error(d.Err()) }()
			time.Sleep(50 * time.Millisecond)
		})
	},
	"detached by a handler that outlasts it": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			d := ctx.Detach()
			go func() { ends <- engEnded(d); d.Error(d.Err()) }()
			time.Sleep(150 * time.Millisecond)
		})
	},
	"derived": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			derived, cancel := context.WithTimeout(context.WithValue(ctx, engKey{}, 1), time.Hour)
			defer cancel()
			ends <- engEnded(derived)
			ctx.Error(ctx.Err())
		})
	},
	"in a call back": func(h *arpc.Handler, ends chan<- engEnd) {
		h.Handle("/x", func(ctx *arpc.Context) {
			ctx.Error(ctx.Client.CallWith(ctx, "/forever", nil, nil))
			ends <- engEnded(ctx)
		})
	},
}

type engKey struct{}

// engForever answers when the caller gives up.
func engForever(ctx *arpc.Context) { <-ctx.Done(); ctx.Error(ctx.Err()) }

const engLatency = 10 * time.Millisecond

// engSlow gives both directions of a pair a latency.
func engSlow(p *arpctest.Pair) {
	arpctest.FaultsOf(p.Client.Conn()).Delay(engLatency)
	arpctest.FaultsOf(p.Peer().Conn()).Delay(engLatency)
}

// engCancelAfter calls /x with a context that ends after d, and requires that the
// call ends with it.
func engCancelAfter(t *testing.T, c *arpc.Client, d time.Duration) {
	t.Helper()
	cause := errors.New("had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(d, func() { cancel(cause) })
	start := time.Now()
	err := c.CallWith(ctx, "/x", nil, nil)
	require.Equal(t, d, time.Since(start), "the call does not wait for the peer")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)
	require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(err))
	require.False(t, arpc.SafeToRetry(err))
	require.False(t, arpc.IsRemote(err))
}

func TestV2CancelReachesTheHandler(t *testing.T) {
	for name, handle := range engModes {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				engSlow(p)
				ends := make(chan engEnd, 1)
				handle(p.Server.Handler, ends)
				for range 3 { // a route that was slow runs differently
					start := time.Now()
					engCancelAfter(t, p.Client, 100*time.Millisecond)
					end := suiteNext(t, ends)
					require.LessOrEqual(t, end.at.Sub(start), 120*time.Millisecond)
					end.requireCanceled(t)
				}
				time.Sleep(time.Second) // for the handlers to return
			}, arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) { client.Handle("/forever", engForever) }))
		})
	}
}

// A request that was cancelled before its turn came is not run.
func TestV2CancelledInTheQueueIsNotRun(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/first", func(ctx *arpc.Context) { time.Sleep(time.Second); ctx.Write(nil) }, false)
		p.Server.Handler.Handle("/x", engMustNotRun, false)
		missed := make(chan string, 1)
		p.Client.Handler.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) { missed <- m.Error().Error() })
		first := make(chan error, 1)
		go func() { first <- p.Client.Call("/first", nil, nil, time.Minute) }()
		synctest.Wait()
		engCancelAfter(t, p.Client, 100*time.Millisecond)
		require.NoError(t, suiteNext(t, first))
		require.Equal(t, "arpc: the caller gave up", suiteNext(t, missed), "the answer that the caller did not wait for")
	})
}

func TestV2AnswerAfterACancelIsASessionMiss(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		missed := make(chan string, 1)
		p.Client.Handler.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) { missed <- string(m.Data()) })
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) { <-ctx.Done(); ctx.Write("too late") })
		engCancelAfter(t, p.Client, 100*time.Millisecond)
		require.Equal(t, "too late", suiteNext(t, missed))
	})
}

func TestV2CancelCascades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan engEnd, 1)
		c := engChain(t, 4, 0, func(ctx *arpc.Context) { ends <- engEnded(ctx); ctx.Error(ctx.Err()) })
		start := time.Now()
		engCancelAfter(t, c, 100*time.Millisecond)
		end := suiteNext(t, ends)
		require.Equal(t, 100*time.Millisecond, end.at.Sub(start))
		end.requireCanceled(t)
	})
}

// Contexts that were derived from the handler's end with the handler, and leave no
// goroutine, which the bubble would find.
func TestV2DerivedContextsEndWithTheHandler(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		derived := make(chan context.Context, 3)
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			canceled, cancel := context.WithCancel(ctx)
			t.Cleanup(cancel) // later than the handler, whose end is enough
			timed, cancel := context.WithTimeout(ctx, time.Hour)
			t.Cleanup(cancel)
			derived <- canceled
			derived <- timed
			derived <- context.WithValue(ctx, engKey{}, 1)
			ctx.Write(nil)
		})
		require.NoError(t, p.Client.Call("/x", nil, nil, time.Minute))
		for range 3 {
			ctx := suiteNext(t, derived)
			<-ctx.Done()
			require.Equal(t, context.Canceled, ctx.Err())
		}
	})
}

func TestV2AfterFuncOfAHandlersContextRuns(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		ran := make(chan time.Time, 1)
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			context.AfterFunc(ctx, func() { ran <- time.Now() })
			engForever(ctx)
		})
		start := time.Now()
		engCancelAfter(t, p.Client, 100*time.Millisecond)
		require.Equal(t, start.Add(100*time.Millisecond), suiteNext(t, ran))
	})
}

func TestV2ValuesOfAHandlersContext(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		number := 1
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			for _, key := range []any{"text", engKey{}, &number} {
				ctx.Set(key, "value")
				derived, cancel := context.WithCancel(ctx)
				require.Equal(t, "value", derived.Value(key))
				cancel()
			}
			require.Nil(t, ctx.Value("unknown"))
			found, ok := arpc.FromContext(context.WithValue(ctx, engKey{}, 2))
			require.True(t, ok)
			require.Same(t, ctx, found)
			ctx.Write(nil)
		})
		require.NoError(t, p.Client.Call("/x", nil, nil, time.Minute))
		_, ok := arpc.FromContext(t.Context())
		require.False(t, ok)
	})
}

// The end of a connection ends the contexts of its handlers, with the cause.
func TestV2EndOfTheConnectionIsTheCause(t *testing.T) {
	ends := map[string]struct {
		end   func(p *arpctest.Pair)
		cause error
	}{
		"client stops": {func(p *arpctest.Pair) { p.Client.Stop() }, arpc.ErrPeerClosed},
		"server stops": {func(p *arpctest.Pair) { p.Server.Stop() }, arpc.ErrClosed},
		"peer stops":   {func(p *arpctest.Pair) { p.Peer().Stop() }, arpc.ErrClosed},
		"shutdown": {func(p *arpctest.Pair) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if !errors.Is(p.Server.Shutdown(ctx), context.DeadlineExceeded) {
				panic("the shutdown did not end with its context")
			}
		}, arpc.ErrClosed},
	}
	for name, test := range ends {
		for mode, handle := range engModes {
			t.Run(name+"/"+mode, func(t *testing.T) {
				engBubble(t, func(t *testing.T, p *arpctest.Pair) {
					got := make(chan engEnd, 1)
					handle(p.Server.Handler, got)
					p.Client.Handler.Handle("/forever", engForever)
					called := make(chan error, 1)
					go func() { called <- p.Client.CallWith(context.Background(), "/x", nil, nil) }()
					synctest.Wait()
					test.end(p)
					require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(suiteNext(t, called)))
					end := suiteNext(t, got)
					require.Equal(t, context.Canceled, end.err)
					require.ErrorIs(t, end.cause, test.cause)
					time.Sleep(time.Second) // for the handlers to return
				}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
			})
		}
	}
}

// A Cancel may carry more than that the caller gave up.
func TestV2CancelWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t)
		ends := make(chan engEnd, 1)
		s.Handler.Handle("/x", func(ctx *arpc.Context) { ends <- engEnded(ctx); ctx.Error(context.Cause(ctx)) })
		p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: 3}, "/x", ""))
		section := wire.AppendDetail(wire.AppendCode(nil, uint32(arpc.CodeAborted)), "why", []byte("{}"))
		p.write(wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdCancel, Flag: wire.FlagError, Seq: 3}, "", section, "moved on"))
		end := suiteNext(t, ends)
		require.Equal(t, context.Canceled, end.err)
		require.ErrorIs(t, end.cause, context.Canceled)
		require.EqualError(t, end.cause, "moved on")
		require.Equal(t, arpc.CodeAborted, arpc.CodeOf(end.cause))
		require.Equal(t, []arpc.Detail{{Name: "why", Data: []byte("{}")}}, end.cause.(*arpc.Error).Details())
		require.Equal(t, "moved on", p.next().payload)
	})
}

// A Cancel of what is not there, or not there any more, does nothing.
func TestV2CancelOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := engCaller(t)
		for _, seq := range []uint64{0, 1, 1 << 40, 1<<64 - 1} {
			for _, cmd := range []byte{wire.CmdCancel, wire.CmdCancel | wire.StreamEnd, wire.CmdCancel | wire.StreamEnd | wire.StreamOpener, wire.CmdCancel | wire.StreamOpener} {
				p.write(wire.AppendFrame(nil, wire.Header{Cmd: cmd, Seq: seq}, "", ""))
			}
			p.requireAlive()
		}
	})
}

// A caller whose request does not leave has not bothered anybody.
func TestV2CancelBeforeTheRequestHasLeft(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", engMustNotRun)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := p.Client.CallWith(ctx, "/x", nil, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, arpc.SafeToRetry(err))

		arpctest.FaultsOf(p.Client.Conn()).Stall()
		require.NoError(t, p.Client.Notify("/n", make([]byte, 200<<10), time.Minute))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = p.Client.CallWith(ctx, "/x", nil, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, arpc.SafeToRetry(err), "the queue was full")
		arpctest.FaultsOf(p.Client.Conn()).Resume()
		require.NoError(t, p.Client.Call("/echo", nil, nil, time.Minute))
	}, arpctest.ClientOptions(arpc.WithSendQueue(10, 64<<10), arpc.WithWriteTimeout(0)), arpctest.Setup(suiteWithEcho))
}

// To a peer that does not understand deadlines the end of one is a Cancel.
func TestV2DeadlineIsACancelWithoutMetadata(t *testing.T) {
	forms := map[string]func(c *arpc.Client) error{
		"timeout": func(c *arpc.Client) error { return c.Call("/x", nil, nil, time.Second) },
		"context": func(c *arpc.Client) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			return c.CallWith(ctx, "/x", nil, nil)
		},
	}
	for name, call := range forms {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := engScripted(t, wire.Hello{Features: wire.FeatureCancel})
				start := time.Now()
				var called sync.WaitGroup
				called.Go(func() { require.ErrorIs(t, call(c), context.DeadlineExceeded) })
				request := p.next()
				require.Zero(t, request.Flag&wire.FlagMeta)
				cancel := p.next()
				require.Equal(t, wire.CmdCancel, cancel.Cmd)
				require.Equal(t, request.Seq, cancel.Seq)
				require.Equal(t, time.Second, time.Since(start))
				called.Wait()
			})
		})
	}
}
