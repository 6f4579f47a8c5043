package call_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/call"
)

// paced is a server whose answers take time.
type paced struct {
	takes    []time.Duration // of the first request, the second and so on; then 0
	fails    map[int]error   // of requests that are answered with an error
	seen     tally
	canceled chan error // why the context of a handler ended
}

func (s *paced) register(h *arpc.Handler) {
	s.canceled = make(chan error, 10_000)
	h.Handle("/read", func(ctx *arpc.Context) {
		n := s.seen.add("/read")
		if n <= len(s.takes) {
			select {
			case <-ctx.Done():
				s.canceled <- context.Cause(ctx)
				return
			case <-time.After(s.takes[n-1]):
			}
		}
		if err := s.fails[n]; err != nil {
			ctx.Error(err)
			return
		}
		ctx.SetMetadata("attempt", string('0'+rune(n)))
		ctx.Write(map[string]int{"Attempt": n})
	})
	h.Handle("/told", func(ctx *arpc.Context) { s.seen.add("/told"); ctx.Write(nil) })
	h.HandleStream("/talk", func(st *arpc.Stream) { s.seen.add("/talk"); st.Recv(nil) })
}

func (s *paced) total() int { return s.seen.of("/read") }

const hedgeDelay = 20 * time.Millisecond

// connectHedged connects to s with calls of /read hedged after hedgeDelay.
func connectHedged(t *testing.T, s *paced, opts ...call.HedgeOption) *arpctest.Pair {
	opts = append([]call.HedgeOption{call.WithDelay(hedgeDelay), call.WithIdempotent("/read")}, opts...)
	return connect(t, s.register, call.Hedge(opts...))
}

// took makes a call and returns how long it took.
func took(t *testing.T, c arpc.Caller, rsp any) (time.Duration, error) {
	start := time.Now()
	err := c.CallWith(t.Context(), "/read", nil, rsp)
	return time.Since(start), err
}

type answer struct {
	Attempt int
	Before  string // what the answer leaves out stays
}

func TestHedgeTakesWhatComesFirstAndCancelsTheOther(t *testing.T) {
	for name, c := range map[string]struct {
		takes   []time.Duration
		attempt int
		total   time.Duration
	}{
		"the second attempt": {[]time.Duration{time.Second}, 2, hedgeDelay},
		"the first attempt":  {[]time.Duration{30 * time.Millisecond, time.Second}, 1, 30 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &paced{takes: c.takes}
				p := connectHedged(t, s)
				rsp := answer{Before: "kept"}
				d, err := took(t, p.Client, &rsp)
				require.NoError(t, err)
				require.Equal(t, c.total, d)
				require.Equal(t, answer{Attempt: c.attempt, Before: "kept"}, rsp)
				require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(<-s.canceled))
				require.Zero(t, p.Client.Inflight())
				require.Equal(t, 2, s.total())
			})
		})
	}
}

// The second attempt begins at the moment at which the first ends: it is canceled, or
// does not begin at all.
func TestHedgeThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hedge := call.Hedge(call.WithDelay(hedgeDelay), call.WithIdempotent("/read"), call.WithBudget(call.NewBudget(1, 10)))
		for range 500 {
			start := time.Now()
			var seen tally
			require.NoError(t, hedge(t.Context(), &arpc.Call{Method: "/read"}, func(ctx context.Context, _ *arpc.Call) error {
				if seen.add("attempt") == 1 {
					pause(ctx, hedgeDelay)
					return nil
				}
				pause(ctx, time.Second)
				return ctx.Err()
			}))
			require.Equal(t, hedgeDelay, time.Since(start))
		}
	})
}

func TestHedgeLeavesAloneWhatIsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{hedgeDelay - 1}}
		p := connectHedged(t, s)
		for range 5 {
			_, err := took(t, p.Client, nil)
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		require.Equal(t, 5, s.total())
	})
}

func TestHedgeIsForIdempotentCallsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{time.Second, time.Second}}
		p := connect(t, s.register, call.Hedge(call.WithDelay(hedgeDelay)))
		d, err := took(t, p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, time.Second, d)
		require.Equal(t, 1, s.total())

		read := arpc.NewMethod[struct{}, answer]("/read", arpc.Idempotent)
		rsp, err := read.Call(t.Context(), p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, 3, rsp.Attempt)

		arpctest.FaultsOf(p.Client.Conn()).Delay(time.Second)
		ctx := arpc.ContextWithIdempotent(t.Context())
		require.NoError(t, p.Client.NotifyWith(ctx, "/told", nil))
		st, err := p.Client.OpenStream(ctx, "/talk")
		require.NoError(t, err)
		require.NoError(t, st.CloseSend())
		time.Sleep(time.Minute)
		require.Equal(t, 1, s.seen.of("/told"))
		require.Equal(t, 1, s.seen.of("/talk"))
	})
}

// An error of the handler is an answer; a failure that may pass is not.
func TestHedgeAndFailures(t *testing.T) {
	notFound, down := arpc.NewError(arpc.CodeNotFound, "no such thing"), arpc.NewError(arpc.CodeUnavailable, "going down")
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		takes    []time.Duration
		fails    map[int]error
		code     arpc.Code
		attempts int
		total    time.Duration
	}{
		"the first fails before the delay":   {nil, map[int]error{1: down}, arpc.CodeUnavailable, 1, 0},
		"the second says that it is not":     {[]time.Duration{time.Second}, map[int]error{2: notFound}, arpc.CodeNotFound, 2, hedgeDelay},
		"the first fails behind the delay":   {[]time.Duration{30 * ms, 40 * ms}, map[int]error{1: down}, arpc.CodeOK, 2, 60 * ms},
		"the second fails":                   {[]time.Duration{100 * ms}, map[int]error{2: down}, arpc.CodeOK, 2, 100 * ms},
		"both fail, the second first":        {[]time.Duration{100 * ms}, map[int]error{1: down, 2: down}, arpc.CodeUnavailable, 2, 100 * ms},
		"both fail, the first first":         {[]time.Duration{30 * ms, 40 * ms}, map[int]error{1: down, 2: down}, arpc.CodeUnavailable, 2, 60 * ms},
		"the first is slow, the other fails": {[]time.Duration{30 * ms, 40 * ms}, map[int]error{1: notFound}, arpc.CodeNotFound, 2, 30 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &paced{takes: c.takes, fails: c.fails}
				p := connectHedged(t, s)
				d, err := took(t, p.Client, nil)
				require.Equal(t, c.code, arpc.CodeOf(err))
				require.Equal(t, c.total, d)
				require.Equal(t, c.attempts, s.total())
			})
		})
	}
}

// What an attempt did not send the other may have sent.
func TestHedgeDoesNotForgetThatAnAttemptWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{errs: []error{unsent(arpc.CodeUnavailable), sent(arpc.CodeUnavailable)}}
		err := call.Hedge(call.WithDelay(hedgeDelay), call.WithIdempotent("/read"))(t.Context(), &arpc.Call{Method: "/read"}, func(ctx context.Context, c *arpc.Call) error {
			defer time.Sleep(time.Second)
			return s.next(ctx, c)
		})
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.False(t, arpc.SafeToRetry(err))
		require.Len(t, s.calls, 2)
	})
}

func TestHedgeDecodesIntoWhatTheCallerHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{time.Second, 0, time.Second, 0, time.Second, 0, time.Second, 0, time.Second, 0, time.Second, 0, time.Second}}
		p := connectHedged(t, s)
		var raw []byte
		_, err := took(t, p.Client, &raw)
		require.NoError(t, err)
		require.Equal(t, `{"Attempt":2}`, string(raw))
		var text string
		_, err = took(t, p.Client, &text)
		require.NoError(t, err)
		require.Equal(t, `{"Attempt":4}`, text)
		shared := map[string]int{"Mine": 7}
		_, err = took(t, p.Client, &shared)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"Mine": 7, "Attempt": 6}, shared)
		_, err = took(t, p.Client, nil)
		require.NoError(t, err)

		var wrong []string
		_, err = took(t, p.Client, &wrong)
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
		require.ErrorContains(t, err, "*[]string")
		_, err = took(t, p.Client, (*[]byte)(nil))
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), "as without Hedge")
		require.True(t, arpc.SafeToRetry(err))
		_, err = took(t, p.Client, (*bytes.Buffer)(nil))
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), "as without Hedge")
		buffer := bytes.NewBufferString("what it held before")
		_, err = took(t, p.Client, buffer)
		require.NoError(t, err)
		require.Equal(t, `{"Attempt":12}`, buffer.String())
		require.Equal(t, 12, s.total())
	})
}

// The answer of the loser comes at the same moment, and is decoded nowhere.
func TestHedgeGivesTheCallerOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{}
		for range 200 {
			s.takes = append(s.takes, hedgeDelay+time.Millisecond, time.Millisecond)
		}
		p := connectHedged(t, s, call.WithBudget(call.NewBudget(1, 10)))
		for i := range 200 {
			var rsp answer
			var md arpc.Metadata
			require.NoError(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &md), "/read", nil, &rsp))
			require.Contains(t, []int{2*i + 1, 2*i + 2}, rsp.Attempt)
			require.Equal(t, string('0'+rune(rsp.Attempt)), md["attempt"], "the metadata is that of the answer")
		}
	})
}

func TestHedgeOfAnAsyncCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{time.Second}}
		p := connectHedged(t, s)
		got := make(chan answer, 10)
		require.NoError(t, p.Client.CallAsync("/read", nil, func(ctx *arpc.Context) {
			var rsp answer
			rsp.Before = ctx.Metadata()["attempt"]
			require.NoError(t, ctx.Bind(&rsp))
			got <- rsp
		}, time.Minute))
		require.Equal(t, answer{Attempt: 2, Before: "2"}, <-got)
		require.Error(t, <-s.canceled)
		require.Empty(t, got)
	})
}

func TestHedgeEndsBothAttemptsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{time.Second, time.Second, time.Second, time.Second, hedgeDelay - 1}}
		p := connectHedged(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		err := p.Client.CallWith(ctx, "/read", nil, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Error(t, <-s.canceled)
		require.Error(t, <-s.canceled)

		err = p.Client.Call("/read", nil, nil, 100*time.Millisecond)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Error(t, <-s.canceled)
		require.Error(t, <-s.canceled)
		require.Equal(t, 4, s.total())

		require.NoError(t, p.Client.Call("/read", nil, nil, hedgeDelay), "which leaves no time for a second attempt")
	})
}

func TestHedgeKeepsToItsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{}
		for range 100 {
			s.takes = append(s.takes, 100*time.Millisecond)
		}
		b := call.NewBudget(0.1, 2)
		p := connectHedged(t, s, call.WithBudget(b))
		for range 41 {
			_, err := took(t, p.Client, nil)
			require.NoError(t, err)
		}
		require.Equal(t, call.BudgetStats{Calls: 41, Extra: 6, Refused: 35}, b.Stats())
		require.Equal(t, 47, s.total())
	})
}

func TestHedgeInAPoolAsksAnotherMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, fine := &paced{}, &paced{}
		for range 10 {
			stuck.takes = append(stuck.takes, time.Second)
		}
		pool := connectPool(t, []func(*arpc.Handler){stuck.register, fine.register}, call.Hedge(call.WithDelay(hedgeDelay), call.WithIdempotent("/read")))
		for range 10 {
			d, err := took(t, pool, nil)
			require.NoError(t, err)
			require.LessOrEqual(t, d, hedgeDelay)
		}
		require.Equal(t, 10, fine.total())
		for range stuck.total() {
			require.Error(t, <-stuck.canceled)
		}
		require.Positive(t, stuck.total())
	})
}

// An interceptor behind it that answers by itself answers with bytes, as for
// CallAsync, and of a pool nobody knows the codec then.
func TestHedgeOfAPoolThatIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(paced)
		pool := connectPool(t, []func(*arpc.Handler){s.register}, call.Hedge(call.WithDelay(hedgeDelay), call.WithIdempotent("/read")),
			func(_ context.Context, c *arpc.Call, _ arpc.CallFunc) error {
				if payload, ok := c.Response.(*[]byte); ok {
					*payload = []byte(`{"Attempt":7}`)
				}
				return nil
			})
		var raw []byte
		_, err := took(t, pool, &raw)
		require.NoError(t, err)
		require.Equal(t, `{"Attempt":7}`, string(raw))
		_, err = took(t, pool, nil)
		require.NoError(t, err)
		_, err = took(t, pool, new(answer))
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
		require.Zero(t, s.total())
	})
}

func TestHedgePanicsWhereTheCallerIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hedge := call.Hedge(call.WithDelay(hedgeDelay), call.WithIdempotent("/read"))
		for bad := 1; bad <= 2; bad++ {
			var seen tally
			next := func(ctx context.Context, c *arpc.Call) error {
				defer seen.add("ended")
				if seen.add("attempt") == bad {
					time.Sleep(2 * hedgeDelay)
					panic("a bug")
				}
				<-ctx.Done()
				return ctx.Err()
			}
			require.PanicsWithValue(t, "a bug", func() { hedge(t.Context(), &arpc.Call{Method: "/read"}, next) })
			require.Equal(t, 2, seen.of("ended"), "both attempts are over")
		}
	})
}

// An attempt that ends its goroutine is none.
func TestHedgeWithoutASecondAttemptAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen tally
		hedge := call.Hedge(call.WithDelay(hedgeDelay), call.WithIdempotent("/read"))
		err := hedge(t.Context(), &arpc.Call{Method: "/read"}, func(ctx context.Context, c *arpc.Call) error {
			if seen.add("attempt") == 2 {
				runtime.Goexit()
			}
			time.Sleep(time.Second)
			return errMine
		})
		require.ErrorIs(t, err, errMine)
		require.Equal(t, 2, seen.of("attempt"))
	})
}

func TestHedgeThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { call.WithDelay(0) })
	require.Panics(t, func() { call.WithQuantile(0, 1) })
	require.Panics(t, func() { call.WithQuantile(1, 1) })
	require.Panics(t, func() { call.WithQuantile(0.9, 0.5) })
}
