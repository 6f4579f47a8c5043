package router_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

// Three times of what a service can do leaves next to nothing of it; with shedding
// it goes on doing nearly all of it, whatever its size.
func TestAdaptiveUnderThreeTimesTheLoad(t *testing.T) {
	small := size{4, 20 * time.Millisecond}
	require.Less(t, small.done(t, nil), 0.5)
	for _, size := range []size{small, {10, 20 * time.Millisecond}, {40, 100 * time.Millisecond}} {
		require.Greater(t, size.done(t, router.NewAdaptive()), 0.9, size)
	}
}

type size struct {
	places int
	each   time.Duration
}

// done returns which part of its capacity a workshop does under three times of it,
// when adaptive has got to know it; nil: there is none.
func (s size) done(t *testing.T, adaptive *router.Adaptive) (part float64) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop(s.places, s.each)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			if adaptive != nil {
				h.Use(adaptive.Handler())
			}
			h.Handle("/work", w.handle)
		})
		storm(p.Client, "/work", 3*w.capacity(), 2*time.Second, 6*s.each)
		o := storm(p.Client, "/work", 3*w.capacity(), 6*time.Second, 6*s.each)
		part = float64(o.good.Load()) / w.capacity() / 6
	})
	return part
}

// A service that has enough of everything turns hardly anything away.
func TestAdaptiveUnderLittleLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		adaptive := router.NewAdaptive()
		w := newWorkshop(16, 10*time.Millisecond)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(adaptive.Handler())
			h.Handle("/work", w.handle)
		})
		o := storm(p.Client, "/work", w.capacity()/2, 4*time.Second, time.Second)
		require.Less(t, float64(o.refused.Load()), 0.01*float64(o.good.Load()))
		require.Zero(t, o.late.Load())
		require.Equal(t, uint64(o.refused.Load()), adaptive.Refused())
		synctest.Wait()
		require.Zero(t, adaptive.InHand())
	})
}

// A service that becomes slower, or quicker, is found out.
func TestAdaptiveFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, quick := newWorkshop(10, 100*time.Millisecond), newWorkshop(10, 30*time.Millisecond)
		now := quick
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(router.NewAdaptive().Handler())
			h.Handle("/work", func(ctx *arpc.Context) { now.handle(ctx) })
		})
		for _, w := range []*workshop{quick, slow, quick} {
			now = w
			storm(p.Client, "/work", 3*w.capacity(), 2*time.Second, time.Second) // to find out
			o := storm(p.Client, "/work", 3*w.capacity(), 2*time.Second, time.Second)
			require.Greater(t, float64(o.good.Load())/w.capacity()/2, 0.8, w.each)
		}
	})
}

// Limits that leave no choice make a bulkhead of it.
func TestAdaptiveWithinItsLimits(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		adaptive := router.NewAdaptive(router.WithLimits(2, 2, 2))
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(adaptive.Handler())
			h.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(time.Second); ctx.Write("done") })
			h.Handle("/n", func(*arpc.Context) { time.Sleep(time.Second) }, true)
		})
		for range 100 {
			ended := calling(t.Context(), p, "/slow", 3)
			err := <-ended
			require.Equal(t, code(p, arpc.CodeResourceExhausted), arpc.CodeOf(err))
			require.EqualError(t, err, "overloaded (NewAdaptive)")
			require.Equal(t, []int{2, 2}, []int{adaptive.Limit(), adaptive.InHand()})
			require.NoError(t, <-ended)
			require.NoError(t, <-ended)
			settle()
		}
		require.Equal(t, uint64(100), adaptive.Refused())
		for range 5 {
			require.NoError(t, p.Client.NotifyWith(t.Context(), "/n", nil))
			settle()
		}
		require.Equal(t, uint64(3), adaptive.Dropped())
	})
}

// What fails at once says nothing about the time that work takes.
func TestAdaptiveIgnoresFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop(10, 40*time.Millisecond)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(router.NewAdaptive().Handler())
			h.Handle("/work", w.handle)
			h.Handle("/fails", func(ctx *arpc.Context) { ctx.Error("no") })
			h.Handle("/boom", boom)
		})
		stop := make(chan struct{})
		failing := make(chan struct{})
		go func() {
			defer close(failing)
			for {
				select {
				case <-stop:
					return
				case <-time.After(4 * time.Millisecond):
					p.Client.CallWith(t.Context(), "/fails", nil, nil)
					p.Client.CallWith(t.Context(), "/boom", nil, nil)
				}
			}
		}()
		storm(p.Client, "/work", 3*w.capacity(), time.Second, time.Second)
		o := storm(p.Client, "/work", 3*w.capacity(), 3*time.Second, time.Second)
		close(stop)
		<-failing
		require.Greater(t, float64(o.good.Load())/w.capacity()/3, 0.8)
	})
}

func TestAdaptiveThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { router.WithLimits(0, 1, 1) })
	require.Panics(t, func() { router.WithLimits(2, 1, 3) })
	require.Panics(t, func() { router.WithLimits(1, 4, 3) })
}
