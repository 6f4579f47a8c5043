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

func (w *workers) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

// workersPair has the far end handle each request on a worker.
func workersPair(t *testing.T, setup func(*Handler)) (near *Client, far *workers) {
	ln := memconn.Listen()
	near, server := engPair(t, func(*testing.T) (net.Listener, DialerFunc) { return ln, ln.Dial }, func(h *Handler) {
		decided(decisions{neverInline: true}).apply(h)
		setup(h)
	})
	return near, &server.conn.Load().workers
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
		require.Equal(t, 50, w.waiting())
		atOnce(t, c, held, 20)
		require.Equal(t, 50, w.waiting())
		atOnce(t, c, held, 60)
		require.Equal(t, 60, w.waiting())
		for end := time.Now().Add(3 * workerRest); time.Now().Before(end); {
			atOnce(t, c, held, 5)
			time.Sleep(workerRest / 10)
		}
		require.Equal(t, 5, w.waiting())
		time.Sleep(2 * workerRest)
		synctest.Wait()
		require.Zero(t, w.waiting())
		atOnce(t, c, held, 3)
		require.Equal(t, 3, w.waiting(), "it begins anew")
		c.Stop()
		synctest.Wait()
		require.Zero(t, w.waiting())
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
			require.Equal(t, 1, w.waiting())
			require.NoError(t, c.Call("/fine", nil, nil, time.Minute))
			synctest.Wait()
			require.Equal(t, 1, w.waiting())
		}
		require.Error(t, c.Call("/stop", nil, nil, time.Minute))
		synctest.Wait()
		require.Zero(t, w.waiting())
	})
}
