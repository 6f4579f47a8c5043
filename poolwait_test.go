package arpc_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// A call that was picked for a member whose server then goes away does not wait
// until that is to come back, whatever its context says.
func TestPoolDoesNotWaitForAServerThatGoesAway(t *testing.T) {
	for name, mark := range map[string]func(context.Context) context.Context{
		"plain": poolPlain, "patient": poolPatient, "idempotent": arpc.ContextWithIdempotent,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := poolEmpty(t, arpc.WithSendQueue(2, 1<<10))
				server := poolListen(t, "a", arpc.WithComeBackAfter(time.Hour))
				away, err := pool.Add("a", server.dial)
				require.NoError(t, err)
				_, err = pool.Add("b", poolListen(t, "b").dial)
				require.NoError(t, err)
				pool.SetPicker(new(poolFirst))
				poolStall(t, away)
				called := make(chan error, 1)
				var name string
				go func() { called <- pool.CallWith(mark(context.Background()), "/name", nil, &name) }()
				synctest.Wait()
				go server.current().Shutdown(context.Background())
				synctest.Wait()
				arpctest.FaultsOf(away.Conn()).Resume()
				start := time.Now()
				require.NoError(t, <-called)
				require.Equal(t, "b", name)
				require.Less(t, time.Since(start), time.Minute)
			})
		})
	}
}

// A call that waits for a connection waits only when nobody is connected.
func TestPoolWaitsForReadyOnlyWhenNobodyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 2, arpc.WithWaitForReady(true), arpc.WithSendQueue(2, 1<<10))
		pool.SetPicker(new(poolFirst))
		cut := poolStall(t, pool.Get(0))
		called := make(chan error, 1)
		go func() { called <- pool.Call("/name", nil, nil, time.Hour) }()
		synctest.Wait()
		servers[0].down()
		cut()
		synctest.Wait()
		require.NoError(t, <-called, "the other one answers at once")

		servers[1].down()
		synctest.Wait()
		go func() { called <- pool.Call("/name", nil, nil, time.Hour) }()
		synctest.Wait()
		require.Empty(t, called)
		servers[0].up(t)
		servers[1].up(t)
		require.NoError(t, <-called)
	})
}

// Without another member an idempotent call that was lost waits and is sent once
// more, as on a client.
func TestPoolOfOneSendsALostIdempotentCallAgain(t *testing.T) {
	for name, lostAgain := range map[string]bool{"answered": false, "lost again": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, servers := poolStart(t, 1)
				back := make(chan struct{}, 1)
				pool.Handler().HandleReconnect(func(_ *arpc.Client, _ int, err error) {
					if err == nil {
						back <- struct{}{}
					}
				})
				called := make(chan error, 1)
				ctx := arpc.ContextWithIdempotent(context.Background())
				go func() { called <- pool.CallWith(ctx, "/hold", nil, nil) }()
				synctest.Wait()
				servers[0].down()
				synctest.Wait()
				require.Empty(t, called)
				servers[0].up(t)
				<-back
				synctest.Wait()
				if lostAgain {
					servers[0].down()
				}
				servers[0].release()
				synctest.Wait()
				require.Len(t, called, 1)
				err := <-called
				require.Equal(t, lostAgain, err != nil)
				require.False(t, arpc.SafeToRetry(err))
				require.EqualValues(t, 2, servers[0].handled.Load())
			})
		})
	}
}
