//go:build !race

package pubsub_test

import (
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/stretchr/testify/require"
)

// broadcastTo is how many subscribers a broadcast has.
const broadcastTo = 10_000

// randomCutRuns is how often random cuts are tried.
const randomCutRuns = 500

// For each delivery nothing is allocated.
func TestADeliveryAllocatesNothing(t *testing.T) {
	ln := arpctest.ListenMemory()
	s := pubsub.NewServer()
	go s.Serve(ln)
	defer s.Stop()
	const few, many = 1, 101
	allocs := make(map[int]float64)
	for _, n := range []int{few, many} {
		var got atomic.Int64
		topic := "news of " + string(rune('a'+n%26))
		audience(t, n, ln.Dial, topic, func(*arpc.Context) { got.Add(1) })
		allocs[n] = testing.AllocsPerRun(200, func() {
			if err := s.Publish(topic, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	require.Less(t, (allocs[many]-allocs[few])/(many-few), 0.5, "%v", allocs)
}
