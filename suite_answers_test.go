package arpc_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteFailures are the ways for a handler to end other than by returning.
var suiteFailures = map[string]func(){
	"panic":  func() { panic("a test panics") },
	"goexit": runtime.Goexit,
}

func TestSuiteDetachAnswersLater(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		detached := make(chan *arpc.Context, 3)
		p.Server.Handler.Handle("/later", func(ctx *arpc.Context) { detached <- ctx.Detach() })
		var outcomes []<-chan suiteOutcome
		for i := range cap(detached) {
			outcomes = append(outcomes, suiteAsync(t, p.Client, "/later", strconv.Itoa(i)))
		}
		suiteAlive(t, p) // the handlers have returned, and others had their turn
		for range cap(detached) {
			ctx := suiteNext(t, detached)
			require.NoError(t, ctx.Err())
			require.NoError(t, ctx.Write("answer to "+string(ctx.Body())))
			require.ErrorIs(t, ctx.Write("another"), arpc.ErrAnswered)
			require.ErrorIs(t, ctx.Error("another"), arpc.ErrAnswered)
		}
		for i, outcome := range outcomes {
			require.Equal(t, suiteOutcome{text: "answer to " + strconv.Itoa(i)}, suiteNext(t, outcome))
		}
	}, arpctest.Setup(suiteWithEcho))
}

// A detached request is answered to the connection it came on, or not at all.
func TestSuiteDetachOutlivesTheConnection(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		detached := make(chan *arpc.Context, 1)
		p.Server.Handler.Handle("/later", func(ctx *arpc.Context) { detached <- ctx.Detach() })
		outcome := suiteAsync(t, p.Client, "/later", nil)
		ctx := suiteNext(t, detached)
		p.Client.Conn().Close()
		suiteNext(t, ctx.Done())
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(ctx.Write("too late")))
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(suiteNext(t, outcome).err))
	})
}

// The Context that was detached from cannot answer any more.
func TestSuiteDetachTakesTheAnswer(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		wrote := make(chan error, 3)
		p.Server.Handler.Handle("/later", func(ctx *arpc.Context) {
			first := ctx.Detach()
			wrote <- ctx.Write("by the handler")
			wrote <- ctx.Detach().Write("by the second")
			wrote <- first.Write("by the first")
		})
		var reply string
		require.NoError(t, p.Client.Call("/later", nil, &reply, suitePatience))
		require.Equal(t, "by the first", reply)
		require.ErrorIs(t, suiteNext(t, wrote), arpc.ErrAnswered)
		require.ErrorIs(t, suiteNext(t, wrote), arpc.ErrAnswered)
		require.NoError(t, suiteNext(t, wrote))
	})
}

func TestSuiteAnsweredOnce(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		wrote := make(chan error, 3)
		p.Server.Handler.Handle("/twice", func(ctx *arpc.Context) {
			wrote <- ctx.Write("first")
			wrote <- ctx.Write("second")
			wrote <- ctx.Error("third")
		})
		var reply string
		require.NoError(t, p.Client.Call("/twice", nil, &reply, suitePatience))
		require.Equal(t, "first", reply)
		require.NoError(t, suiteNext(t, wrote))
		require.ErrorIs(t, suiteNext(t, wrote), arpc.ErrAnswered)
		require.ErrorIs(t, suiteNext(t, wrote), arpc.ErrAnswered)
	})
}

// Of many goroutines that answer at the same time one does.
func TestSuiteAnsweredOnceByMany(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		wrote := make(chan error, 8)
		p.Server.Handler.Handle("/race", func(ctx *arpc.Context) {
			var all sync.WaitGroup
			for range cap(wrote) {
				all.Go(func() { wrote <- ctx.Write("x") })
			}
			all.Wait()
		})
		require.NoError(t, p.Client.Call("/race", nil, nil, suitePatience))
		succeeded := 0
		for range cap(wrote) {
			if err := suiteNext(t, wrote); err == nil {
				succeeded++
			} else {
				require.ErrorIs(t, err, arpc.ErrAnswered)
			}
		}
		require.Equal(t, 1, succeeded)
	})
}

func TestSuiteUseAfterReturn(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		kept := make(chan *arpc.Context, 1)
		p.Server.Handler.Handle("/keep", func(ctx *arpc.Context) {
			ctx.Write("x")
			kept <- ctx
		})
		require.NoError(t, p.Client.Call("/keep", "body", nil, suitePatience))
		ctx := suiteNext(t, kept)
		suiteAlive(t, p) // the handler has returned
		var body string
		require.ErrorIs(t, ctx.Bind(&body), arpc.ErrHandlerReturned)
		require.ErrorIs(t, ctx.Write("y"), arpc.ErrHandlerReturned)
		require.ErrorIs(t, ctx.Error("y"), arpc.ErrHandlerReturned)
		require.ErrorIs(t, ctx.WriteBytes(nil), arpc.ErrHandlerReturned)
		require.ErrorIs(t, ctx.Detach().Write("y"), arpc.ErrHandlerReturned)
		require.Nil(t, ctx.Body())
		suiteNext(t, ctx.Done())
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// A request that nobody answers fails at once, and with it nothing else. The
// caller would wait for hours.
func TestSuiteUnanswered(t *testing.T) {
	handlers := map[string]arpc.HandlerFunc{
		"forgotten": func(*arpc.Context) {},
		"panic":     func(*arpc.Context) { panic("a test panics") },
		"goexit":    func(*arpc.Context) { runtime.Goexit() },
	}
	for name, handler := range handlers {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				for mode, async := range map[string]bool{"/concurrent": true, "/ordered": false} {
					p.Server.Handler.Handle(mode, handler, async)
					for range 3 {
						suiteRemote(t, p.Client.Call(mode, nil, nil, arpc.TimeForever), "internal error")
					}
					suiteAlive(t, p)
				}
			}, arpctest.Setup(suiteWithEcho))
		})
	}
}

// A handler that has answered may panic or end its goroutine.
func TestSuiteFailsAfterTheAnswer(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, fail := range suiteFailures {
			p.Server.Handler.Handle(name, func(ctx *arpc.Context) {
				ctx.Write("x")
				fail()
			})
			require.NoError(t, p.Client.Call(name, nil, nil, suitePatience))
			suiteAlive(t, p)
		}
	}, arpctest.Setup(suiteWithEcho))
}

// Ordered notifications go on, in order, behind one that panics or ends its
// goroutine, whether quickly or after it lost its place on the reader.
func TestSuiteOrderedGoesOnAfterFailures(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, fail := range suiteFailures {
			got := make(chan int, 100)
			p.Server.Handler.Handle(name, func(ctx *arpc.Context) {
				var i int
				ctx.Bind(&i)
				got <- i
				if i%10 == 0 {
					ctx.Client.Call("/echo", nil, nil, suitePatience)
					fail()
				}
				if i%7 == 0 {
					fail()
				}
			})
			for i := range cap(got) {
				require.NoError(t, p.Client.Notify(name, i, suitePatience))
			}
			for i := range cap(got) {
				require.Equal(t, i, suiteNext(t, got), name)
			}
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// What only requests have.
func TestSuiteNotificationsHaveNoAnswer(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		wrote := make(chan error, 4)
		p.Server.Handler.Handle("/told", func(ctx *arpc.Context) {
			wrote <- ctx.Write("x")
			wrote <- ctx.WriteBytes(nil)
			wrote <- ctx.Error("x")
			wrote <- ctx.Detach().Write("x")
		})
		require.NoError(t, p.Client.Notify("/told", nil, suitePatience))
		for range cap(wrote) {
			require.ErrorIs(t, suiteNext(t, wrote), arpc.ErrNotRequest)
		}
	})
}

// The Context of a handler ends with its connection, and with it what is derived
// from it.
func TestSuiteContextEndsWithTheConnection(t *testing.T) {
	type key struct{}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		began, ended := make(chan struct{}), make(chan error, 1)
		p.Server.Handler.Handle("/wait", func(ctx *arpc.Context) {
			ctx.Set(key{}, "value")
			derived, cancel := context.WithCancel(ctx)
			defer cancel()
			if err := derived.Err(); err != nil || derived.Value(key{}) != "value" {
				t.Errorf("the context has err %v and value %v", err, derived.Value(key{}))
			}
			close(began)
			<-derived.Done()
			ended <- errors.Join(ctx.Err(), derived.Err())
		})
		outcome := suiteAsync(t, p.Client, "/wait", nil)
		suiteNext(t, began)
		p.Client.Conn().Close()
		require.ErrorIs(t, suiteNext(t, ended), context.Canceled)
		require.Error(t, suiteNext(t, outcome).err)
	})
}
