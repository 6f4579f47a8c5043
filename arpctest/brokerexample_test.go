package arpctest_test

import (
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// The test of a Broker. One for several servers returns several that are connected.
func ExampleBroker() {
	TestMyBroker := func(t *testing.T) {
		arpctest.Broker(t, func(t testing.TB, rules ...pubsub.HistoryRule) []pubsub.Broker {
			var opts []pubsub.MemoryOption
			for _, rule := range rules {
				opts = append(opts, pubsub.WithHistory(rule.Filter, rule.History))
			}
			b := pubsub.NewMemoryBroker(opts...)
			t.Cleanup(func() { b.Close() })
			return []pubsub.Broker{b}
		})
	}
	_ = TestMyBroker
	// Output:
}
