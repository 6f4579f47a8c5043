package router_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// The caller is answered at the deadline, the handler's context ends, and what the
// handler answers later reaches nobody.
func TestTimeoutAnswersAtOnceThoughTheHandlerGoesOn(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(5 * time.Second)
		late := make(chan error, 10)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/fast", answering)
			h.Handle("/slow", func(ctx *arpc.Context) {
				time.Sleep(time.Minute)
				late <- ctx.Write("late")
			})
		})
		start := time.Now()
		err := p.Client.CallWith(t.Context(), "/slow", nil, nil)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.True(t, arpc.IsRemote(err))
		require.Equal(t, code(p, arpc.CodeDeadlineExceeded), arpc.CodeOf(err))
		require.EqualError(t, err, "the handler took longer than 5s (NewTimeout)")
		synctest.Wait()
		require.Equal(t, uint64(1), timeout.Expired())
		require.NoError(t, p.Client.CallWith(t.Context(), "/fast", nil, nil), "the connection goes on")
		require.ErrorIs(t, <-late, arpc.ErrAnswered)
		require.Equal(t, time.Minute, time.Since(start))
	})
}

func TestTimeoutEndsTheContextOfTheHandler(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(5 * time.Second)
		type seen struct {
			after      time.Duration
			left       time.Duration
			err, cause error
		}
		ended := make(chan seen, 10)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/wait", func(ctx *arpc.Context) {
				start := time.Now()
				deadline, _ := ctx.Deadline()
				left := time.Until(deadline)
				<-ctx.Done()
				ended <- seen{time.Since(start), left, ctx.Err(), context.Cause(ctx)}
				time.Sleep(time.Second)
			})
		})
		for _, call := range []func() error{
			func() error { return p.Client.CallWith(t.Context(), "/wait", nil, nil) },
			func() error { return p.Client.NotifyWith(t.Context(), "/wait", nil) },
		} {
			before := timeout.Expired()
			err := call()
			require.Equal(t, seen{5 * time.Second, 5 * time.Second, context.DeadlineExceeded, context.DeadlineExceeded}, <-ended)
			synctest.Wait()
			if err != nil {
				require.ErrorContains(t, err, "took longer than 5s")
				continue
			}
			require.Equal(t, before, timeout.Expired(), "nobody waits for the answer to a notification")
		}
	})
}

func TestTimeoutLeavesAnEarlierDeadlineOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timeout := router.NewTimeout(time.Minute)
		left := make(chan time.Duration, 1)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/wait", func(ctx *arpc.Context) {
				deadline, _ := ctx.Deadline()
				left <- time.Until(deadline)
				<-ctx.Done()
			})
		})
		start := time.Now()
		err := p.Client.Call("/wait", nil, nil, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, time.Second, <-left)
		time.Sleep(3 * time.Minute)
		require.Zero(t, timeout.Expired())
	})
}

// Who is through in time is not heard of again, however it ended.
func TestTimeoutForgetsWhatIsThrough(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(time.Second)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/fast", answering)
			h.Handle("/boom", boom)
			h.Handle("/exit", func(*arpc.Context) { runtime.Goexit() })
		})
		require.NoError(t, p.Client.CallWith(t.Context(), "/fast", nil, nil))
		require.ErrorContains(t, p.Client.CallWith(t.Context(), "/boom", nil, nil), "panicked")
		require.ErrorContains(t, p.Client.CallWith(t.Context(), "/exit", nil, nil), "without an answer")
		time.Sleep(3 * time.Minute)
		require.Zero(t, timeout.Expired())
	})
}

// Each of many requests ends at its own time, and those between them that are quick
// do not matter.
func TestTimeoutOfMany(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(10 * time.Second)
		const many = 500
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/wait", func(ctx *arpc.Context) { <-ctx.Done() })
			h.Handle("/some", func(ctx *arpc.Context) {
				time.Sleep(3 * time.Second)
				ctx.Write("done")
			})
		})
		took := make(chan time.Duration, many)
		for i := range many {
			time.Sleep(23 * time.Millisecond)
			method := "/wait"
			if i%3 == 0 {
				method = "/some"
			}
			go func() {
				start := time.Now()
				p.Client.CallWith(t.Context(), method, nil, nil)
				took <- time.Since(start)
			}()
		}
		var waited, some int
		for range many {
			switch <-took {
			case 10 * time.Second:
				waited++
			case 3 * time.Second:
				some++
			}
		}
		require.Equal(t, []int{many - (many+2)/3, (many + 2) / 3}, []int{waited, some})
	})
}

func sleeping(*arpc.Context) { time.Sleep(2 * time.Minute) }

func TestTimeoutsInATimeout(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		long, short := router.NewTimeout(time.Minute), router.NewTimeout(time.Second)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(long.Handler())
			h.Use(router.Only(short.Handler(), "/short/*"))
			h.Handle("/wait", sleeping)
			h.Handle("/short/wait", sleeping)
		})
		for method, want := range map[string]time.Duration{"/short/wait": time.Second, "/wait": time.Minute} {
			start := time.Now()
			err := p.Client.CallWith(t.Context(), method, nil, nil)
			require.Equal(t, want, time.Since(start))
			require.ErrorContains(t, err, "took longer than "+want.String())
		}
	})
}

// Who has looked at Done before learns of the deadline too.
func TestTimeoutOfAContextThatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timeout := router.NewTimeout(time.Second)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(func(ctx *arpc.Context) { ctx.Done() })
			h.Use(timeout.Handler())
			h.Handle("/wait", func(ctx *arpc.Context) {
				derived, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				<-derived.Done()
				<-ctx.Done()
			})
		})
		err := p.Client.CallWith(t.Context(), "/wait", nil, nil)
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
	})
}

// A detached request is answered by who detached it, whose context ends in time.
func TestTimeoutOfADetachedRequest(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(time.Second)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/later", func(ctx *arpc.Context) {
				detached := ctx.Detach()
				go func() {
					<-detached.Done()
					detached.Write(detached.Err().Error())
				}()
			})
		})
		var rsp string
		start := time.Now()
		require.NoError(t, p.Client.CallWith(t.Context(), "/later", nil, &rsp))
		require.Equal(t, "context deadline exceeded", rsp)
		require.Equal(t, time.Second, time.Since(start))
		require.Zero(t, timeout.Expired())
	})
}

// Streams do not pass it.
func TestTimeoutIsNotForStreams(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(time.Second)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.HandleStream("/echo", echoStream)
		})
		s, err := p.Client.OpenStream(t.Context(), "/echo")
		require.NoError(t, err)
		for range 3 {
			time.Sleep(time.Minute)
			var text string
			require.NoError(t, s.Send("hello"))
			require.NoError(t, s.Recv(&text))
			require.Equal(t, "hello", text)
		}
	})
}

func echoStream(s *arpc.Stream) {
	for b, err := range s.RecvSeq() {
		if err != nil || s.Send(&b) != nil {
			return
		}
	}
}

// The answer of the timeout and what the handler does are not in each other's way.
func TestTimeoutBesideABusyHandler(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		timeout := router.NewTimeout(20 * time.Millisecond)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(timeout.Handler())
			h.Handle("/busy", func(ctx *arpc.Context) {
				for ctx.Err() == nil {
					ctx.SetMetadata("key", "value")
					time.Sleep(time.Millisecond)
				}
				ctx.Write("late")
			})
		})
		for range 20 {
			start := time.Now()
			p.Client.CallWith(t.Context(), "/busy", nil, nil) // either of the two was quicker
			require.Equal(t, 20*time.Millisecond, time.Since(start))
		}
	})
}

func TestTimeoutMustBePositive(t *testing.T) {
	require.Panics(t, func() { router.NewTimeout(0) })
	require.Panics(t, func() { router.NewTimeout(-time.Second) })
}
