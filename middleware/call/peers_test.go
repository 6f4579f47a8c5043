package call_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/call"
)

// ill is a server that fails while it is said to.
type ill struct {
	name   string
	failed atomic.Bool
	seen   atomic.Int64
}

func (s *ill) register(h *arpc.Handler) {
	h.Handle("/who", func(ctx *arpc.Context) {
		s.seen.Add(1)
		if s.failed.Load() {
			ctx.Error(arpc.NewError(arpc.CodeInternal, "ill"))
			return
		}
		ctx.Write(s.name)
	})
}

// since returns how many requests have come since it was last asked.
func (s *ill) since() int { return int(s.seen.Swap(0)) }

// threeOf returns a pool of three servers whose members are ejected by a breaker.
func threeOf(t *testing.T, inner arpc.Picker, opts ...call.BreakerOption) (pool *arpc.ClientPool, b *call.Breaker, servers [3]*ill) {
	b = quick(append([]call.BreakerOption{call.WithScope(call.PerPeer)}, opts...)...)
	var register []func(*arpc.Handler)
	for i := range servers {
		servers[i] = &ill{name: string('a' + rune(i))}
		register = append(register, servers[i].register)
	}
	pool = connectPool(t, register, b.Intercept)
	pool.SetPicker(b.Picker(inner))
	return pool, b, servers
}

// states returns those of the members.
func states(b *call.Breaker, pool *arpc.ClientPool) map[string]call.State {
	all := make(map[string]call.State)
	for _, m := range pool.Members() {
		for _, c := range b.Circuits() {
			if c.Peer == m.Client() && c.State != call.Closed {
				all[m.Name()] = c.State
			}
		}
	}
	return all
}

func callMany(t *testing.T, c arpc.Caller, times int) (failed int) {
	for range times {
		if c.CallWith(t.Context(), "/who", nil, nil) != nil {
			failed++
		}
	}
	return failed
}

func TestBreakerEjectsAMemberOfAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, servers := threeOf(t, nil)
		servers[1].failed.Store(true)
		require.Equal(t, 3, callMany(t, pool, 300))
		require.Equal(t, 3, servers[1].since())
		require.Equal(t, map[string]call.State{"1": call.Open}, states(b, pool))

		time.Sleep(6 * time.Second)
		require.Equal(t, 1, callMany(t, pool, 300), "one probe, which fails")
		require.Equal(t, 1, servers[1].since())

		servers[1].failed.Store(false)
		time.Sleep(6 * time.Second)
		require.Zero(t, callMany(t, pool, 300))
		require.Empty(t, states(b, pool))
		require.InDelta(t, 100, servers[1].since(), 10, "it has its share again")
	})
}

func TestBreakerLeavesTheChoiceToThePicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := "alice"
		hash := arpc.ConsistentHash(func(context.Context, string) string { return key })
		pool, b, servers := threeOf(t, hash)
		require.Zero(t, callMany(t, pool, 5))
		var home *ill
		for _, s := range servers {
			if s.since() == 5 {
				home = s
			}
		}
		require.NotNil(t, home)
		time.Sleep(time.Minute)
		home.failed.Store(true)
		require.Equal(t, 3, callMany(t, pool, 10))
		home.failed.Store(false)
		require.Len(t, states(b, pool), 1)
		time.Sleep(6 * time.Second)
		home.since()
		require.Zero(t, callMany(t, pool, 10))
		require.Equal(t, 10, home.since(), "its keys come back")
	})
}

// A picker may have no opinion, or one that is none of the pool's business.
func TestBreakerWithAPickerWithoutAnOpinion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stranger := connectPool(t, []func(*arpc.Handler){serve}).Members()[0]
		for _, m := range []*arpc.Member{nil, stranger} {
			pool, _, servers := threeOf(t, pickerFunc(func() *arpc.Member { return m }))
			servers[2].failed.Store(true)
			require.Equal(t, 3, callMany(t, pool, 100))
		}
	})
}

type pickerFunc func() *arpc.Member

func (fn pickerFunc) Pick(context.Context, string, []*arpc.Member) *arpc.Member { return fn() }

// With nobody left to choose calls go on, and so find out who is well again.
func TestBreakerThatEjectsEverybodyEjectsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, servers := threeOf(t, nil)
		for _, s := range servers {
			s.failed.Store(true)
		}
		require.Equal(t, 100, callMany(t, pool, 100))
		require.Len(t, states(b, pool), 3)
		for _, s := range servers {
			s.failed.Store(false)
		}
		require.Zero(t, callMany(t, pool, 100))
		require.Len(t, states(b, pool), 3, "but it is no probe")
		time.Sleep(6 * time.Second)
		require.Zero(t, callMany(t, pool, 100))
		require.Empty(t, states(b, pool))
		require.NotNil(t, pool.Next(), "asking who is next needs no place")
	})
}

// A call that nobody else was left for is no probe, and one that began before the
// circuit opened does not count when it is closed again.
func TestBreakerOfAPoolIgnoresWhatIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick(call.WithScope(call.PerPeer))
		pool := connectPool(t, []func(*arpc.Handler){func(h *arpc.Handler) {
			h.Handle("/fail", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeInternal, "ill")) })
			h.Handle("/slow", func(ctx *arpc.Context) { pause(ctx, 3*time.Second); ctx.Write(nil) })
			h.Handle("/late", func(ctx *arpc.Context) { pause(ctx, time.Minute); ctx.Error(arpc.NewError(arpc.CodeInternal, "ill")) })
		}}, b.Intercept)
		pool.SetPicker(b.Picker(nil))
		begin := func(method string) { go pool.Call(method, nil, nil, time.Hour) }
		for range 3 {
			begin("/late")
		}
		synctest.Wait()
		for range 3 {
			require.Error(t, pool.Call("/fail", nil, nil, time.Second))
		}
		require.Equal(t, call.Open, only(t, b))
		time.Sleep(6 * time.Second)
		begin("/slow") // the probe
		synctest.Wait()
		require.Error(t, pool.Call("/fail", nil, nil, time.Second))
		require.Equal(t, call.HalfOpen, only(t, b))
		time.Sleep(5 * time.Second)
		require.Equal(t, call.Closed, only(t, b))
		time.Sleep(time.Minute)
		require.Equal(t, call.Closed, only(t, b))
	})
}

// A member that is reserved for a call which then goes elsewhere is free again.
func TestBreakerProbesAMemberThatIsNotConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, servers := threeOf(t, nil)
		servers[0].failed.Store(true)
		callMany(t, pool, 100)
		require.Equal(t, map[string]call.State{"0": call.Open}, states(b, pool))
		servers[0].failed.Store(false)
		time.Sleep(6 * time.Second)

		only := pickerFunc(func() *arpc.Member { return pool.Members()[0] })
		pool.SetPicker(b.Picker(only))
		arpctest.FaultsOf(pool.Get(0).Conn()).Cut()
		synctest.Wait()
		require.Zero(t, callMany(t, pool, 10), "others answer")
		require.Equal(t, map[string]call.State{"0": call.HalfOpen}, states(b, pool))
		time.Sleep(20 * time.Second)
		require.Zero(t, callMany(t, pool, 1))
		require.Empty(t, states(b, pool))
	})
}

// Both attempts of a hedge in a pool may be probes, and each gives its place back.
func TestBreakerInFrontOfAHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, servers := threeOf(t, nil)
		pool.Handler().UseCall(call.Hedge(call.WithDelay(time.Millisecond), call.WithIdempotent("/who")))
		servers[0].failed.Store(true)
		callMany(t, pool, 100)
		servers[0].failed.Store(false)
		for range 10 {
			time.Sleep(6 * time.Second)
			callMany(t, pool, 3)
		}
		require.Empty(t, states(b, pool))
	})
}

func TestBreakerOfAPeerThatIsNoPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ill{name: "a"}
		b := quick(call.WithScope(call.PerPeer))
		p := connect(t, s.register, b.Intercept)
		other := p.Dial()
		s.failed.Store(true)
		require.Equal(t, 3, callMany(t, p.Client, 3))
		s.failed.Store(false)
		var open *call.OpenError
		require.ErrorAs(t, p.Client.CallWith(t.Context(), "/who", nil, nil), &open)
		require.Zero(t, callMany(t, other, 10), "which has a circuit of its own")

		arpctest.FaultsOf(p.Client.Conn()).Cut()
		time.Sleep(time.Second)
		require.ErrorAs(t, p.Client.CallWith(t.Context(), "/who", nil, nil), &open, "it is the same peer when it is back")
	})
}

// Without its Picker a Breaker of a pool's peers watches, and refuses nothing.
func TestBreakerOfAPoolWithoutItsPicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, servers := threeOf(t, nil)
		pool.SetPicker(nil)
		servers[0].failed.Store(true)
		require.Equal(t, 100, callMany(t, pool, 300))
		require.Equal(t, map[string]call.State{"0": call.Open}, states(b, pool))
	})
}

// Whatever an interceptor in front of a pool does, the permits are given back.
func TestBreakerOfAPoolWhoseCallIsAnsweredElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, _ := threeOf(t, nil)
		pool.Handler().UseCall(func(context.Context, *arpc.Call, arpc.CallFunc) error { return nil })
		require.Zero(t, callMany(t, pool, 10))
		require.Empty(t, b.Circuits(), "nobody was asked")
	})
}

// A server that calls its clients does not remember those that are gone.
func TestBreakerForgetsClosedClients(t *testing.T) {
	b := call.NewBreaker("clients", call.WithScope(call.PerPeer), call.WithFailureRate(1, 1, time.Second))
	p := connect(t, serve)
	p.Server.Handler.UseCall(b.Intercept)
	serve(p.Client.Handler)
	for i := range 500 {
		c := p.Dial()
		peer := p.PeerOf(c)
		require.NoError(t, peer.CallWith(t.Context(), "/echo", "x", nil))
		if i%3 == 0 {
			require.ErrorIs(t, peer.Call("/none", nil, nil, time.Second), arpc.ErrMethodNotFound)
		}
		c.Stop()
		<-peer.Done()
	}
	require.LessOrEqual(t, len(b.Circuits()), 65)
}

func TestBreakerOfAPoolThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, b, servers := threeOf(t, arpc.PowerOfTwo(), call.WithFailureRate(0.5, 2, time.Second), call.WithOpenFor(time.Second))
		ln := arpctest.ListenMemory()
		extra := arpc.NewServer()
		(&ill{name: "d"}).register(extra.Handler)
		go extra.Serve(ln)
		defer extra.Stop()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					pool.Call("/who", nil, nil, time.Second)
					time.Sleep(rand.N(20 * time.Millisecond))
				}
			})
		}
		for i := range 30 {
			servers[i%3].failed.Store(i%2 == 0)
			time.Sleep(50 * time.Millisecond)
			_, err := pool.Add("d", ln.Dial)
			require.NoError(t, err)
			time.Sleep(50 * time.Millisecond)
			_, err = pool.Remove("d")
			require.NoError(t, err)
		}
		all.Wait()
		for _, s := range servers {
			s.failed.Store(false)
		}
		for range 20 {
			time.Sleep(2 * time.Second)
			callMany(t, pool, 10)
		}
		require.Empty(t, states(b, pool))
	})
}
