//go:build !race

package pubsub_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// Passing a message on allocates nothing, however many watch; keeping one allocates
// what is kept.
func TestAllocMemoryPublish(t *testing.T) {
	for name, c := range map[string]struct {
		topic    string
		watchers int
		filter   string
		allocs   float64
	}{
		"nobody watches":    {"live.topic", 0, "", 0},
		"1000 watch":        {"live.topic", 1000, "live.topic", 0},
		"1000 watch by *":   {"live.topic", 1000, "live.*", 0},
		"kept":              {"kept.topic", 0, "", 1},
		"kept, 1000 watch":  {"kept.topic", 1000, "kept.*", 1},
		"kept, last of one": {"last.topic", 1, "last.*", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newMemoryBroker(t,
				pubsub.WithHistory("kept.>", pubsub.History{Messages: 100}),
				pubsub.WithHistory("last.>", pubsub.History{Messages: 1}))
			for range c.watchers {
				memoryWatch(t, b, c.filter, func(*pubsub.Message) {})
			}
			m := &pubsub.Message{Topic: c.topic, Data: make([]byte, 100), Time: time.Now()}
			publish := func() {
				if _, err := b.Publish(t.Context(), m); err != nil {
					panic(err)
				}
			}
			for range 1000 {
				publish()
			}
			require.LessOrEqual(t, testing.AllocsPerRun(2000, publish), c.allocs)
			require.Zero(t, testing.AllocsPerRun(100, func() { b.PublishToOne(t.Context(), m) }))
		})
	}
}
