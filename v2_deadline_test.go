package arpc_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// engBubble runs body on a fake clock, over memory.
func engBubble(t *testing.T, body func(t *testing.T, p *arpctest.Pair), opts ...arpctest.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		body(t, arpctest.New(t, arpctest.Memory(), opts...))
	})
}

// engOld has an end speak version 1 alone.
var engOld = arpc.WithVersions(1, 1)

// engBudget is what a handler finds out about its deadline.
type engBudget struct {
	left       time.Duration // of Deadline, since the start of the test
	has        bool
	done       time.Duration // when Done was closed, since the start of the test
	err, cause error
}

// engBudgets has h report the budget of each request of method. The handler waits
// until its context ends.
func engBudgets(h *arpc.Handler, method string, start time.Time, async ...bool) <-chan engBudget {
	budgets := make(chan engBudget, 100)
	report := func(ctx *arpc.Context) {
		deadline, has := ctx.Deadline()
		<-ctx.Done()
		budgets <- engBudget{deadline.Sub(start), has, time.Since(start), ctx.Err(), context.Cause(ctx)}
		ctx.Error(ctx.Err())
	}
	h.Handle(method, report, async...)
	return budgets
}

const engSecond = time.Second

// engForms are the ways in which a call gets a deadline of a second.
var engForms = map[string]func(c *arpc.Client, method string) error{
	"timeout": func(c *arpc.Client, method string) error { return c.Call(method, nil, nil, engSecond) },
	"context": func(c *arpc.Client, method string) error {
		ctx, cancel := context.WithTimeout(context.Background(), engSecond)
		defer cancel()
		return c.CallWith(ctx, method, nil, nil)
	},
	"async": func(c *arpc.Client, method string) error {
		result := make(chan error, 1)
		err := c.CallAsync(method, nil, func(ctx *arpc.Context) { result <- ctx.Bind(nil) }, engSecond)
		return errors.Join(err, <-result)
	},
	"default": func(c *arpc.Client, method string) error {
		return c.CallWith(context.Background(), method, nil, nil)
	},
}

func TestV2HandlerHasTheCallersBudget(t *testing.T) {
	for name, call := range engForms {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				for mode, async := range map[string]bool{"concurrent": true, "ordered": false} {
					for c, h := range map[*arpc.Client]*arpc.Handler{p.Client: p.Server.Handler, p.Peer(): p.Client.Handler} {
						start := time.Now()
						budgets := engBudgets(h, mode, start, async)
						err := call(c, mode)
						require.ErrorIs(t, err, context.DeadlineExceeded)
						require.Equal(t, name == "default", strings.Contains(err.Error(), "1s, which it has if its context has no deadline (WithCallTimeout)"))
						require.False(t, arpc.IsRemote(err))
						require.False(t, arpc.SafeToRetry(err))
						require.Equal(t, engSecond, time.Since(start))
						got := suiteNext(t, budgets)
						require.ErrorIs(t, got.cause, context.DeadlineExceeded)
						got.cause = nil
						require.Equal(t, engBudget{engSecond, true, engSecond, context.DeadlineExceeded, nil}, got)
					}
				}
			}, arpctest.ClientOptions(arpc.WithCallTimeout(engSecond)), arpctest.ServerOptions(arpc.WithCallTimeout(engSecond)))
		})
	}
}

// The time a message is under way is not the caller's to give: clocks differ. It
// comes on top.
func TestV2BudgetCountsFromTheArrival(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		start := time.Now()
		budgets := engBudgets(p.Server.Handler, "/x", start)
		arpctest.FaultsOf(p.Client.Conn()).Delay(100 * time.Millisecond)
		require.ErrorIs(t, p.Client.Call("/x", nil, nil, engSecond), context.DeadlineExceeded)
		require.Equal(t, engSecond, time.Since(start))
		got := suiteNext(t, budgets)
		require.Equal(t, engSecond+100*time.Millisecond, got.left)
		require.Equal(t, engSecond+100*time.Millisecond, got.done)
	})
}

func TestV2DetachedRequestKeepsItsBudget(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		start := time.Now()
		budgets := make(chan engBudget, 1)
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			d := ctx.Detach()
			go func() {
				deadline, has := d.Deadline()
				<-d.Done()
				budgets <- engBudget{deadline.Sub(start), has, time.Since(start), d.Err(), nil}
				d.Error(d.Err())
			}()
		})
		require.ErrorIs(t, p.Client.Call("/x", nil, nil, engSecond), context.DeadlineExceeded)
		require.Equal(t, engBudget{engSecond, true, engSecond, context.DeadlineExceeded, nil}, suiteNext(t, budgets))
	})
}

// Calls without a deadline have none at the other end, nor have those between
// ends of which one speaks version 1, whichever.
func TestV2NoBudget(t *testing.T) {
	tests := map[string]struct {
		opts []arpctest.Option
		call func(c *arpc.Client) error
	}{
		"no deadline": {nil, func(c *arpc.Client) error { return c.CallWith(context.Background(), "/x", nil, nil) }},
		"forever":     {nil, func(c *arpc.Client) error { return c.Call("/x", nil, nil, arpc.TimeForever) }},
		"old client":  {[]arpctest.Option{arpctest.ClientOptions(engOld)}, func(c *arpc.Client) error { return c.Call("/x", nil, nil, engSecond) }},
		"old server":  {[]arpctest.Option{arpctest.ServerOptions(engOld)}, func(c *arpc.Client) error { return c.Call("/x", nil, nil, engSecond) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
					_, has := ctx.Deadline()
					require.False(t, has)
					ctx.Write(nil)
				})
				require.NoError(t, test.call(p.Client))
			}, test.opts...)
		})
	}
}

// engTimed is a request with so much time left.
func engTimed(seq uint64, method string, left time.Duration) []byte {
	section := wire.AppendTimeout(nil, uint64(left.Microseconds()))
	return wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest, Seq: seq}, method, section, "")
}

// requireExpired requires that the next frame refuses a request because its
// deadline has passed.
func (p *engPeer) requireExpired(seq uint64) {
	p.t.Helper()
	f := p.nextOf(wire.CmdResponse)
	require.Equal(p.t, seq, f.Seq)
	require.Equal(p.t, wire.FlagError, f.Flag&wire.FlagError)
	require.Equal(p.t, arpc.CodeDeadlineExceeded, arpc.Code(f.meta.Code))
}

func TestV2ExpiredOnArrivalIsNotRun(t *testing.T) {
	for mode, async := range map[string]bool{"concurrent": true, "ordered": false} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := engCaller(t)
				s.Handler.Handle("/x", func(*arpc.Context) { t.Error("it ran") }, async)
				time.Sleep(time.Millisecond)
				p.write(engTimed(7, "/x", 0))
				p.requireExpired(7)
				p.requireAlive()
			})
		})
	}
}

// engBusy has the reader or the queue of a server in the way of what comes behind
// the first request, for a second.
var engBusy = map[string]struct {
	opts []arpc.Option
	last func(s *arpc.Server) // registers /last
	hold bool                 // the first request is needed for it
}{
	"ordered queue": {
		last: func(s *arpc.Server) { s.Handler.Handle("/last", engMustNotRun, false) }, hold: true,
	},
	"connected hook": {
		last: func(s *arpc.Server) {
			s.Handler.HandleConnected(engCallBack)
			s.Handler.Handle("/last", engMustNotRun)
		},
	},
	"connected hook, ordered": {
		last: func(s *arpc.Server) {
			s.Handler.HandleConnected(engCallBack)
			s.Handler.Handle("/last", engMustNotRun, false)
		},
	},
	"limit of bytes": {
		opts: []arpc.Option{arpc.WithMaxInflightBytes(50)},
		last: func(s *arpc.Server) { s.Handler.Handle("/last", engMustNotRun) }, hold: true,
	},
}

// engCallBack is a connected hook that asks the peer for something, and gets no
// answer. What comes meanwhile waits for it.
func engCallBack(c *arpc.Client) { c.Call("/back", nil, nil, engSecond) }

func engMustNotRun(*arpc.Context) { panic("the request ran") }

func TestV2ExpiredWhileQueuedIsNotRun(t *testing.T) {
	for name, busy := range engBusy {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := engNewServer(t, busy.opts...)
				s.Handler.Handle("/first", func(ctx *arpc.Context) { time.Sleep(engSecond); ctx.Write(nil) }, false)
				busy.last(s.Server)
				p := s.caller()
				if busy.hold {
					p.write(engTimed(1, "/first", 10*engSecond))
				}
				p.write(engTimed(2, "/last", engSecond/2))
				if busy.hold {
					require.Equal(t, uint64(1), p.next().Seq)
				}
				p.requireExpired(2)
				p.requireAlive()
			})
		})
	}
}

// When the deadline has passed at both ends it does not matter who was quicker to
// say so.
func TestV2DeadlineIsTheCallersOwnWhoeverSaysSo(t *testing.T) {
	for name, call := range engForms {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				for range 50 {
					err := call(p.Client, "/x")
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
					require.False(t, arpc.IsRemote(err))
				}
			}, arpctest.ClientOptions(arpc.WithCallTimeout(engSecond)), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
				s.Handler.Handle("/x", func(ctx *arpc.Context) { time.Sleep(engSecond); ctx.Error(context.DeadlineExceeded) })
			}))
		})
	}
}

// A deadline of the handler's own that it reports is not the caller's.
func TestV2DeadlineOfTheHandlerIsRemote(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) { ctx.Error(context.DeadlineExceeded) })
		err := p.Client.Call("/x", nil, nil, engSecond)
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	})
}

// engChain connects clients to each other: each hop forwards /x to the next after
// a pause, with its own context.
func engChain(t *testing.T, hops int, pause time.Duration, last func(ctx *arpc.Context)) *arpc.Client {
	next := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		s.Handler.Handle("/x", last)
	})).Client
	for range hops - 1 {
		c := next
		next = arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
			s.Handler.Handle("/x", func(ctx *arpc.Context) {
				time.Sleep(pause)
				ctx.Error(c.CallWith(ctx, "/x", nil, nil))
			})
		})).Client
	}
	return next
}

func TestV2BudgetShrinksFromHopToHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		budgets := make(chan engBudget, 1)
		c := engChain(t, 4, 200*time.Millisecond, func(ctx *arpc.Context) {
			deadline, has := ctx.Deadline()
			require.Equal(t, 600*time.Millisecond, time.Since(start))
			<-ctx.Done()
			budgets <- engBudget{left: deadline.Sub(start), has: has, done: time.Since(start)}
			ctx.Error(ctx.Err())
		})
		err := c.Call("/x", nil, nil, engSecond)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, engBudget{left: engSecond, has: true, done: engSecond}, suiteNext(t, budgets))
	})
}

// What a handler has no time left for is not sent.
func TestV2BudgetThatIsSpentSendsNothing(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Client.Handler.Handle("/back", engMustNotRun)
		results := make(chan error, 1)
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			<-ctx.Done()
			results <- ctx.Client.CallWith(ctx, "/back", nil, nil)
		})
		require.ErrorIs(t, p.Client.Call("/x", nil, nil, engSecond), context.DeadlineExceeded)
		err := suiteNext(t, results)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, arpc.SafeToRetry(err))
	})
}

// Deadlines that are as good as none are none.
func TestV2DeadlinesThatAreVeryFar(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			deadline, has := ctx.Deadline()
			require.True(t, !has || time.Until(deadline) > 100*24*time.Hour)
			time.Sleep(engSecond)
			ctx.Write(nil)
		})
		far := time.Duration(math.MaxInt64)
		for _, timeout := range []time.Duration{far, far - 1, far - time.Second, far / 2, far / 1000, 1 << 61, 1 << 60} {
			require.NoError(t, p.Client.Call("/x", nil, nil, timeout), "%v", timeout)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			require.NoError(t, p.Client.CallWith(ctx, "/x", nil, nil), "%v", timeout)
			cancel()
		}
		ctx, cancel := context.WithDeadline(t.Context(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		defer cancel()
		require.NoError(t, p.Client.CallWith(ctx, "/x", nil, nil))
		s := engOpen(t, ctx, p.Client, "/echo")
		engSendAll(t, s, 0, 1)
		engRecvAll(t, s, 0, 1)
		require.NoError(t, s.Close())
	}, arpctest.Setup(engStreams))
}
