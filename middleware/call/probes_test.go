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
	"github.com/arpc-go/arpc/middleware/call"
)

// A probe whose caller gives up has proved nothing, and its place is free again.
func TestBreakerProbeThatProvesNothing(t *testing.T) {
	for name, probe := range map[string]func(b *call.Breaker){
		"canceled": func(b *call.Breaker) {
			require.Equal(t, 1, passing(t, b, anyCall, context.Canceled, 1))
		},
		"panic": func(b *call.Breaker) {
			require.Panics(t, func() {
				b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error { panic("a bug") })
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := quick()
				passing(t, b, anyCall, errDown, 3)
				time.Sleep(6 * time.Second)
				for range 10 {
					probe(b)
					require.Equal(t, call.HalfOpen, only(t, b))
				}
				passing(t, b, anyCall, nil, 1)
				require.Equal(t, call.Closed, only(t, b))
			})
		})
	}
}

// A call that began before the circuit opened is no probe.
func TestBreakerIgnoresWhatBeganInAnotherState(t *testing.T) {
	for name, result := range map[string]error{"success": nil, "failure": errDown} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := quick()
				for range 5 {
					go b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error {
						time.Sleep(10 * time.Second)
						return result
					})
				}
				synctest.Wait()
				passing(t, b, anyCall, errDown, 3)
				time.Sleep(7 * time.Second)
				go b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error { time.Sleep(20 * time.Second); return nil })
				time.Sleep(10 * time.Second)
				require.Equal(t, call.HalfOpen, only(t, b))
				require.Zero(t, passing(t, b, anyCall, nil, 1), "the probe is still under way")
				time.Sleep(20 * time.Second)
				require.Equal(t, call.Closed, only(t, b))
			})
		})
	}
}

// Nor does it count when the circuit is closed again.
func TestBreakerIgnoresWhatBeganLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick()
		for range 5 {
			go b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error {
				time.Sleep(time.Minute)
				return errDown
			})
		}
		synctest.Wait()
		passing(t, b, anyCall, errDown, 3)
		time.Sleep(6 * time.Second)
		passing(t, b, anyCall, nil, 1)
		require.Equal(t, call.Closed, only(t, b))
		time.Sleep(2 * time.Minute)
		require.Equal(t, call.Closed, only(t, b))
		passing(t, b, anyCall, errDown, 2)
		require.Equal(t, call.Closed, only(t, b))
	})
}

// A probe of last time takes no place from those of this time, and is none of them.
func TestBreakerIgnoresProbesOfLastTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quick(call.WithProbes(2))
		passing(t, b, anyCall, errDown, 3)
		time.Sleep(6 * time.Second)
		go b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error { time.Sleep(10 * time.Second); return nil })
		synctest.Wait()
		require.Equal(t, 1, passing(t, b, anyCall, errDown, 5), "the other probe fails")
		time.Sleep(6 * time.Second)

		slow := func(context.Context, *arpc.Call) error { time.Sleep(20 * time.Second); return nil }
		admitted := make(chan error, 3)
		try := func() { go func() { admitted <- b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, slow) }() }
		try()
		try()
		synctest.Wait()
		require.Empty(t, admitted, "both places are free")
		time.Sleep(5 * time.Second) // the old probe has succeeded
		try()
		synctest.Wait()
		require.Error(t, <-admitted, "both places are taken")
		require.Equal(t, call.HalfOpen, only(t, b))
		time.Sleep(20 * time.Second)
		require.Equal(t, call.Closed, only(t, b))
	})
}

// However calls overlap, no more probes than allowed are under way, and a circuit
// that is probed always comes out of it.
func TestBreakerNeverLosesAPlaceForAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const probes = 3
		b := quick(call.WithProbes(probes))
		state := func() call.State { return only(t, b) }
		var probing atomic.Int64
		results := []error{nil, nil, errDown, context.Canceled, arpc.NewError(arpc.CodeNotFound, "no")}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				for range 100 {
					b.Intercept(t.Context(), &arpc.Call{Method: "/x"}, func(context.Context, *arpc.Call) error {
						if state() == call.HalfOpen {
							if probing.Add(1) > probes {
								t.Error("too many probes")
							}
							defer probing.Add(-1)
						}
						time.Sleep(rand.N(200 * time.Millisecond))
						return results[rand.IntN(len(results))]
					})
					time.Sleep(rand.N(time.Second))
				}
			})
		}
		all.Wait()
		for range 100 {
			time.Sleep(6 * time.Second)
			passing(t, b, anyCall, nil, 1)
		}
		require.Equal(t, call.Closed, state())
	})
}
