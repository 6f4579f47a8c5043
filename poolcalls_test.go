package arpc_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// Of two servers one goes and comes back, again and again. Calls that were under
// way on it may be lost when it goes at once; none fails that could have been sent
// again, and none at all when it goes gracefully or they are idempotent.
func TestPoolOverAServerThatGoesAndComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		down   func(s *arpc.Server)
		ctx    func(context.Context) context.Context
		maySay func(error) bool
	}{
		"at once":             {(*arpc.Server).Stop, poolPlain, func(err error) bool { return !arpc.SafeToRetry(err) }},
		"idempotent calls":    {(*arpc.Server).Stop, arpc.ContextWithIdempotent, func(error) bool { return false }},
		"gracefully":          {poolGraceful, poolPlain, func(error) bool { return false }},
		"waiting for members": {poolGraceful, poolPatient, func(error) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			pool, servers := poolStart(t, 2, arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever))
			back := make(chan error, 1)
			pool.Handler().HandleReconnect(func(_ *arpc.Client, _ int, err error) {
				if err == nil {
					back <- nil
				}
			})
			for i := range 10 {
				var callers sync.WaitGroup
				for range 4 {
					callers.Go(func() { poolCallThrough(c.ctx(t.Context()), t, pool, c.maySay) })
				}
				goes := servers[i%2]
				c.down(goes.current())
				goes.up(t)
				suiteNext(t, back)
				callers.Wait() // so that no call loses both connections
			}
		})
	}
}

func poolPlain(ctx context.Context) context.Context { return ctx }

func poolPatient(ctx context.Context) context.Context { return arpc.ContextWithWaitForReady(ctx, true) }

func poolGraceful(s *arpc.Server) { s.Shutdown(context.Background()) }

// poolCallThrough makes some calls, which may fail only as maySay says.
func poolCallThrough(ctx context.Context, t *testing.T, pool *arpc.ClientPool, maySay func(error) bool) {
	for range 50 {
		if err := pool.CallWith(ctx, "/name", nil, nil); err != nil && !maySay(err) {
			t.Error(err)
			return
		}
	}
}

// A member whose server goes away gets nothing new, and keeps what it has.
func TestPoolSkipsAMemberWhoseServerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 2)
		called := make(chan error, 1)
		go func() { called <- pool.Get(0).Call("/hold", nil, nil, arpc.TimeForever) }()
		synctest.Wait()
		go servers[0].current().Shutdown(context.Background())
		synctest.Wait()
		require.False(t, pool.Members()[0].Healthy())
		for range 4 {
			var name string
			require.NoError(t, pool.Call("/name", nil, &name, suitePatience))
			require.Equal(t, "1", name)
		}
		servers[0].release()
		require.NoError(t, <-called)
	})
}

// poolStall makes a member look healthy whose messages wait for room in the send
// queue: what is sent then fails without having been sent when cut is called.
func poolStall(t *testing.T, c *arpc.Client) (cut func()) {
	t.Helper()
	faults := arpctest.FaultsOf(c.Conn())
	faults.Stall()
	require.NoError(t, c.Notify("/echo", make([]byte, 128<<10), arpc.TimeZero)) // more than the connection holds
	for err := error(nil); err == nil; err = c.Notify("/echo", nil, arpc.TimeZero) {
		synctest.Wait()
	}
	return faults.Cut
}

// poolStalled is the options for poolStall.
var poolStalled = []arpc.Option{
	arpc.WithSendQueue(2, 1<<10), arpc.WithWriteTimeout(0), arpc.WithKeepalive(0, 0), arpc.WithReconnect(0, 0, 0),
}

// poolFirst is a picker that takes members as they come, and notes them.
type poolFirst struct{ names []string }

func (p *poolFirst) Pick(_ context.Context, _ string, members []*arpc.Member) *arpc.Member {
	p.names = append(p.names, members[0].Name())
	return members[0]
}

// What was not sent is tried on another member, with every method.
func TestPoolTriesOthersWithWhatWasNotSent(t *testing.T) {
	for name, send := range map[string]func(*arpc.ClientPool) error{
		"Call":       func(p *arpc.ClientPool) error { return p.Call("/name", nil, nil, arpc.TimeForever) },
		"CallWith":   func(p *arpc.ClientPool) error { return p.CallWith(context.Background(), "/name", nil, nil) },
		"Notify":     func(p *arpc.ClientPool) error { return p.Notify("/name", nil, time.Hour) },
		"NotifyWith": func(p *arpc.ClientPool) error { return p.NotifyWith(context.Background(), "/name", nil) },
		"CallAsync": func(p *arpc.ClientPool) error {
			called := make(chan error, 1)
			callback := func(ctx *arpc.Context) { called <- ctx.Bind(nil) }
			return errors.Join(p.CallAsync("/name", nil, callback, time.Hour), <-called)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, servers := poolStart(t, 3, poolStalled...)
				picker := new(poolFirst)
				pool.SetPicker(picker)
				cuts := []func(){poolStall(t, pool.Get(0)), poolStall(t, pool.Get(1))}
				sent := make(chan error, 1)
				go func() { sent <- send(pool) }()
				for _, cut := range cuts {
					synctest.Wait()
					require.Empty(t, sent)
					cut()
				}
				require.NoError(t, <-sent)
				synctest.Wait()
				require.EqualValues(t, 1, servers[2].handled.Load())
				require.Equal(t, []string{"0", "1", "2"}, picker.names)
			})
		})
	}
}

// Each member is tried at most once, also when it has come back meanwhile and the
// picker insists.
func TestPoolTriesEachMemberOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 3, arpc.WithSendQueue(2, 1<<10), arpc.WithWriteTimeout(0), arpc.WithKeepalive(0, 0))
		back, again := make(chan struct{}, 2), make(chan struct{})
		pool.Handler().HandleReconnect(func(*arpc.Client, int, error) { back <- struct{}{} })
		favourite, picks := pool.Members()[0], 0
		pool.SetPicker(poolPickFunc(func([]*arpc.Member) *arpc.Member {
			if picks++; picks == 2 {
				<-back
				close(again)
			}
			return favourite
		}))
		cuts := []func(){poolStall(t, pool.Get(0)), poolStall(t, pool.Get(1))}
		pool.Get(2).Stop()
		sent := make(chan error, 1)
		go func() { sent <- pool.Call("/name", nil, nil, arpc.TimeForever) }()
		synctest.Wait()
		require.Empty(t, sent)
		cuts[0]()
		<-again
		synctest.Wait()
		cuts[1]()
		suiteUnsent(t, <-sent, arpc.CodeUnavailable)
		require.Equal(t, 2, picks)
		require.Zero(t, servers[0].handled.Load())
	})
}

// All tries of a call share its timeout, or its context.
func TestPoolTriesShareTheTimeout(t *testing.T) {
	for name, call := range map[string]func(*arpc.ClientPool) error{
		"timeout": func(p *arpc.ClientPool) error { return p.Call("/name", nil, nil, 10*time.Second) },
		"default timeout": func(p *arpc.ClientPool) error {
			return p.CallWith(context.Background(), "/name", nil, nil)
		},
		"context": func(p *arpc.ClientPool) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return p.CallWith(ctx, "/name", nil, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := append([]arpc.Option{arpc.WithCallTimeout(10 * time.Second)}, poolStalled...)
				pool, _ := poolStart(t, 2, opts...)
				pool.SetPicker(new(poolFirst))
				time.AfterFunc(6*time.Second, poolStall(t, pool.Get(0)))
				poolStall(t, pool.Get(1))
				start := time.Now()
				err := call(pool)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

// A call whose connection is lost is tried again only when it is idempotent, and
// then on one member more.
func TestPoolTriesALostCallAgainWhenItIsIdempotent(t *testing.T) {
	for name, c := range map[string]struct {
		mark  func(context.Context) context.Context
		lose  int   // connections that are lost under the call
		tried int64 // members
		fails bool
	}{
		"plain":           {poolPlain, 1, 1, true},
		"idempotent":      {arpc.ContextWithIdempotent, 1, 2, false},
		"idempotent, two": {arpc.ContextWithIdempotent, 2, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, servers := poolStart(t, 3)
				pool.SetPicker(new(poolFirst))
				called := make(chan error, 1)
				go func() { called <- pool.CallWith(c.mark(context.Background()), "/hold", nil, nil) }()
				for i := range c.lose {
					synctest.Wait()
					servers[i].down()
				}
				synctest.Wait()
				tried := int64(0)
				for _, s := range servers {
					s.release()
					tried += s.handled.Load()
				}
				err := <-called
				require.Equal(t, c.fails, err != nil)
				require.False(t, arpc.SafeToRetry(err))
				require.Equal(t, c.tried, tried)
			})
		})
	}
}

// A call that was sent once is not safe to retry, whatever ended it later.
func TestPoolErrorOfAnIdempotentCallThatWasSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 2, poolStalled...)
		pool.SetPicker(new(poolFirst))
		poolStall(t, pool.Get(1))
		ctx, cancel := context.WithCancel(arpc.ContextWithIdempotent(context.Background()))
		called := make(chan error, 1)
		go func() { called <- pool.CallWith(ctx, "/hold", nil, nil) }()
		synctest.Wait()
		servers[0].down()
		synctest.Wait()
		cancel()
		err := <-called
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, arpc.SafeToRetry(err))
	})
}

// Interceptors see a call of a pool once, before a member is picked.
func TestPoolInterceptsOnceAroundItsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, _ := poolStart(t, 2, poolStalled...)
		pool.SetPicker(new(poolFirst))
		cut := poolStall(t, pool.Get(0))
		var kinds []arpc.CallKind
		pool.Handler().UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			kinds = append(kinds, call.Kind)
			require.Nil(t, call.Client)
			err := next(ctx, call)
			require.Same(t, pool.Get(1), call.Client)
			return err
		})
		time.AfterFunc(time.Second, cut)
		require.NoError(t, pool.Call("/name", nil, nil, time.Minute))
		require.NoError(t, pool.Notify("/name", nil, time.Minute))
		st, err := pool.OpenStream(t.Context(), "/echo")
		require.NoError(t, err)
		require.NoError(t, st.Close())
		require.Equal(t, []arpc.CallKind{arpc.KindCall, arpc.KindNotify, arpc.KindStream}, kinds)
	})
}

// A stream that an interceptor refuses after all is closed.
func TestPoolClosesAStreamThatAnInterceptorRefuses(t *testing.T) {
	pool, _ := poolStart(t, 1)
	var opened *arpc.Stream
	pool.Handler().UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		require.NoError(t, next(ctx, call))
		opened = call.Stream
		return errSuiteNowhere
	})
	st, err := pool.OpenStream(t.Context(), "/echo")
	require.ErrorIs(t, err, errSuiteNowhere)
	require.Nil(t, st)
	<-opened.Context().Done()
}

// What the peer says is not tried on others.
func TestPoolDoesNotRetryWhatThePeerAnswered(t *testing.T) {
	pool, servers := poolStart(t, 2)
	var answered atomic.Int64
	for _, s := range servers {
		s.current().Handler.Handle("/no", func(ctx *arpc.Context) {
			answered.Add(1)
			ctx.Error(arpc.NewError(arpc.CodeUnavailable, "come back later"))
		})
	}
	err := pool.CallWith(arpc.ContextWithIdempotent(t.Context()), "/no", nil, nil)
	suiteRemote(t, err, "come back later")
	require.EqualValues(t, 1, answered.Load())
}

// What is wrong with a call is said once, and not tried on others.
func TestPoolRefusesArguments(t *testing.T) {
	pool, servers := poolStart(t, 2)
	picker := new(poolFirst)
	pool.SetPicker(picker)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"no timeout":       pool.Call("/name", nil, nil, 0),
		"negative timeout": pool.Notify("/name", nil, -1),
		"no method":        pool.CallWith(t.Context(), "", nil, nil),
		"no callback":      pool.CallAsync("/name", nil, nil, suitePatience),
	} {
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), name)
	}
	require.Equal(t, []string{"0", "0"}, picker.names)
	for _, err := range []error{pool.CallWith(ended, "/name", nil, nil), pool.NotifyWith(ended, "/name", nil)} {
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, arpc.SafeToRetry(err))
	}
	_, err := arpc.NewPool(arpc.WithMaxStreams(0))
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	require.Zero(t, servers[0].handled.Load()+servers[1].handled.Load())
}

func TestPoolStreamStaysOnItsMember(t *testing.T) {
	pool, _ := poolStart(t, 2)
	seen := make(map[*arpc.Client]bool)
	for range 2 {
		st, err := pool.OpenStream(t.Context(), "/echo")
		require.NoError(t, err)
		seen[st.Client()] = true
		for _, text := range []string{"one", "two"} {
			var got string
			require.NoError(t, st.Send(text))
			require.NoError(t, st.Recv(&got))
			require.Equal(t, text, got)
		}
		require.NoError(t, st.Close())
	}
	require.Len(t, seen, 2)
}
