package arpc_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

// What a message waited for between its arrival and its handler does not count.
func TestReceivedAtIsWhenTheMessageCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := make(chan time.Duration, 4)
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
			s.Handler.Use(func(ctx *arpc.Context) {
				time.Sleep(time.Second)
				ctx.Next()
			})
			s.Handler.Handle("/request", func(ctx *arpc.Context) {
				took <- time.Since(ctx.ReceivedAt())
				ctx.Write(nil)
			}, false)
			s.Handler.Handle("/detached", func(ctx *arpc.Context) {
				later := ctx.Detach()
				go func() {
					time.Sleep(time.Second)
					took <- time.Since(later.ReceivedAt())
					later.Write(nil)
				}()
			})
			s.Handler.UseStream(func(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
				return func(s *arpc.Stream) {
					time.Sleep(time.Second)
					next(s)
				}
			})
			s.Handler.HandleStream("/stream", func(s *arpc.Stream) { took <- time.Since(s.ReceivedAt()) })
		}))
		go p.Client.Call("/request", nil, nil, time.Minute)
		synctest.Wait()
		require.NoError(t, p.Client.Call("/request", nil, nil, time.Minute))
		require.Equal(t, time.Second, <-took)
		require.InDelta(t, 2*time.Second, <-took, float64(10*time.Millisecond), "it waited for its turn; the reader is free after two milliseconds")
		require.NoError(t, p.Client.Call("/detached", nil, nil, time.Minute))
		require.Equal(t, 2*time.Second, <-took)
		s, err := p.Client.OpenStream(t.Context(), "/stream")
		require.NoError(t, err)
		require.Zero(t, s.ReceivedAt())
		require.Equal(t, time.Second, <-took)
	})
}

// Two connections of one client may deliver at the same time.
func TestContextConnIsWhereTheMessageCameFrom(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := make(chan net.Conn, 1)
		p.Client.Handler.Handle("/note", func(ctx *arpc.Context) { got <- ctx.Conn() })
		p.Server.Handler.Handle("/ask", func(ctx *arpc.Context) {
			ctx.Client.Notify("/note", nil, time.Minute)
			ctx.Write(nil)
		})
		for range 2 {
			require.NoError(t, p.Client.CallWith(arpc.ContextWithWaitForReady(t.Context(), true), "/ask", nil, nil))
			require.Same(t, p.Client.Conn(), <-got)
			require.NoError(t, p.Client.Restart())
		}
	})
}

// A callback that is slow loses the reader to the watchdog, which looks at when its
// message came.
func TestReceivedAtOfSlowCallbacks(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
		for range 8 {
			done := make(chan time.Time, 1)
			start := time.Now()
			require.NoError(t, p.Client.CallAsync("/echo", "x", func(ctx *arpc.Context) {
				time.Sleep(5 * time.Millisecond)
				done <- ctx.ReceivedAt()
			}, time.Minute))
			require.WithinRange(t, <-done, start, time.Now())
		}
	})
}
