package router_test

import (
	"context"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// calling calls a method of the pair's server so many times at once.
func calling(ctx context.Context, p *arpctest.Pair, method string, n int) chan error {
	ended := make(chan error, n)
	for range n {
		go func() { ended <- p.Client.CallWith(ctx, method, nil, nil) }()
		settle() // in this order
	}
	return ended
}

func TestBulkheadLetsSoManyThrough(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(2)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(router.Only(bulkhead.Handler(), "/slow"))
			h.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(time.Second); ctx.Write("done") })
			h.Handle("/other", answering)
		})
		ended := calling(t.Context(), p, "/slow", 3)
		err := <-ended
		require.True(t, arpc.IsRemote(err))
		require.Equal(t, code(p, arpc.CodeResourceExhausted), arpc.CodeOf(err))
		require.EqualError(t, err, "2 are handled at a time (NewBulkhead) and 0 wait (WithQueue)")
		require.Equal(t, 2, bulkhead.InHand())
		require.NoError(t, p.Client.CallWith(t.Context(), "/other", nil, nil), "others are not concerned")
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		synctest.Wait()
		require.Zero(t, bulkhead.InHand())
		require.NoError(t, p.Client.CallWith(t.Context(), "/slow", nil, nil))
		require.Equal(t, uint64(1), bulkhead.Refused())
	})
}

// In the queue it is one after the other, and what does not fit is refused at once.
func TestBulkheadQueue(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(1, router.WithQueue(3, 0))
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(bulkhead.Handler())
			h.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(time.Second); ctx.Write(ctx.Body()) })
		})
		start := time.Now()
		ended := make(chan string, 10)
		for _, name := range []string{"1", "2", "3", "4", "5"} {
			go func() {
				var rsp string
				err := p.Client.CallWith(t.Context(), "/slow", name, &rsp)
				if err != nil {
					rsp = "no " + name
				}
				ended <- rsp
			}()
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		require.Equal(t, "no 5", <-ended)
		require.Equal(t, 3, bulkhead.Waiting())
		for i, name := range []string{"1", "2", "3", "4"} {
			require.Equal(t, name, <-ended)
			require.Equal(t, time.Duration(i+1)*time.Second, time.Since(start).Truncate(time.Second))
		}
		require.Zero(t, bulkhead.Waiting())
	})
}

func TestBulkheadPatience(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(1, router.WithQueue(10, 300*time.Millisecond))
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(bulkhead.Handler())
			h.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(time.Second); ctx.Write("done") })
		})
		start := time.Now()
		ended := calling(t.Context(), p, "/slow", 2)
		require.EqualError(t, <-ended, "none of 1 places was free within 300ms (NewBulkhead, WithQueue)")
		require.InDelta(t, 300*time.Millisecond, time.Since(start), float64(10*time.Millisecond))
		require.Zero(t, bulkhead.Waiting())
		require.NoError(t, <-ended)
		require.Equal(t, uint64(1), bulkhead.Refused())
	})
}

// Who is not waited for any more leaves the queue, and its handler does not run.
func TestBulkheadQueueIsLeftByWhomNobodyWaitsFor(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(ctx context.Context) (context.Context, context.CancelFunc)
		code arpc.Code
	}{
		"cancel": {func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }, arpc.CodeCanceled},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 200*time.Millisecond)
		}, arpc.CodeDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bulkhead := router.NewBulkhead(1, router.WithQueue(1, 0))
				var handled []string
				p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
					h.Use(bulkhead.Handler())
					h.Handle("/slow", func(ctx *arpc.Context) {
						time.Sleep(time.Second)
						handled = append(handled, string(ctx.Body()))
						ctx.Write("done")
					})
				})
				first := make(chan error, 1)
				go func() { first <- p.Client.CallWith(t.Context(), "/slow", "first", nil) }()
				settle()
				ctx, cancel := c.end(t.Context())
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- p.Client.CallWith(ctx, "/slow", "given up", nil) }()
				settle()
				require.Equal(t, 1, bulkhead.Waiting())
				if name == "cancel" {
					cancel()
				}
				require.Equal(t, c.code, arpc.CodeOf(<-ended))
				synctest.Wait()
				require.Zero(t, bulkhead.Waiting())
				require.NoError(t, p.Client.CallWith(t.Context(), "/slow", "next", nil), "there is room in the queue again")
				require.NoError(t, <-first)
				require.Equal(t, []string{"first", "next"}, handled)
			})
		})
	}
}

// A connection that ends takes what waits on it out of the queue.
func TestBulkheadQueueIsLeftByLostConnections(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(1, router.WithQueue(5, 0))
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(bulkhead.Handler())
			h.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(time.Second); ctx.Write("done") })
		})
		other := p.Dial()
		ended := make(chan error, 10)
		call := func(c *arpc.Client) {
			go func() { ended <- c.CallWith(t.Context(), "/slow", nil, nil) }()
			settle()
		}
		call(p.Client)
		call(other)
		call(other)
		require.Equal(t, 2, bulkhead.Waiting())
		other.Stop()
		require.Error(t, <-ended)
		require.Error(t, <-ended)
		synctest.Wait()
		require.Zero(t, bulkhead.Waiting())
		require.NoError(t, <-ended)
	})
}

// However a handler ends its place is free again.
func TestBulkheadPlacesAreGivenBack(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(1)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(bulkhead.Handler())
			h.Handle("/boom", boom)
			h.Handle("/exit", func(*arpc.Context) { runtime.Goexit() })
			h.Handle("/fails", func(ctx *arpc.Context) { ctx.Error("no") })
			h.Handle("/later", func(ctx *arpc.Context) {
				d := ctx.Detach()
				go func() { time.Sleep(time.Second); d.Write("done") }()
			})
			h.Handle("/n", func(*arpc.Context) {})
		})
		for range 3 {
			for _, method := range []string{"/boom", "/exit", "/fails", "/later"} {
				p.Client.CallWith(t.Context(), method, nil, nil)
				synctest.Wait()
				require.Zero(t, bulkhead.InHand(), method)
			}
			require.NoError(t, p.Client.NotifyWith(t.Context(), "/n", nil))
			synctest.Wait()
			require.Zero(t, bulkhead.InHand())
		}
		require.Zero(t, bulkhead.Refused()+bulkhead.Dropped())
	})
}

func TestBulkheadOfNotifications(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(1, router.WithQueue(1, 0))
		handled := make(chan time.Duration, 10)
		start := time.Now()
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(bulkhead.Handler())
			h.Handle("/n", func(*arpc.Context) { time.Sleep(time.Second); handled <- time.Since(start) }, true)
		})
		for range 5 {
			require.NoError(t, p.Client.NotifyWith(t.Context(), "/n", nil))
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		require.Equal(t, time.Second, (<-handled).Truncate(time.Second))
		require.Equal(t, 2*time.Second, (<-handled).Truncate(time.Second), "it waited for its place")
		synctest.Wait()
		require.Empty(t, handled)
		require.Equal(t, uint64(3), bulkhead.Dropped())
		require.Zero(t, bulkhead.Refused())
	})
}

// A stream has its place for as long as it is handled.
func TestBulkheadOfStreams(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		bulkhead := router.NewBulkhead(1, router.WithQueue(1, 0))
		p := serve(t, world, func(h *arpc.Handler) {
			h.UseStream(bulkhead.Stream)
			h.HandleStream("/echo", echoStream)
		})
		open := func() *arpc.Stream {
			s, err := p.Client.OpenStream(t.Context(), "/echo")
			require.NoError(t, err)
			s.Send("hello") // or a refusal was quicker, which Recv tells
			synctest.Wait()
			return s
		}
		var text string
		first, second, third := open(), open(), open()
		require.NoError(t, first.Recv(&text))
		require.Equal(t, []int{1, 1}, []int{bulkhead.InHand(), bulkhead.Waiting()})
		err := third.Recv(&text)
		if p.Version == 1 {
			require.ErrorIs(t, err, io.EOF, "version 1 knows no other end")
		} else {
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		}
		require.Equal(t, uint64(1), bulkhead.Refused())
		require.NoError(t, first.Close())
		require.NoError(t, second.Recv(&text))
		require.Equal(t, "hello", text)
		require.NoError(t, second.Close())
		synctest.Wait()
		require.Zero(t, bulkhead.InHand())
	})
}

func TestBulkheadThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { router.NewBulkhead(0) })
	require.Panics(t, func() { router.WithQueue(-1, 0) })
	require.Panics(t, func() { router.WithQueue(1, -1) })
}
