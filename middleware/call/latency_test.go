package call

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBucketHoldsWhatItSays(t *testing.T) {
	begin := time.Duration(0)
	for i := range len(histogram{}.counts) - 1 {
		end := endOf(i)
		require.Equal(t, i, bucketOf(begin))
		require.Equal(t, i, bucketOf(end-1))
		require.Equal(t, i+1, bucketOf(end))
		if i > 0 {
			require.LessOrEqual(t, end-begin, begin/8, "an eighth at most")
		}
		begin = end
	}
	require.Greater(t, begin, 30*time.Minute)
	require.Equal(t, 0, bucketOf(-1))
	require.Equal(t, len(histogram{}.counts)-1, bucketOf(1<<63-1))
}

func TestQuantileIsThatOfTheDurations(t *testing.T) {
	for range 200 {
		var a, b histogram
		var all []time.Duration
		for range 1 + rand.IntN(500) {
			d := time.Duration(rand.ExpFloat64() * float64(rand.N(10*time.Second)))
			all = append(all, d)
			if rand.IntN(2) == 0 {
				a.add(d)
			} else {
				b.add(d)
			}
		}
		slices.Sort(all)
		q := rand.Float64()
		naive := all[min(int(q*float64(len(all))), len(all)-1)]
		got := quantileOf(&a, &b, q)
		require.LessOrEqual(t, got, naive+naive/8+1<<smallest)
		below, _ := slices.BinarySearch(all, got)
		require.GreaterOrEqual(t, float64(below), q*float64(len(all))-1e-6)
	}
}

func TestLatencyForgets(t *testing.T) {
	m := (&latencies{quantile: 0.9, times: 2, methods: make(map[string]*latency)}).of("/x")
	fill := func(n int, d time.Duration) {
		for range n {
			m.took(d)
		}
	}
	fill(enoughCalls-1, 10*time.Millisecond)
	require.Zero(t, m.hedgeAfter())
	fill(renewEvery, 10*time.Millisecond)
	require.InEpsilon(t, 20*time.Millisecond, m.hedgeAfter(), 0.15)
	fill(2*manyCalls, time.Second)
	require.InEpsilon(t, 2*time.Second, m.hedgeAfter(), 0.15)
	fill(2*manyCalls, 0)
	require.Equal(t, minDelay, m.hedgeAfter())
	fill(10*manyCalls, 0)
	require.Equal(t, minDelay, m.hedgeAfter())
}

func TestLatencyOfManyMethods(t *testing.T) {
	l := &latencies{quantile: 0.9, times: 2, methods: make(map[string]*latency)}
	for i := range maxMethods {
		require.NotNil(t, l.of(fmt.Sprint(i)))
	}
	tooMany := l.of("one more")
	tooMany.took(time.Second)
	require.Zero(t, tooMany.hedgeAfter(), "it is not hedged")
	require.NotNil(t, l.of("0"))
	require.Len(t, l.methods, maxMethods)
}
