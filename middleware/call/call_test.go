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
)

func TestOnlyIsForItsMethods(t *testing.T) {
	refuse := func(context.Context, *arpc.Call, arpc.CallFunc) error { return errMine }
	methods := []string{"/a", "/b"}
	fn := call.Only(refuse, methods...)
	methods[0] = "/c"
	for method, want := range map[string]error{"/a": errMine, "/b": errMine, "/c": nil} {
		require.Equal(t, want, fn(t.Context(), &arpc.Call{Method: method}, nothing))
	}
}

func TestTimeoutEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan time.Duration, 1)
		p := connect(t, func(h *arpc.Handler) {
			h.Handle("/slow", func(ctx *arpc.Context) {
				deadline, _ := ctx.Deadline()
				left <- time.Until(deadline)
				<-ctx.Done()
			})
		}, call.Timeout(3*time.Second))
		start := time.Now()
		err := p.Client.CallWith(t.Context(), "/slow", nil, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "arpc: the deadline of the call passed: it took more than 3s (call.Timeout)")
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Equal(t, 3*time.Second, <-left)

		start = time.Now()
		err = p.Client.Call("/slow", nil, nil, time.Second)
		require.EqualError(t, err, "arpc: the deadline of the call passed")
		require.Equal(t, time.Second, time.Since(start), "the caller's own is earlier")
		require.Equal(t, time.Second, <-left)
	})
}

// Whoever is quicker to see the deadline pass.
func TestTimeoutSaysWhichDeadlineItWas(t *testing.T) {
	const text = "too late: it took more than 1s (call.Timeout)"
	late := arpc.NewError(arpc.CodeDeadlineExceeded, "too late")
	for name, c := range map[string]struct {
		err  error
		text string
		safe bool
	}{
		"sent":           {late, text, false},
		"not sent":       {arpc.Unsent(late), text, true},
		"something else": {errMine, "mine", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := call.Timeout(time.Second)(t.Context(), &arpc.Call{}, func(ctx context.Context, _ *arpc.Call) error {
					<-ctx.Done()
					return c.err
				})
				require.ErrorIs(t, err, c.err)
				require.EqualError(t, err, c.text)
				require.Equal(t, c.safe, arpc.SafeToRetry(err))
				require.Equal(t, arpc.CodeOf(c.err), arpc.CodeOf(err))
				require.Equal(t, c.err, call.Timeout(time.Second)(t.Context(), &arpc.Call{}, func(context.Context, *arpc.Call) error { return c.err }), "that was not this deadline")
			})
		})
	}
}

func TestTimeoutBehindARetryIsThatOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{time.Minute, time.Minute}}
		p := connect(t, s.register, call.Retry(call.WithIdempotent("/read"), call.WithBackoff(1, 1)), call.Timeout(3*time.Second))
		d, err := took(t, p.Client, nil)
		require.NoError(t, err)
		require.InDelta(t, 6, d.Seconds(), 0.001)
		require.Equal(t, 3, s.total())
	})
}

func TestTimeoutOfNotificationsAndStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(arpc.WithSendQueue(1, 1<<20)), arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
			s.Handler.HandleStream("/talk", func(st *arpc.Stream) {
				for body, err := range st.RecvSeq() {
					if err == nil {
						st.Send(body)
					}
				}
			})
			client.UseCall(call.Timeout(3 * time.Second))
		}))
		st, err := p.Client.OpenStream(t.Context(), "/talk")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		var echo string
		require.NoError(t, st.Send("still there"))
		require.NoError(t, st.Recv(&echo))
		require.NoError(t, st.Close())

		arpctest.FaultsOf(p.Client.Conn()).Stall()
		big := make([]byte, 100<<10)
		start := time.Now()
		for err == nil {
			err = p.Client.NotifyWith(t.Context(), "/told", big)
		}
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
		arpctest.FaultsOf(p.Client.Conn()).Resume()
	})
}

func TestTimeoutOfAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{takes: []time.Duration{time.Minute}}
		pool := connectPool(t, []func(*arpc.Handler){s.register}, call.Timeout(3*time.Second))
		d, err := took(t, pool, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, d)
	})
}

func TestTimeoutThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { call.Timeout(0) })
}
