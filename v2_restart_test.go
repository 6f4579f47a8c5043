package arpc_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// engSite is an address at which servers come and go.
type engSite struct {
	listen func() net.Listener
	dial   func() (net.Conn, error)

	server *arpc.Server
	served chan error
}

// start starts a new server at the address.
func (s *engSite) start(handler *arpc.Handler) {
	s.server = arpc.NewServer(arpc.WithHandler(handler))
	s.served = make(chan error, 1)
	ln := s.listen()
	go func() { s.served <- s.server.Serve(ln) }()
}

// restart has the server go away, and a new one take its place.
func (s *engSite) restart(t *testing.T, handler *arpc.Handler) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suitePatience)
	defer cancel()
	require.NoError(t, s.server.Shutdown(ctx))
	require.ErrorIs(t, suiteNext(t, s.served), arpc.ErrServerClosed)
	s.start(handler)
}

// engMemorySite is a site without a network.
func engMemorySite(*testing.T) *engSite {
	var now atomic.Pointer[arpctest.MemoryListener]
	return &engSite{
		listen: func() net.Listener { ln := arpctest.ListenMemory(); now.Store(ln); return ln },
		dial:   func() (net.Conn, error) { return now.Load().Dial() },
	}
}

// engTCPSite is a site with a port of its own.
func engTCPSite(t *testing.T) *engSite {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, first := ln.Addr().String(), ln
	return &engSite{
		listen: func() net.Listener {
			if ln := first; ln != nil {
				first = nil
				return ln
			}
			ln, err := net.Listen("tcp", addr)
			require.NoError(t, err)
			return ln
		},
		dial: func() (net.Conn, error) { return net.Dial("tcp", addr) },
	}
}

// engLoad calls through the pool, in all ways, until stop, and reports the first
// error of each loop.
func engLoad(t *testing.T, pool *arpc.ClientPool, stop *atomic.Bool) *sync.WaitGroup {
	ways := []func(i int) error{
		func(i int) error {
			var reply string
			err := pool.Call("/echo", fmt.Sprint(i), &reply, suitePatience)
			if err == nil && reply != fmt.Sprint(i) {
				err = fmt.Errorf("the answer to %d is %q", i, reply)
			}
			return err
		},
		func(i int) error {
			ctx, cancel := context.WithTimeout(context.Background(), suitePatience)
			defer cancel()
			return pool.CallWith(ctx, "/work", i, nil)
		},
		func(i int) error { return pool.Notify("/n", i, suitePatience) },
		func(i int) error {
			s, err := pool.OpenStream(context.Background(), "/echo")
			if err != nil {
				return err
			}
			defer s.Close()
			got := -1
			for j := range 3 {
				if err := s.Send(i + j); err != nil {
					return err
				}
				if err := s.Recv(&got); err != nil || got != i+j {
					return fmt.Errorf("message %d is %d: %w", i+j, got, err)
				}
			}
			return nil
		},
	}
	var loops sync.WaitGroup
	for n := range 16 {
		loops.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if err := ways[n%len(ways)](i); err != nil {
					t.Errorf("way %d, %d: %v (safe to retry: %v)", n%len(ways), i, err, arpc.SafeToRetry(err))
					return
				}
			}
		})
	}
	return &loops
}

// A pool of clients of two servers that are restarted one after the other, again
// and again, does not fail a single call.
func TestV2RollingRestartFailsNoCall(t *testing.T) {
	for name, newSite := range map[string]func(*testing.T) *engSite{"memory": engMemorySite, "tcp": engTCPSite} {
		t.Run(name, func(t *testing.T) {
			handler := engHandler()
			handler.Handle("/work", func(ctx *arpc.Context) { time.Sleep(time.Millisecond); ctx.Write(nil) })
			var sites []*engSite
			var dialers []arpc.DialerFunc
			for range 2 {
				site := newSite(t)
				site.start(handler)
				sites = append(sites, site)
				dialers = append(dialers, site.dial, site.dial)
			}
			reconnect := arpc.WithReconnect(time.Millisecond, 10*time.Millisecond, arpc.Forever)
			pool, err := arpc.NewClientPoolFromDialers(dialers, arpc.WithHandler(arpc.NewHandler(reconnect)))
			require.NoError(t, err)
			var stop atomic.Bool
			loops := engLoad(t, pool, &stop)
			for range 8 {
				for _, site := range sites {
					site.restart(t, handler)
					engAllConnected(t, pool)
				}
			}
			stop.Store(true)
			loops.Wait()
			pool.Stop()
			for _, site := range sites {
				site.server.Stop()
				require.ErrorIs(t, suiteNext(t, site.served), arpc.ErrServerClosed)
			}
		})
	}
}

// engAllConnected waits until every client of the pool is connected, as whoever
// restarts servers one by one has to.
func engAllConnected(t *testing.T, pool *arpc.ClientPool) {
	t.Helper()
	for i := range pool.Size() {
		c := pool.Get(i)
		require.Eventually(t, func() bool { return c.State() == arpc.StateConnected }, suitePatience, suiteTick)
	}
}
