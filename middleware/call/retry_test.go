package call_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/call"
	"github.com/arpc-go/arpc/middleware/router"
)

// again is an error that says when to try again.
type again time.Duration

func (a again) Error() string             { return "busy" }
func (a again) RetryAfter() time.Duration { return time.Duration(a) }

func TestRetryTriesOnlyWhatMayRunAgain(t *testing.T) {
	idempotent := arpc.ContextWithIdempotent(t.Context())
	for name, c := range map[string]struct {
		ctx      context.Context
		call     arpc.Call
		err      error
		attempts int
	}{
		"nothing was sent":                        {t.Context(), arpc.Call{}, unsent(arpc.CodeUnavailable), 3},
		"nothing was sent, the queue is full":     {t.Context(), arpc.Call{}, unsent(arpc.CodeResourceExhausted), 3},
		"nothing was sent in time":                {t.Context(), arpc.Call{}, unsent(arpc.CodeDeadlineExceeded), 3},
		"nothing was sent, and never can be":      {t.Context(), arpc.Call{}, unsent(arpc.CodeInvalidArgument), 1},
		"it may have run":                         {t.Context(), arpc.Call{}, sent(arpc.CodeUnavailable), 1},
		"it may have run for too long":            {t.Context(), arpc.Call{}, sent(arpc.CodeDeadlineExceeded), 1},
		"idempotent, lost":                        {idempotent, arpc.Call{}, sent(arpc.CodeUnavailable), 3},
		"idempotent, too slow":                    {idempotent, arpc.Call{}, sent(arpc.CodeDeadlineExceeded), 3},
		"idempotent, too much":                    {idempotent, arpc.Call{}, sent(arpc.CodeResourceExhausted), 3},
		"idempotent, not found":                   {idempotent, arpc.Call{}, sent(arpc.CodeNotFound), 1},
		"idempotent, a bug":                       {idempotent, arpc.Call{}, sent(arpc.CodeInternal), 1},
		"idempotent, canceled by somebody":        {idempotent, arpc.Call{}, sent(arpc.CodeCanceled), 1},
		"idempotent, without a code":              {idempotent, arpc.Call{}, errMine, 1},
		"idempotent, the client is closed":        {idempotent, arpc.Call{Client: aClient}, arpc.Unsent(arpc.ErrClosed), 1},
		"idempotent, a member is closed":          {idempotent, arpc.Call{}, arpc.Unsent(arpc.ErrClosed), 3},
		"of a method that was named":              {t.Context(), arpc.Call{Method: "/read"}, sent(arpc.CodeUnavailable), 3},
		"a stream that was not opened":            {t.Context(), arpc.Call{Kind: arpc.KindStream}, unsent(arpc.CodeUnavailable), 3},
		"a stream that may have been opened":      {idempotent, arpc.Call{Kind: arpc.KindStream}, sent(arpc.CodeUnavailable), 1},
		"a notification, whatever became of it":   {idempotent, arpc.Call{Kind: arpc.KindNotify}, unsent(arpc.CodeUnavailable), 1},
		"a notification of a method that's named": {t.Context(), arpc.Call{Kind: arpc.KindNotify, Method: "/read"}, unsent(arpc.CodeUnavailable), 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{errs: []error{c.err, c.err, c.err, c.err}}
			retry := call.Retry(call.WithIdempotent("/read", "/list"), call.WithBackoff(1, 1))
			require.ErrorIs(t, retry(c.ctx, &c.call, s.next), c.err)
			require.Len(t, s.calls, c.attempts)
		})
	}
}

func TestRetryStopsWhenItSucceeds(t *testing.T) {
	s := &script{errs: []error{unsent(arpc.CodeUnavailable)}}
	require.NoError(t, call.Retry(call.WithBackoff(1, 1))(t.Context(), &arpc.Call{}, s.next))
	require.Len(t, s.calls, 2)
}

func TestRetryMakesSoManyAttempts(t *testing.T) {
	for n := 1; n < 6; n++ {
		s := &script{errs: make([]error, 10)}
		for i := range s.errs {
			s.errs[i] = unsent(arpc.CodeUnavailable)
		}
		require.Error(t, call.Retry(call.WithMaxAttempts(n), call.WithBackoff(1, 1))(t.Context(), &arpc.Call{}, s.next))
		require.Len(t, s.calls, n)
	}
}

// An interceptor behind may change the call; the next attempt begins with what the
// caller said.
func TestRetryBeginsEachAttemptAnew(t *testing.T) {
	s := &script{errs: []error{unsent(arpc.CodeUnavailable), unsent(arpc.CodeUnavailable)}}
	var answer string
	c := &arpc.Call{Method: "/x", Request: 1, Response: &answer}
	require.NoError(t, call.Retry(call.WithBackoff(1, 1))(t.Context(), c, func(ctx context.Context, c *arpc.Call) error {
		c.Method += "/v2"
		c.Request = 2
		c.Client = aClient
		return s.next(ctx, c)
	}))
	for _, seen := range s.calls {
		require.Equal(t, "/x/v2", seen.Method)
		require.Same(t, &answer, seen.Response)
	}
	require.Len(t, s.calls, 3)
	require.Same(t, aClient, c.Client, "who it went to is for those in front to see")
}

// The error of the last attempt says that nothing was sent, the call as a whole
// was.
func TestRetryDoesNotForgetThatAnAttemptWasSent(t *testing.T) {
	ctx := arpc.ContextWithIdempotent(t.Context())
	retry := call.Retry(call.WithBackoff(1, 1))
	for name, c := range map[string]struct {
		errs []error
		safe bool
	}{
		"none was":      {[]error{unsent(arpc.CodeUnavailable), unsent(arpc.CodeUnavailable), unsent(arpc.CodeUnavailable)}, true},
		"the first was": {[]error{sent(arpc.CodeUnavailable), unsent(arpc.CodeUnavailable), unsent(arpc.CodeUnavailable)}, false},
		"the last was":  {[]error{unsent(arpc.CodeUnavailable), unsent(arpc.CodeUnavailable), sent(arpc.CodeUnavailable)}, false},
		"then refused":  {[]error{sent(arpc.CodeUnavailable), unsent(arpc.CodeInvalidArgument)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{errs: c.errs}
			err := retry(ctx, &arpc.Call{}, s.next)
			last := c.errs[len(c.errs)-1]
			require.ErrorIs(t, err, last)
			require.EqualError(t, err, last.Error())
			require.Equal(t, arpc.CodeOf(last), arpc.CodeOf(err))
			require.Equal(t, c.safe, arpc.SafeToRetry(err))
		})
	}
}

func TestRetryWaitsARandomAndGrowingTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const base, most = 100 * time.Millisecond, 350 * time.Millisecond
		retry := call.Retry(call.WithMaxAttempts(5), call.WithBackoff(base, most), call.WithBudget(call.NewBudget(1, 1000)))
		var longest [4]time.Duration
		for range 200 {
			var at []time.Time
			retry(t.Context(), &arpc.Call{}, func(context.Context, *arpc.Call) error {
				at = append(at, time.Now())
				return unsent(arpc.CodeUnavailable)
			})
			require.Len(t, at, 5)
			for i := range longest {
				longest[i] = max(longest[i], at[i+1].Sub(at[i]))
			}
		}
		for i, limit := range []time.Duration{base, 2 * base, most, most} {
			require.Less(t, longest[i], limit)
			require.Greater(t, longest[i], limit*8/10)
		}
	})
}

func TestRetryDoesNotWaitPastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		busy := arpc.Unsent(arpc.NewError(arpc.CodeResourceExhausted, "busy").WithDetail(again(6 * time.Second)))
		s := &script{errs: []error{busy, busy, busy}}
		start := time.Now()
		err := call.Retry(call.WithBackoff(time.Second, time.Minute))(ctx, &arpc.Call{}, s.next)
		require.ErrorIs(t, err, busy, "why it failed, rather than that the time is up")
		require.Len(t, s.calls, 2)
		require.Less(t, time.Since(start), 8*time.Second)
	})
}

func TestRetryOfACanceledCallIsOverAtOnce(t *testing.T) {
	busy := arpc.NewError(arpc.CodeUnavailable, "busy").WithDetail(again(20 * time.Second))
	for name, failure := range map[string]error{"nothing was sent": arpc.Unsent(busy), "it was sent": busy} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(arpc.ContextWithIdempotent(t.Context()))
				s := &script{errs: []error{failure}}
				start := time.Now()
				time.AfterFunc(3*time.Second, cancel)
				err := call.Retry(call.WithBackoff(time.Second, time.Minute))(ctx, &arpc.Call{}, s.next)
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, failure, "why it waited")
				require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(err))
				require.Equal(t, arpc.SafeToRetry(failure), arpc.SafeToRetry(err))
				require.Len(t, s.calls, 1)
				require.Equal(t, 3*time.Second, time.Since(start))
			})
		})
	}
}

func TestRetryLeavesACallAloneThatItsCallerCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(arpc.ContextWithIdempotent(t.Context()))
	s := &script{errs: []error{sent(arpc.CodeUnavailable)}}
	err := call.Retry(call.WithBackoff(1, 1))(ctx, &arpc.Call{}, func(ctx context.Context, c *arpc.Call) error {
		cancel()
		return s.next(ctx, c)
	})
	require.ErrorIs(t, err, s.errs[0])
	require.Len(t, s.calls, 1)
}

// flaky answers every third request, the others with an error of this code.
func flaky(code arpc.Code, seen *tally) func(*arpc.Handler) {
	return func(h *arpc.Handler) {
		h.Handle("/read", func(ctx *arpc.Context) {
			if seen.add("/read")%3 == 0 {
				ctx.Write("at last")
				return
			}
			ctx.Error(arpc.NewError(code, "not now"))
		})
	}
}

func TestRetryOverAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen tally
		p := connect(t, flaky(arpc.CodeUnavailable, &seen), call.Retry())
		read := arpc.NewMethod[string, string]("/read", arpc.Idempotent)
		answer, err := read.Call(t.Context(), p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, "at last", *answer)
		require.Equal(t, 3, seen.of("/read"))

		err = p.Client.CallWith(t.Context(), "/read", nil, nil)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
		require.Equal(t, 4, seen.of("/read"), "nobody says that this one may run twice")
	})
}

func TestRetryOfAnAsyncCallRunsTheCallbackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen tally
		p := connect(t, flaky(arpc.CodeUnavailable, &seen), call.Retry(call.WithIdempotent("/read")))
		answers := make(chan string, 10)
		require.NoError(t, p.Client.CallAsync("/read", nil, func(ctx *arpc.Context) {
			var answer string
			if err := ctx.Bind(&answer); err != nil {
				answer = err.Error()
			}
			answers <- answer
		}, time.Minute))
		require.Equal(t, "at last", <-answers)
		synctest.Wait()
		require.Empty(t, answers)
		require.Equal(t, 3, seen.of("/read"))
	})
}

// A call that was not sent, because there is no connection, is sent when there is
// one again.
func TestRetryBridgesAShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen tally
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/add", func(ctx *arpc.Context) { seen.add("/add"); ctx.Write(nil) })
		}, call.Retry(call.WithMaxAttempts(10), call.WithBackoff(time.Second, 10*time.Second)))
		arpctest.FaultsOf(p.Client.Conn()).Cut()
		synctest.Wait()
		require.Equal(t, arpc.StateReconnecting, p.Client.State())
		require.NoError(t, p.Client.Call("/add", nil, nil, time.Minute))
		require.Equal(t, 1, seen.of("/add"))
	})
}

func TestRetryInAPoolAsksAnotherMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked tally
		answering := func(name string, err error) func(*arpc.Handler) {
			return func(h *arpc.Handler) {
				h.Handle("/read", func(ctx *arpc.Context) {
					asked.add(name)
					if err != nil {
						ctx.Error(err)
						return
					}
					ctx.Write(name)
				})
			}
		}
		down := arpc.NewError(arpc.CodeUnavailable, "going down")
		pool := connectPool(t, []func(*arpc.Handler){answering("a", down), answering("b", down), answering("c", nil)},
			call.Retry(call.WithIdempotent("/read")))
		for range 3 {
			var answer string
			require.NoError(t, pool.CallWith(t.Context(), "/read", nil, &answer))
			require.Equal(t, "c", answer)
		}
		require.Equal(t, 3, asked.of("c"))
		require.Positive(t, asked.of("a"))
		require.Positive(t, asked.of("b"))
	})
}

func TestRetryWaitsAsLongAsThePeerAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hint string
		var at []time.Time
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/read", func(ctx *arpc.Context) {
				at = append(at, time.Now())
				if len(at)%2 == 0 {
					ctx.Write(nil)
					return
				}
				ctx.SetMetadata(router.RetryAfterKey, hint)
				ctx.Error(arpc.NewError(arpc.CodeResourceExhausted, "busy"))
			}, false)
		}, call.Retry(call.WithIdempotent("/read"), call.WithBackoff(time.Millisecond, 5*time.Second)))

		hint = "5000"
		var md arpc.Metadata
		own := arpc.ContextWithResponseMetadata(t.Context(), &md)
		for _, ctx := range []context.Context{t.Context(), own} {
			at = nil
			require.NoError(t, p.Client.CallWith(ctx, "/read", nil, nil))
			require.Len(t, at, 2)
			require.InDelta(t, 5.5, at[1].Sub(at[0]).Seconds(), 0.5)
		}
		require.Empty(t, md, "it is that of the last response")

		at, hint = nil, "5001"
		err := p.Client.CallWith(own, "/read", nil, nil)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.Len(t, at, 1, "that is too long")
		require.Equal(t, "5001", md[router.RetryAfterKey], "for the caller to see")

		at, hint = nil, "soon"
		require.NoError(t, p.Client.CallWith(own, "/read", nil, nil))
		require.Less(t, at[1].Sub(at[0]), 2*time.Millisecond)
	})
}

// What the peer said with one attempt is not meant for the failure of the next.
func TestRetryForgetsWhatThePeerAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/read", func(ctx *arpc.Context) {
				ctx.SetMetadata(router.RetryAfterKey, "4000")
				ctx.Error(arpc.NewError(arpc.CodeUnavailable, "busy"))
			})
		}, call.Retry(call.WithIdempotent("/read"), call.WithBackoff(time.Millisecond, 5*time.Second)), func(ctx context.Context, c *arpc.Call, next arpc.CallFunc) error {
			if at = append(at, time.Now()); len(at) == 2 {
				return unsent(arpc.CodeUnavailable)
			}
			return next(ctx, c)
		})
		require.Error(t, p.Client.CallWith(t.Context(), "/read", nil, nil))
		require.Len(t, at, 3)
		require.InDelta(t, 4.4, at[1].Sub(at[0]).Seconds(), 0.4)
		require.Less(t, at[2].Sub(at[1]), 3*time.Millisecond)
	})
}

// A stream that an interceptor behind had opened, and then refused, is closed.
func TestRetryLeavesNoStreamOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 10)
		refusals := 2
		p := connect(t, func(h *arpc.Handler) {
			h.HandleStream("/talk", func(s *arpc.Stream) { ended <- s.Recv(nil) })
		}, call.Retry(), func(ctx context.Context, c *arpc.Call, next arpc.CallFunc) error {
			err := next(ctx, c)
			if refusals--; refusals >= 0 {
				return unsent(arpc.CodeUnavailable)
			}
			return err
		})
		s, err := p.Client.OpenStream(t.Context(), "/talk")
		require.NoError(t, err)
		for range 2 {
			require.Error(t, <-ended)
		}
		require.Empty(t, ended)
		require.NoError(t, s.CloseSend())
		require.Error(t, <-ended)
	})
}

func TestRetryThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { call.WithMaxAttempts(0) })
	require.Panics(t, func() { call.WithBackoff(0, time.Second) })
	require.Panics(t, func() { call.WithBackoff(2*time.Second, time.Second) })
}
