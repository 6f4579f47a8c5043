package call

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

// As long as all circuits are closed a pool's picker need not look at them.
func TestBreakerCountsTheCircuitsThatAreNotClosed(t *testing.T) {
	b := NewBreaker("peers", WithScope(PerPeer), WithFailureRate(1, 1, time.Second), WithOpenFor(time.Nanosecond))
	p := arpctest.New(t, arpctest.Memory())
	var clients []*arpc.Client
	for range 10 {
		clients = append(clients, p.Dial())
	}
	settle := func(c *arpc.Client, outcome Outcome) {
		k := b.ofPeer(c)
		granted, err := k.admit()
		require.NoError(t, err)
		k.settle(granted, outcome)
	}
	for i, c := range clients {
		settle(c, Failure)
		require.EqualValues(t, i+1, b.notClosed.Load())
	}
	for i, c := range clients[:5] {
		settle(c, Failure)
		settle(c, Success)
		require.EqualValues(t, 9-i, b.notClosed.Load())
	}
	late := b.ofPeer(clients[9])
	granted, err := late.admit()
	require.NoError(t, err)
	for _, c := range clients {
		c.Stop()
	}
	b.mu.Lock()
	b.sweep()
	b.mu.Unlock()
	require.Empty(t, b.Circuits())
	require.Zero(t, b.notClosed.Load())
	late.settle(granted, Success)
	require.Zero(t, b.notClosed.Load(), "it is not counted any more")
}

func TestRetryWaitsNoLongerThanItsMaximum(t *testing.T) {
	const forever = time.Duration(math.MaxInt64)
	r := &retry{base: time.Hour, max: forever}
	require.Equal(t, time.Hour, r.longest(1))
	require.Equal(t, 4*time.Hour, r.longest(3))
	require.Equal(t, forever, r.longest(100))
	r = &retry{base: 2, max: 7}
	require.EqualValues(t, []time.Duration{2, 4, 7, 7}, []time.Duration{r.longest(1), r.longest(2), r.longest(3), r.longest(4)})
}
