package arpc_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

type poolKey struct{}

// poolKeyOf is a key function: what poolWithKey put into the context.
func poolKeyOf(ctx context.Context, _ string) string {
	key, _ := ctx.Value(poolKey{}).(string)
	return key
}

func poolWithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, poolKey{}, key)
}

// poolPickers are all pickers of the package.
func poolPickers() map[string]arpc.Picker {
	return map[string]arpc.Picker{
		"round robin":     arpc.RoundRobin(),
		"least in flight": arpc.LeastInFlight(),
		"power of two":    arpc.PowerOfTwo(),
		"consistent hash": arpc.ConsistentHash(poolKeyOf),
	}
}

// poolPicks picks n times, each time with another key, and counts.
func poolPicks(t testing.TB, picker arpc.Picker, members []*arpc.Member, n int) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for i := range n {
		m := picker.Pick(poolWithKey(t.Context(), strconv.Itoa(i)), "/m", members)
		require.Contains(t, members, m)
		counts[m.Name()]++
	}
	return counts
}

func TestPickersSpreadOverIdleMembers(t *testing.T) {
	const size, picks = 4, 4000
	pool, _ := poolStart(t, size)
	for name, picker := range poolPickers() {
		t.Run(name, func(t *testing.T) {
			counts := poolPicks(t, picker, pool.Members(), picks)
			require.Len(t, counts, size)
			for member, n := range counts {
				require.InDelta(t, picks/size, n, 200, member) // some seven standard deviations
			}
		})
	}
	for _, picker := range []arpc.Picker{arpc.RoundRobin(), arpc.LeastInFlight()} {
		require.Equal(t, map[string]int{"0": 3, "1": 3, "2": 3, "3": 3}, poolPicks(t, picker, pool.Members(), 12))
	}
}

func TestPickersOfNobody(t *testing.T) {
	for name, picker := range poolPickers() {
		require.Nil(t, picker.Pick(t.Context(), "/m", nil), name)
	}
}

// Whichever members are lost, the others get the calls, all of them.
func TestPickersSkipUnhealthyMembers(t *testing.T) {
	const size, picks = 4, 400
	slack := map[string]float64{"round robin": 4, "least in flight": 4, "power of two": 80, "consistent hash": 80}
	for lost := range 1<<size - 1 {
		synctest.Test(t, func(t *testing.T) {
			pool, _ := poolStart(t, size)
			var healthy []string
			for i, m := range pool.Members() {
				if lost&(1<<i) != 0 {
					m.Client().Stop()
				} else {
					healthy = append(healthy, m.Name())
				}
				require.Equal(t, lost&(1<<i) == 0, m.Healthy())
			}
			for name, picker := range poolPickers() {
				counts := poolPicks(t, picker, pool.Members(), picks)
				require.ElementsMatch(t, healthy, slices.Collect(maps.Keys(counts)), name)
				for member, n := range counts {
					require.InDelta(t, picks/len(healthy), n, slack[name], "%s: %s", name, member)
				}
			}
		})
	}
}

func TestPickersWithoutAHealthyMember(t *testing.T) {
	pool, _ := poolStart(t, 3)
	members := pool.Members()
	for _, m := range members {
		m.Client().Stop()
	}
	for name, picker := range poolPickers() {
		require.Len(t, poolPicks(t, picker, members, 200), 3, name)
		pool.SetPicker(picker)
		require.NotNil(t, pool.Next())
		err := pool.Call("/name", nil, nil, suitePatience)
		require.ErrorIs(t, err, arpc.ErrClosed, name)
		suiteUnsent(t, err, arpc.CodeUnavailable)
	}
}

// One value of a picker serves several pools, each in its own turn.
func TestPickersOfTwoPools(t *testing.T) {
	one, _ := poolStart(t, 2)
	other, _ := poolStart(t, 2)
	picker := arpc.RoundRobin()
	one.SetPicker(picker)
	other.SetPicker(picker)
	counts := make(map[*arpc.Client]int)
	for range 6 {
		counts[one.Next()]++
		counts[other.Next()]++
	}
	require.Len(t, counts, 4)
	for _, n := range counts {
		require.Equal(t, 3, n)
	}
}

func TestLeastInFlightPrefersWhoHasLessToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 3)
		pool.SetPicker(arpc.LeastInFlight())
		hold := func(i int) {
			require.NoError(t, pool.Get(i).CallAsync("/hold", nil, func(*arpc.Context) {}, arpc.TimeForever))
		}
		next := func() int { return slices.Index(poolClients(pool), pool.Next()) }
		hold(0)
		hold(0)
		hold(1)
		for range 5 {
			require.Equal(t, 2, next())
		}
		hold(2)
		seen := map[int]int{next(): 1}
		seen[next()]++
		seen[next()]++
		require.NotContains(t, seen, 0)
		require.Len(t, seen, 2, "equals take turns")
		require.Equal(t, 2, pool.Members()[0].Inflight())

		synctest.Wait()
		for _, s := range servers {
			s.release()
		}
		synctest.Wait()
		for _, m := range pool.Members() {
			require.Zero(t, m.Inflight())
		}
	})
}

func TestPowerOfTwoAvoidsWhoHasMostToDo(t *testing.T) {
	pool, _ := poolStart(t, 4)
	for range 3 {
		require.NoError(t, pool.Get(2).CallAsync("/hold", nil, func(*arpc.Context) {}, arpc.TimeForever))
	}
	counts := poolPicks(t, arpc.PowerOfTwo(), pool.Members(), 1000)
	require.NotContains(t, counts, "2")
	require.Len(t, counts, 3)

	pool.Get(0).Stop() // of those that are left, too
	counts = poolPicks(t, arpc.PowerOfTwo(), pool.Members(), 1000)
	require.ElementsMatch(t, []string{"1", "3"}, slices.Collect(maps.Keys(counts)))

	pool.Get(1).Stop()
	pool.Get(3).Stop()
	require.Equal(t, map[string]int{"2": 10}, poolPicks(t, arpc.PowerOfTwo(), pool.Members(), 10))
}

// Under load of callers that decide at the same time all members get a share,
// with every picker.
func TestPickersUnderLoad(t *testing.T) {
	const size, callers, calls = 3, 8, 100
	for name, picker := range poolPickers() {
		t.Run(name, func(t *testing.T) {
			pool, servers := poolStart(t, size)
			pool.SetPicker(picker)
			var all sync.WaitGroup
			errs := make(chan error, callers*calls)
			for i := range callers {
				all.Go(func() {
					for j := range calls {
						ctx := poolWithKey(t.Context(), fmt.Sprint(i, j))
						errs <- pool.CallWith(ctx, "/name", nil, nil)
					}
				})
			}
			all.Wait()
			close(errs)
			for err := range errs {
				require.NoError(t, err)
			}
			total := int64(0)
			for _, s := range servers {
				require.Positive(t, s.handled.Load()) // how much depends on who was quick
				total += s.handled.Load()
			}
			require.EqualValues(t, callers*calls, total)
		})
	}
}

// poolPickFunc is a picker of a user.
type poolPickFunc func(members []*arpc.Member) *arpc.Member

func (f poolPickFunc) Pick(_ context.Context, _ string, members []*arpc.Member) *arpc.Member {
	return f(members)
}

// A picker that knows nothing of health, or has no opinion, does no harm.
func TestPickerOfTheUsers(t *testing.T) {
	stranger, _ := poolStart(t, 1)
	first := poolPickFunc(func(members []*arpc.Member) *arpc.Member { return members[0] })
	for name, c := range map[string]struct {
		picker arpc.Picker
		want   int // members that get calls, of two that are healthy
	}{
		"the first":  {first, 2},
		"no opinion": {poolPickFunc(func([]*arpc.Member) *arpc.Member { return nil }), 2},
		"the last":   {poolPickFunc(func(members []*arpc.Member) *arpc.Member { return members[len(members)-1] }), 1},
		"a stranger": {poolPickFunc(func([]*arpc.Member) *arpc.Member { return stranger.Members()[0] }), 2},
		"delegates": {poolPickFunc(func(members []*arpc.Member) *arpc.Member {
			return arpc.RoundRobin().Pick(context.Background(), "", members[1:2])
		}), 1},
	} {
		t.Run(name, func(t *testing.T) {
			pool, _ := poolStart(t, 3)
			pool.SetPicker(c.picker)
			pool.Get(0).Stop()
			seen := make(map[*arpc.Client]bool)
			for range 20 {
				seen[pool.Next()] = true
			}
			require.NoError(t, pool.Call("/name", nil, nil, suitePatience))
			require.Len(t, seen, c.want)
			require.NotContains(t, seen, pool.Get(0))

			for _, m := range pool.Members() {
				m.Client().Stop()
			}
			require.ErrorIs(t, pool.Call("/name", nil, nil, suitePatience), arpc.ErrClosed)
		})
	}
}

func TestSetPickerNilIsRoundRobin(t *testing.T) {
	pool, _ := poolStart(t, 2)
	pool.SetPicker(poolPickFunc(func(members []*arpc.Member) *arpc.Member { return members[0] }))
	require.Same(t, pool.Next(), pool.Next())
	pool.SetPicker(nil)
	require.NotSame(t, pool.Next(), pool.Next())
}

// nearby is a picker that takes the first healthy member of a zone.
type nearby struct{ zone string }

func (p nearby) Pick(ctx context.Context, method string, members []*arpc.Member) *arpc.Member {
	for _, m := range members {
		if m.Healthy() && strings.HasPrefix(m.Name(), p.zone) {
			return m
		}
	}
	return nil // then the pool decides
}

func ExamplePicker() {
	server := arpc.NewServer()
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()
	pool, err := arpc.NewPool()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Stop()
	pool.SetPicker(nearby{zone: "eu"})
	for _, name := range []string{"us-1", "eu-1"} {
		if _, err := pool.Add(name, ln.Dial); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(pool.Next() == pool.Members()[1].Client())
	// Output: true
}
