package call_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/call"
)

// quick is a breaker that opens with the third failure in ten seconds, if there is
// no success, for about five seconds.
func quick(opts ...call.BreakerOption) *call.Breaker {
	return call.NewBreaker("test", append([]call.BreakerOption{
		call.WithFailureRate(1, 3, 10*time.Second),
		call.WithOpenFor(5 * time.Second),
	}, opts...)...)
}

// passing makes calls that end with err pass through a breaker.
func passing(t testing.TB, b *call.Breaker, c arpc.Call, err error, times int) (passed int) {
	for range times {
		b.Intercept(t.Context(), &c, func(context.Context, *arpc.Call) error { passed++; return err })
	}
	return passed
}

// only returns the state of the only circuit.
func only(t testing.TB, b *call.Breaker) call.State {
	circuits := b.Circuits()
	require.Len(t, circuits, 1)
	return circuits[0].State
}

var (
	anyCall = arpc.Call{Method: "/x", Client: aClient}
	errDown = arpc.NewError(arpc.CodeUnavailable, "down")
)

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		b := quick(call.WithProbes(2), call.WithOnChange(func(c call.Change) {
			require.Equal(t, "test", c.Breaker)
			require.Equal(t, "/x", c.Method)
			changes = append(changes, fmt.Sprintf("%v to %v", c.From, c.State))
		}))
		require.Equal(t, 2, passing(t, b, anyCall, errDown, 2))
		require.Equal(t, call.Closed, only(t, b))
		require.Equal(t, 1, passing(t, b, anyCall, errDown, 5), "the third failure opens it")
		require.Equal(t, call.Open, only(t, b))

		time.Sleep(4 * time.Second)
		require.Zero(t, passing(t, b, anyCall, nil, 100))
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, passing(t, b, anyCall, errDown, 5), "a probe that fails opens it again")
		require.Equal(t, call.Open, only(t, b))

		time.Sleep(6 * time.Second)
		require.Equal(t, 1, passing(t, b, anyCall, nil, 1))
		require.Equal(t, call.HalfOpen, only(t, b), "one success of two")
		require.Equal(t, 1, passing(t, b, anyCall, nil, 1))
		require.Equal(t, call.Closed, only(t, b))
		require.Equal(t, 100, passing(t, b, anyCall, nil, 100))
		require.Equal(t, []string{"closed to open", "open to half-open", "half-open to open", "open to half-open", "half-open to closed"}, changes)
	})
}

func TestBreakerLooksAtTheShareInAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := call.NewBreaker("test", call.WithFailureRate(0.5, 10, 10*time.Second))
		passing(t, b, anyCall, nil, 10)
		passing(t, b, anyCall, errDown, 9)
		require.Equal(t, call.Closed, only(t, b), "9 of 19")
		time.Sleep(11 * time.Second)
		passing(t, b, anyCall, errDown, 9)
		require.Equal(t, call.Closed, only(t, b), "9 are too few to tell, and the others long ago")
		passing(t, b, anyCall, errDown, 1)
		require.Equal(t, call.Open, only(t, b))
	})
}

func TestBreakerSaysWhyItRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick()
		refused := func() *call.OpenError {
			err := b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error { panic("it is open") })
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
			require.True(t, arpc.SafeToRetry(err))
			require.False(t, arpc.IsRemote(err))
			var open *call.OpenError
			require.ErrorAs(t, err, &open)
			require.Equal(t, open.Error(), err.Error())
			return open
		}
		passing(t, b, anyCall, errDown, 3)
		open := refused()
		require.Equal(t, "test", open.Breaker)
		require.Equal(t, "/x", open.Method)
		require.InDelta(t, 5, open.Wait.Seconds(), 0.5)
		require.Regexp(t, `^call: the breaker "test" is open for /x, for [45]\.?\d*s more$`, open.Error())

		time.Sleep(6 * time.Second)
		go b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error { time.Sleep(time.Second); return nil })
		synctest.Wait()
		require.EqualError(t, refused(), `call: the breaker "test" is open for /x, and is being probed`)
		time.Sleep(2 * time.Second)
		require.Equal(t, call.Closed, only(t, b))

		whole := quick(call.WithScope(call.Whole))
		passing(t, whole, anyCall, errDown, 3)
		require.ErrorContains(t, whole.Intercept(t.Context(), &arpc.Call{Method: "/x"}, nil), `the breaker "test" is open, for `)
	})
}

// remote returns the error of a call that a peer answered with this code.
func remote(t *testing.T, code arpc.Code) error {
	p := connect(t, func(h *arpc.Handler) {
		h.Handle("/fail", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(code, "no")) })
	})
	err := p.Client.Call("/fail", nil, nil, arpc.TimeForever)
	require.True(t, arpc.IsRemote(err))
	require.Equal(t, code, arpc.CodeOf(err))
	return err
}

func TestBreakerClassifies(t *testing.T) {
	for code := arpc.CodeCanceled; code <= arpc.CodeUnauthenticated; code++ {
		fromPeer, here := call.Success, call.Neutral
		switch code {
		case arpc.CodeUnavailable, arpc.CodeDeadlineExceeded:
			fromPeer, here = call.Failure, call.Failure
		case arpc.CodeInternal:
			fromPeer = call.Failure
		case arpc.CodeCanceled:
			fromPeer = call.Neutral
		}
		require.Equal(t, fromPeer, call.Classify(remote(t, code)), "%v from the peer", code)
		require.Equal(t, here, call.Classify(unsent(code)), "%v here, not sent", code)
	}
	require.Equal(t, call.Success, call.Classify(nil))
	require.Equal(t, call.Failure, call.Classify(sent(arpc.CodeInternal)), "the response cannot be decoded")
	require.Equal(t, call.Neutral, call.Classify(errMine))
	require.Equal(t, call.Neutral, call.Classify(context.Canceled))
}

func TestBreakerOverAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(h *arpc.Handler) {
			h.Handle("/slow", func(ctx *arpc.Context) { <-ctx.Done() })
			h.Handle("/missing", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeNotFound, "no such thing")) })
		}
		b := quick(call.WithScope(call.Whole))
		p := connect(t, slow, b.Intercept)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			time.AfterFunc(time.Second, cancel)
			require.ErrorIs(t, p.Client.CallWith(ctx, "/slow", nil, nil), context.Canceled)
		}
		require.Equal(t, call.Closed, only(t, b), "its callers gave up by themselves")
		for range 100 {
			require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(p.Client.Call("/missing", nil, nil, time.Second)))
		}
		require.Equal(t, call.Closed, only(t, b), "the peer answers")
		time.Sleep(time.Minute)
		for range 3 {
			require.ErrorIs(t, p.Client.Call("/slow", nil, nil, time.Second), context.DeadlineExceeded)
		}
		require.Equal(t, call.Open, only(t, b))
		start := time.Now()
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(p.Client.Call("/slow", nil, nil, time.Minute)))
		require.Zero(t, time.Since(start))
	})
}

func TestRow12_BreakerCountsALostConnectionAsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick()
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/slow", func(ctx *arpc.Context) { <-ctx.Done() })
		}, b.Intercept)
		for range 3 {
			ended := make(chan error, 1)
			go func() { ended <- p.Client.Call("/slow", nil, nil, time.Minute) }()
			synctest.Wait()
			require.Equal(t, call.Closed, only(t, b))
			arpctest.FaultsOf(p.Client.Conn()).Cut()
			err := <-ended
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
			require.False(t, arpc.SafeToRetry(err), "it was sent, and then lost")
			time.Sleep(time.Second) // it is connected again
		}
		require.Equal(t, call.Open, only(t, b))
	})
}

func TestRow12_BreakerCountsTheLackOfAConnectionAsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick()
		p := connect(t, serve, b.Intercept)
		p.Server.Stop()
		synctest.Wait()
		for range 3 {
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(p.Client.Call("/echo", nil, nil, time.Second)))
		}
		require.Equal(t, call.Open, only(t, b))
	})
}

func TestBreakerHasACircuitForEachMethod(t *testing.T) {
	b := quick()
	passing(t, b, arpc.Call{Method: "/bad"}, errDown, 3)
	require.Zero(t, passing(t, b, arpc.Call{Method: "/bad"}, nil, 1))
	require.Equal(t, 1, passing(t, b, arpc.Call{Method: "/good"}, nil, 1))
	require.ElementsMatch(t, []call.Circuit{
		{Breaker: "test", Method: "/bad", State: call.Open},
		{Breaker: "test", Method: "/good", State: call.Closed},
	}, b.Circuits())
}

func TestBreakerHasABoundedNumberOfCircuits(t *testing.T) {
	b := quick()
	for i := range 3000 {
		passing(t, b, arpc.Call{Method: fmt.Sprint(i)}, nil, 1)
	}
	require.Len(t, b.Circuits(), 1001)
	passing(t, b, arpc.Call{Method: "one more"}, errDown, 20)
	require.Len(t, b.Circuits(), 1001)
}

// Notifications and streams count by whether they began, and are refused like
// calls.
func TestBreakerOfNotificationsAndStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick(call.WithScope(call.Whole))
		p := connect(t, serve, b.Intercept)
		require.NoError(t, p.Client.Notify("/told", nil, time.Second))
		st, err := p.Client.OpenStream(t.Context(), "/talk")
		require.NoError(t, err)
		require.NoError(t, st.Close())
		time.Sleep(time.Minute)

		p.Server.Stop()
		synctest.Wait()
		require.ErrorIs(t, p.Client.Notify("/told", nil, time.Second), arpc.ErrDisconnected)
		_, err = p.Client.OpenStream(t.Context(), "/talk")
		require.ErrorIs(t, err, arpc.ErrDisconnected)
		require.ErrorIs(t, p.Client.Notify("/told", nil, time.Second), arpc.ErrDisconnected)
		require.Equal(t, call.Open, only(t, b))

		var open *call.OpenError
		require.ErrorAs(t, p.Client.Notify("/told", nil, time.Second), &open)
		_, err = p.Client.OpenStream(t.Context(), "/talk")
		require.ErrorAs(t, err, &open)
	})
}

// A Retry in front of it waits until the circuit is half-open, or gives up at once
// when that takes too long.
func TestBreakerBehindARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick()
		patient := call.Retry(call.WithBackoff(time.Millisecond, time.Minute))
		try := func(retry arpc.CallInterceptor) (time.Duration, error) {
			start := time.Now()
			err := retry(t.Context(), &arpc.Call{Method: "/x"}, func(ctx context.Context, c *arpc.Call) error {
				return b.Intercept(ctx, c, func(context.Context, *arpc.Call) error { return nil })
			})
			return time.Since(start), err
		}
		passing(t, b, anyCall, errDown, 3)
		d, err := try(call.Retry())
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.Zero(t, d)
		d, err = try(patient)
		require.NoError(t, err)
		require.InDelta(t, 5.5, d.Seconds(), 1.2)
	})
}

func TestBreakerWithOtherFailures(t *testing.T) {
	b := quick(call.WithClassify(func(err error) call.Outcome {
		if arpc.CodeOf(err) == arpc.CodeResourceExhausted {
			return call.Failure
		}
		return call.Classify(err)
	}))
	passing(t, b, anyCall, sent(arpc.CodeResourceExhausted), 3)
	require.Equal(t, call.Open, only(t, b))
}

// The hook may use the breaker, and is told of one change after the other.
func TestBreakerTellsChangesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *call.Breaker
		last, inside := call.Closed, 0
		b = quick(call.WithOnChange(func(c call.Change) {
			inside++
			require.Equal(t, 1, inside)
			require.Equal(t, last, c.From)
			last = c.State
			passing(t, b, anyCall, errDown, 1)
			b.Circuits()
			inside--
		}))
		for range 20 {
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					time.Sleep(time.Duration(i) * time.Second)
					passing(t, b, anyCall, []error{nil, errDown}[rand.IntN(2)], 3)
				})
			}
			all.Wait()
		}
		require.Equal(t, only(t, b), last)
	})
}

func TestBreakerHookThatPanicsIsToldOfTheNextChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		b := quick(call.WithOnChange(func(call.Change) {
			if changes++; changes == 1 {
				panic("a bug")
			}
		}))
		require.Panics(t, func() { passing(t, b, anyCall, errDown, 3) })
		time.Sleep(6 * time.Second)
		passing(t, b, anyCall, nil, 1)
		require.Equal(t, 3, changes)
	})
}

func TestBreakerThatMakesNoSensePanics(t *testing.T) {
	for _, fn := range []func(){
		func() { call.WithFailureRate(0, 1, time.Second) },
		func() { call.WithFailureRate(1.1, 1, time.Second) },
		func() { call.WithFailureRate(1, 0, time.Second) },
		func() { call.WithFailureRate(1, 1, 0) },
		func() { call.WithOpenFor(0) },
		func() { call.WithProbes(0) },
		func() { call.WithScope(-1) },
		func() { call.WithClassify(nil) },
		func() { call.WithOnChange(nil) },
		func() { call.NewBreaker("per method").Picker(nil) },
	} {
		require.Panics(t, fn)
	}
}
