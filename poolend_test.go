package arpc_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// poolIsDone requires that the pool's Done is closed, or that it is not.
func poolIsDone(t testing.TB, pool *arpc.ClientPool, want bool) {
	t.Helper()
	synctest.Wait()
	select {
	case <-pool.Done():
		require.True(t, want, "done")
	default:
		require.False(t, want, "not done")
	}
}

// A removed member that has not finished ends with the pool: at once by Stop, and
// waited for by Shutdown.
func TestPoolEndsWithItsRemovedMembers(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		stop   func(pool *arpc.ClientPool, s *poolServer) error
		called error // of a call in flight
		want   error
	}{
		"stop": {func(pool *arpc.ClientPool, _ *poolServer) error { pool.Stop(); return nil }, arpc.ErrClosed, nil},
		"shutdown": {func(pool *arpc.ClientPool, s *poolServer) error {
			time.AfterFunc(10*time.Second, s.release)
			return pool.Shutdown(ctx)
		}, nil, nil},
		"shutdown in time": {func(pool *arpc.ClientPool, _ *poolServer) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			return pool.Shutdown(ctx)
		}, arpc.ErrClosed, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, servers := poolStart(t, 1)
				called := make(chan error, 1)
				go func() { called <- pool.Call("/hold", nil, nil, arpc.TimeForever) }()
				synctest.Wait()
				removed, err := pool.Remove("0")
				require.NoError(t, err)

				require.ErrorIs(t, c.stop(pool, servers[0]), c.want)
				require.Equal(t, arpc.StateClosed, removed.State())
				require.ErrorIs(t, <-called, c.called)
			})
		})
	}
}

func TestPoolDone(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, pool *arpc.ClientPool){
		"stop":     func(_ *testing.T, pool *arpc.ClientPool) { pool.Stop() },
		"shutdown": func(t *testing.T, pool *arpc.ClientPool) { require.NoError(t, pool.Shutdown(t.Context())) },
		"all members closed": func(t *testing.T, pool *arpc.ClientPool) {
			pool.Get(1).Stop()
			poolIsDone(t, pool, false)
			pool.Get(0).Stop()
		},
		"the last one open removed": func(t *testing.T, pool *arpc.ClientPool) {
			pool.Get(1).Stop()
			require.NoError(t, pool.Get(0).CallAsync("/hold", nil, func(*arpc.Context) {}, arpc.TimeForever))
			_, err := pool.Remove("0")
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, _ := poolStart(t, 2)
				poolIsDone(t, pool, false)
				end(t, pool)
				poolIsDone(t, pool, true)
				pool.Stop()
				poolIsDone(t, pool, true)
			})
		})
	}
}

func TestPoolIsNotDoneWithoutMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, server := poolEmpty(t), poolListen(t, "a")
		poolIsDone(t, pool, false)
		c, err := pool.Add("a", server.dial)
		require.NoError(t, err)
		_, err = pool.Remove("a")
		require.NoError(t, err)
		<-c.Done()
		poolIsDone(t, pool, false)
		pool.Stop()
		poolIsDone(t, pool, true)
	})
}

// A member that was added keeps a pool going whose others are closed.
func TestPoolIsNotDoneWhileAnAddedMemberIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 1)
		poolIsDone(t, pool, false)
		_, err := pool.Add("new", servers[0].dial)
		require.NoError(t, err)
		pool.Get(0).Stop()
		poolIsDone(t, pool, false)
		pool.Get(1).Stop()
		poolIsDone(t, pool, true)
		c, err := pool.Add("newer", servers[0].dial)
		require.NoError(t, err)
		require.Same(t, c, pool.Next(), "it is done, and not stopped")
	})
}

// Done of a pool that is stopped and was never asked before.
func TestPoolDoneAfterStop(t *testing.T) {
	pool, _ := poolStart(t, 1)
	pool.Stop()
	<-pool.Done()
}

func TestPoolShutsMembersDownAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 3)
		called := make(chan error, 3)
		for i, s := range servers {
			require.NoError(t, pool.Get(i).CallAsync("/hold", nil, func(ctx *arpc.Context) { called <- ctx.Bind(nil) }, time.Hour))
			time.AfterFunc(10*time.Second, s.release)
		}
		synctest.Wait()
		start := time.Now()
		require.NoError(t, pool.Shutdown(t.Context()))
		require.Less(t, time.Since(start), 20*time.Second)
		for range servers {
			require.NoError(t, <-called)
		}
	})
}

func TestPoolStopsAndShutsDownTwice(t *testing.T) {
	stop := func(p *arpc.ClientPool) { p.Stop() }
	shutdown := func(p *arpc.ClientPool) { p.Shutdown(context.Background()) }
	for name, order := range map[string][]func(*arpc.ClientPool){
		"stop, stop":         {stop, stop},
		"stop, shutdown":     {stop, shutdown},
		"shutdown, stop":     {shutdown, stop},
		"shutdown, shutdown": {shutdown, shutdown},
	} {
		t.Run(name, func(t *testing.T) {
			for _, together := range []bool{false, true} {
				pool, servers := poolStart(t, 2)
				var all sync.WaitGroup
				for _, end := range order {
					if together {
						all.Go(func() { end(pool) })
					} else {
						end(pool)
					}
				}
				all.Wait()
				_, err := pool.Add("new", servers[0].dial)
				require.ErrorIs(t, err, arpc.ErrClosed)
				_, err = pool.Remove("0")
				require.ErrorIs(t, err, arpc.ErrClosed)
				for what, err := range poolUse(t, pool) {
					require.ErrorIs(t, err, arpc.ErrClosed, what)
				}
			}
		})
	}
}

// A Stop does not wait for a dialer, and what that brings is closed.
func TestPoolStopWhileAddDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, server := poolEmpty(t), poolListen(t, "a")
		dial := make(chan struct{})
		added := make(chan error, 1)
		go func() {
			_, err := pool.Add("a", func() (net.Conn, error) { <-dial; return server.dial() })
			added <- err
		}()
		synctest.Wait()
		pool.Stop()
		close(dial)
		require.ErrorIs(t, <-added, arpc.ErrClosed)
		synctest.Wait()
		require.Empty(t, server.current().Clients())
		require.Zero(t, pool.Size())
	})
}

// Stop may be called by a handler, also of a member that is being removed.
func TestPoolStopInsideAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 2)
		stopped := make(chan struct{})
		pool.Handler().Handle("/stop", func(*arpc.Context) {
			pool.Remove("0")
			pool.Stop()
			close(stopped)
		})
		for _, c := range servers[0].current().Clients() {
			require.NoError(t, c.Notify("/stop", nil, time.Minute))
		}
		<-stopped
		poolIsDone(t, pool, true)
	})
}
