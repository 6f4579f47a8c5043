package nats_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// Each of three NATS servers restarts while all brokers publish and watch: what was
// acknowledged is there, and everybody gets it, in order, once.
func TestARollingRestartLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	const publishers = 3
	c := cluster(t)
	prefix := newPrefix()
	var brokers [publishers]*nats.Broker
	var watches [publishers]*recorder
	for i := range brokers {
		brokers[i] = broker(t, c[i].URL()+","+c.URL(), prefix, keep(1_000_000), nats.WithReplicas(3))
	}
	for i, b := range brokers {
		watches[i] = watch(t, b, "kept.>")
	}
	var published [publishers]atomic.Int64
	stop := publishOn(t, brokers[:], published[:])
	for _, s := range c {
		s.Stop()
		require.NoError(t, s.Start())
		someMore(t, &published)
	}
	stop()

	total := 0
	for i := range published {
		total += int(published[i].Load())
	}
	history, page := read(t, brokers[0], "kept.>", pubsub.Start{Kind: pubsub.StartAll})
	require.True(t, page.Complete)
	require.Len(t, history, total)
	for _, w := range watches {
		eventually(t, func() bool { return len(messagesOf(w)) >= total }, "%d messages", total)
		require.Equal(t, history, messagesOf(w))
		require.NotContains(t, w.all(), "resumed false")
	}
}

// publishOn has brokers publish until they are told to stop.
func publishOn(t testing.TB, brokers []*nats.Broker, published []atomic.Int64) (stop func()) {
	var done atomic.Bool
	var all sync.WaitGroup
	for i, b := range brokers {
		all.Go(func() {
			for !done.Load() {
				publishSafely(t, b, fmt.Sprint("kept.", i%2), fmt.Sprintf("%d/%d", i, published[i].Load()))
				published[i].Add(1)
			}
		})
	}
	return func() {
		done.Store(true)
		all.Wait()
	}
}

// someMore waits until all have published something.
func someMore(t *testing.T, published *[3]atomic.Int64) {
	var before [3]int64
	for i := range before {
		before[i] = published[i].Load()
	}
	const some = 20
	eventually(t, func() bool {
		for i := range before {
			if published[i].Load() < before[i]+some {
				return false
			}
		}
		return true
	}, "all to go on publishing")
}

func TestOneOfAllGetsWhatIsForOne(t *testing.T) {
	t.Parallel()
	const messages = 300
	s, prefix := server(t), newPrefix()
	var brokers []*nats.Broker
	var watches []*recorder
	for range 2 {
		b := broker(t, s.URL(), prefix)
		for _, filter := range []string{"a.b", "a.*", "*.b", "a.>", ">", "*.*"} {
			watches = append(watches, watch(t, b, filter))
		}
		brokers = append(brokers, b)
	}
	for i := range messages {
		require.NoError(t, brokers[i%2].PublishToOne(t.Context(), &pubsub.Message{Topic: "a.b", Data: fmt.Append(nil, i)}))
	}
	publish(t, brokers[0], "a.b", "end")
	publish(t, brokers[1], "a.b", "end")
	var got []string
	eventually(t, func() bool {
		got = nil
		for _, w := range watches {
			got = append(got, w.ones()...)
		}
		return len(got) >= messages
	}, "all messages")
	for _, w := range watches {
		w.requireTold(t, "end", "end")
		require.NotEmpty(t, w.ones(), "somebody gets none of %d", messages)
	}
	slices.Sort(got)
	require.Len(t, slices.Compact(got), messages)
}

// What nobody takes at one broker another gets.
func TestWhatIsForOneGoesToABrokerThatHasSomebody(t *testing.T) {
	t.Parallel()
	s, prefix := server(t), newPrefix()
	empty, other := broker(t, s.URL(), prefix), broker(t, s.URL(), prefix)
	for _, filter := range []string{"a", ">", "*"} {
		stop, err := empty.Watch(filter, nobody{new(recorder)})
		require.NoError(t, err)
		t.Cleanup(stop)
	}
	w := watch(t, other, "a")
	const messages = 20
	for range messages {
		require.NoError(t, empty.PublishToOne(t.Context(), &pubsub.Message{Topic: "a"}))
	}
	eventually(t, func() bool { return len(w.ones()) == messages }, "all messages")
}

// nobody is a Watcher without subscribers.
type nobody struct{ *recorder }

func (nobody) Size() int { return 0 }

func TestBrokersOfAClusterHaveTheSameHistoryRules(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	first := broker(t, url, prefix, keep(100))
	broker(t, url, prefix, keep(100))
	for name, opts := range map[string][]nats.Option{
		"none":         {prefix},
		"other limits": {prefix, keep(101)},
		"other topics": {prefix, nats.WithHistory("other.>", pubsub.History{Messages: 100, TotalBytes: 64 << 20})},
	} {
		_, err := nats.NewBroker(url, opts...)
		require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err), "%s: %v", name, err)
		require.ErrorContains(t, err, "WithHistory", name)
	}
	publish(t, first, "kept.a", "a")
}

// When all have gone the rules may be others, and what there is stays.
func TestRulesMayChangeWhenNobodyIsThere(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	before := broker(t, url, prefix, keep(100))
	for i := range 5 {
		publish(t, before, "kept.a", fmt.Sprint(i))
	}
	require.NoError(t, before.Close())
	after := broker(t, url, prefix, keep(2), nats.WithHistory("more.>", pubsub.History{Messages: 2, TotalBytes: 64 << 20}))
	texts, page := read(t, after, "kept.a", pubsub.Start{Kind: pubsub.StartAll})
	require.Equal(t, []string{"3", "4"}, texts)
	require.False(t, page.Complete)
	require.NotZero(t, publish(t, after, "more.a", "more").Offset)
}
