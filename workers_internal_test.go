package arpc

import (
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/stretchr/testify/require"
)

// requireWaiting wants n workers to wait, and perhaps a few that have written.
func requireWaiting(t *testing.T, w *workers, n int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.GreaterOrEqual(t, len(w.idle), n)
	require.LessOrEqual(t, len(w.idle), n+5)
}

// requireNone wants no worker to be left.
func requireNone(t *testing.T, w *workers) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(t, w.idle)
}

// workersPair has the far end handle each request on a worker.
func workersPair(t *testing.T, setup func(*Handler)) (near *Client, far *workers) {
	ln := memconn.Listen()
	near, server := engPair(t, func(*testing.T) (net.Listener, DialerFunc) { return ln, ln.Dial }, func(h *Handler) {
		decided(decisions{neverInline: true}).apply(h)
		setup(h)
	})
	return near, server.conn.Load().workerPool()
}

// atOnce makes n calls of /held that are handled at the same time.
func atOnce(t *testing.T, c *Client, held <-chan chan<- struct{}, n int) {
	t.Helper()
	answered := make(chan error, n)
	for range n {
		go func() { answered <- c.Call("/held", nil, nil, time.Minute) }()
	}
	var handlers []chan<- struct{}
	for range n {
		handlers = append(handlers, <-held)
	}
	for _, release := range handlers {
		close(release)
	}
	for range n {
		require.NoError(t, <-answered)
	}
	synctest.Wait()
}

// Goroutines of handlers are used again, and end when they are not needed any more.
func TestWorkersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan chan<- struct{})
		c, w := workersPair(t, func(h *Handler) {
			h.Handle("/held", func(ctx *Context) {
				release := make(chan struct{})
				held <- release
				<-release
				ctx.Write(nil)
			})
		})
		atOnce(t, c, held, 50)
		requireWaiting(t, w, 50)
		atOnce(t, c, held, 20)
		requireWaiting(t, w, 50)
		atOnce(t, c, held, 60)
		requireWaiting(t, w, 60)
		for end := time.Now().Add(3 * workerRest); time.Now().Before(end); {
			atOnce(t, c, held, 5)
			time.Sleep(workerRest / 10)
		}
		requireWaiting(t, w, 5)
		time.Sleep(2 * workerRest)
		synctest.Wait()
		requireNone(t, w)
		atOnce(t, c, held, 3)
		requireWaiting(t, w, 3)
		c.Stop()
		synctest.Wait()
		requireNone(t, w)
	})
}

// What a handler does to its goroutine is nothing to the next one.
func TestWorkersOutliveHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := workersPair(t, func(h *Handler) {
			h.Handle("/exit", func(*Context) { runtime.Goexit() })
			h.Handle("/panic", func(*Context) { panic("as it happens") })
			h.Handle("/fine", func(ctx *Context) { ctx.Write("fine") })
			h.Handle("/stop", func(ctx *Context) { ctx.Client.Stop() })
		})
		for range 3 {
			for _, method := range []string{"/exit", "/panic"} {
				require.Equal(t, CodeInternal, CodeOf(c.Call(method, nil, nil, time.Minute)))
				synctest.Wait() // the worker answers before it waits
			}
			requireWaiting(t, w, 1)
			require.NoError(t, c.Call("/fine", nil, nil, time.Minute))
			synctest.Wait()
			requireWaiting(t, w, 1)
		}
		require.Error(t, c.Call("/stop", nil, nil, time.Minute))
		synctest.Wait()
		requireNone(t, w)
	})
}
