package arpc_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Begin makes a call that goes on while the test does.
func v2Begin(ctx context.Context, c *arpc.Client, method string) <-chan error {
	result := make(chan error, 1)
	go func() { result <- c.CallWith(ctx, method, nil, nil) }()
	return result
}

// v2Redial connects with redials that come at once and are expected soon.
func v2Redial(t *testing.T, opts ...arpc.Option) (*arpc.Client, *v2Peer, *v2Dialling) {
	t.Helper()
	return v2Connect(t, wire.Hello{}, append([]arpc.Option{arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)}, opts...)...)
}

func TestV2IdempotentCallIsSentOnceMoreAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, d := v2Redial(t)
		result := v2Begin(arpc.ContextWithIdempotent(t.Context()), c, "/read")
		require.Equal(t, "/read", p.next().method)
		p.nc.Close()
		p = <-d.peers
		p.welcome(wire.Hello{})
		f := p.next()
		require.Equal(t, "/read", f.method)
		p.answer(f, "")
		require.NoError(t, <-result)
	})
}

func TestV2IdempotentCallFailsWithTheSecondCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, d := v2Redial(t)
		result := v2Begin(arpc.ContextWithIdempotent(t.Context()), c, "/read")
		p.next()
		p.nc.Close()
		p = <-d.peers
		p.welcome(wire.Hello{})
		p.next()
		p.nc.Close()
		err := <-result
		require.ErrorIs(t, err, arpc.ErrPeerClosed)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.False(t, arpc.SafeToRetry(err))
		v2Quiet(t, <-d.peers)
	})
}

// v2Quiet requires that nothing is sent behind the hello.
func v2Quiet(t *testing.T, p *v2Peer) {
	t.Helper()
	p.welcome(wire.Hello{})
	p.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := rowReadFrame(p.nc)
	require.Error(t, err)
}

func TestV2OtherCallsAreNeverSentAgain(t *testing.T) {
	calls := map[string]func(c *arpc.Client) error{
		"CallWith": func(c *arpc.Client) error { return c.CallWith(context.Background(), "/write", nil, nil) },
		"waiting": func(c *arpc.Client) error {
			return c.CallWith(arpc.ContextWithWaitForReady(context.Background(), true), "/write", nil, nil)
		},
		"Call": func(c *arpc.Client) error { return c.Call("/write", nil, nil, time.Hour) },
		"CallAsync": func(c *arpc.Client) error {
			ended := make(chan error, 1)
			if err := c.CallAsync("/write", nil, func(ctx *arpc.Context) { ended <- ctx.Bind(nil) }, time.Hour); err != nil {
				return err
			}
			return <-ended
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, d := v2Redial(t)
				result := make(chan error, 1)
				go func() { result <- call(c) }()
				p.next()
				p.nc.Close()
				err := <-result
				require.ErrorIs(t, err, arpc.ErrPeerClosed)
				require.False(t, arpc.SafeToRetry(err))
				v2Quiet(t, <-d.peers)
			})
		})
	}
}

// Whatever was answered counts.
func TestV2IdempotentCallThatWasAnsweredIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory())
		runs := 0
		p.Server.Handler.Handle("/fail", func(ctx *arpc.Context) {
			runs++
			ctx.Error(arpc.NewError(arpc.CodeUnavailable, "connection lost: no"))
		})
		p.Server.Handler.Handle("/slow", func(ctx *arpc.Context) { runs++; <-ctx.Done() })
		ctx := arpc.ContextWithIdempotent(t.Context())
		suiteRemote(t, p.Client.CallWith(ctx, "/fail", nil, nil), "no")
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.ErrorIs(t, p.Client.CallWith(ctx, "/slow", nil, nil), context.DeadlineExceeded)
		synctest.Wait()
		require.Equal(t, 2, runs)
	})
}

// A handler that takes its connection down with it runs twice at most.
func TestV2IdempotentCallRunsTwiceAtMost(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		var runs rowTally
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)))
		p.Server.Handler.Handle("/kill", func(ctx *arpc.Context) {
			runs.add("/kill")
			ctx.Client.Stop()
		})
		for range 10 {
			before := runs.total()
			err := p.Client.CallWith(arpc.ContextWithWaitForReady(arpc.ContextWithIdempotent(t.Context()), true), "/kill", nil, nil)
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
			require.False(t, arpc.SafeToRetry(err))
			require.Equal(t, before+2, runs.total())
		}
	})
}

// The second attempt has what is left of the time, and its wait for a connection
// does not make the call one that was never sent.
func TestV2SecondAttemptIsWithinTheTimeOfTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, opt := range map[string]arpc.Option{"by default": arpc.WithCallTimeout(10 * time.Second), "context": arpc.WithCallTimeout(time.Hour)} {
			c, p, d := v2Redial(t, opt)
			ctx, cancel := context.WithCancel(arpc.ContextWithIdempotent(t.Context()))
			if name == "context" {
				ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
			}
			start := time.Now()
			result := v2Begin(ctx, c, "/read")
			p.next()
			time.Sleep(8 * time.Second)
			p.nc.Close()
			p = <-d.peers
			p.welcome(wire.Hello{})
			p.next()
			err := <-result
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Less(t, time.Since(start), 11*time.Second, name)
			require.False(t, arpc.SafeToRetry(err), name)
		}
	})
}

func TestV2IdempotentCallWithoutASecondConnectionMayHaveRun(t *testing.T) {
	ends := map[string]struct {
		opts []arpc.Option
		end  func(c *arpc.Client, cancel func())
		want error
	}{
		"context":     {nil, func(_ *arpc.Client, cancel func()) { cancel() }, context.Canceled},
		"timeout":     {[]arpc.Option{arpc.WithCallTimeout(30 * time.Second)}, func(*arpc.Client, func()) {}, context.DeadlineExceeded},
		"Stop":        {nil, func(c *arpc.Client, _ func()) { c.Stop() }, arpc.ErrClosed},
		"no comeback": {[]arpc.Option{suiteNoReconnect}, func(*arpc.Client, func()) {}, arpc.ErrPeerClosed},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, _ := v2Redial(t, test.opts...)
				ctx, cancel := context.WithCancel(arpc.ContextWithIdempotent(t.Context()))
				defer cancel()
				result := v2Begin(ctx, c, "/read")
				p.next()
				p.nc.Close() // and nobody answers the next hello
				time.Sleep(time.Second)
				test.end(c, cancel)
				err := <-result
				require.ErrorIs(t, err, test.want)
				require.False(t, arpc.SafeToRetry(err), "the first attempt was sent: %v", err)
			})
		})
	}
}

func TestV2IdempotentCallOfAnAcceptedClientSaysWhyItWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		p := v2Caller(t, ln)
		p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features})
		p.hello(wire.CmdPong)
		result := v2Begin(arpc.ContextWithIdempotent(t.Context()), rowClient(t, s), "/read")
		require.Equal(t, "/read", p.next().method)
		p.nc.Close()
		err := <-result
		require.ErrorIs(t, err, arpc.ErrPeerClosed)
		require.False(t, arpc.SafeToRetry(err))
	})
}

func TestV2RefusalWhileRedialling(t *testing.T) {
	for code := arpc.CodeCanceled; code <= arpc.CodeUnauthenticated; code++ {
		final := false
		switch code {
		case arpc.CodeUnauthenticated, arpc.CodePermissionDenied, arpc.CodeFailedPrecondition, arpc.CodeInvalidArgument, arpc.CodeUnimplemented:
			final = true
		}
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, d := v2Redial(t, arpc.WithWaitForReady(true))
				attempts := make(chan error, 10)
				c.Handler.HandleReconnect(func(_ *arpc.Client, _ int, err error) { attempts <- err })
				p.nc.Close()
				p = <-d.peers
				result := v2Begin(t.Context(), c, "/x")
				p.welcome(wire.Hello{Code: uint32(code), Message: "not you"})
				require.ErrorContains(t, <-attempts, "not you")
				if final {
					v2ClosedBy(t, c, <-result, code)
					return
				}
				p = <-d.peers
				p.welcome(wire.Hello{})
				p.answer(p.next(), "")
				require.NoError(t, <-result)
			})
		})
	}
}

// v2ClosedBy requires that a refusal has closed the client, for which a call waited.
func v2ClosedBy(t *testing.T, c *arpc.Client, waited error, code arpc.Code) {
	t.Helper()
	<-c.Done()
	require.Equal(t, code, arpc.CodeOf(c.Err()))
	require.True(t, arpc.IsRemote(c.Err()))
	require.ErrorContains(t, c.Err(), "not you")
	require.ErrorIs(t, waited, arpc.ErrClosed)
	require.ErrorContains(t, waited, "not you")
	require.True(t, arpc.SafeToRetry(waited))
	require.Equal(t, arpc.StateClosed, c.State())
}

func TestV2CallTimeoutLimitsCallsWithoutADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(arpc.WithCallTimeout(2*time.Second)))
		p.Server.Handler.Handle("/slow", func(ctx *arpc.Context) { <-ctx.Done() })
		p.Server.Handler.Handle("/left", func(ctx *arpc.Context) {
			deadline, _ := ctx.Deadline()
			ctx.Write(time.Until(deadline))
		})
		var left time.Duration
		require.NoError(t, p.Client.CallWith(t.Context(), "/left", nil, &left))
		require.Equal(t, 2*time.Second, left)
		calls := map[time.Duration]func() error{
			2 * time.Second: func() error { return p.Client.CallWith(t.Context(), "/slow", nil, nil) },
			time.Minute: func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				return p.Client.CallWith(ctx, "/slow", nil, nil)
			},
			time.Hour: func() error { return p.Client.Call("/slow", nil, nil, time.Hour) },
		}
		for want, call := range calls {
			start := time.Now()
			err := call()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.False(t, arpc.SafeToRetry(err))
			require.InDelta(t, want, time.Since(start), float64(10*time.Millisecond))
		}
	})
}

// A client that has nothing to do gives up after failed attempts, and not after as
// many outages.
func TestV2ReconnectsThatSucceededDoNotCountAsFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := &rowLine{net: memconn.Listen()}
		rowServe(t, line.net)
		c := rowDial(t, line.Dial, arpc.WithReconnect(time.Millisecond, time.Second, 3), suiteNoKeepalive)
		for range 10 {
			time.Sleep(time.Minute)
			require.Equal(t, arpc.StateConnected, c.State(), "%v", c.Err())
			line.cut()
		}
		line.setDown(true)
		line.cut()
		<-c.Done()
		require.ErrorContains(t, c.Err(), "gave up after 3 attempts")
	})
}
