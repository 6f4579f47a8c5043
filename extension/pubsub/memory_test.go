package pubsub_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
)

func TestMemoryBroker(t *testing.T) {
	arpctest.Broker(t, func(t testing.TB, rules ...pubsub.HistoryRule) []pubsub.Broker {
		var opts []pubsub.MemoryOption
		for _, rule := range rules {
			opts = append(opts, pubsub.WithHistory(rule.Filter, rule.History))
		}
		return []pubsub.Broker{newMemoryBroker(t, opts...)}
	})
}

func newMemoryBroker(t testing.TB, opts ...pubsub.MemoryOption) *pubsub.MemoryBroker {
	b := pubsub.NewMemoryBroker(opts...)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// memoryWatcher is a Watcher of one function.
type memoryWatcher struct {
	deliver func(m *pubsub.Message)
	size    int
}

func (w memoryWatcher) Deliver(m *pubsub.Message) { w.deliver(m) }

func (w memoryWatcher) DeliverToOne(m *pubsub.Message) bool {
	w.deliver(m)
	return true
}

func (w memoryWatcher) Size() int { return w.size }

func (w memoryWatcher) Interrupted(error) {}

func (w memoryWatcher) Resumed(bool) {}

func memoryWatch(t testing.TB, b pubsub.Broker, filter string, deliver func(m *pubsub.Message)) (stop func()) {
	t.Helper()
	stop, err := b.Watch(filter, memoryWatcher{deliver, 1})
	require.NoError(t, err)
	return stop
}

func memoryPublish(t testing.TB, b pubsub.Broker, topic, text string) pubsub.Position {
	t.Helper()
	p, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic, Data: []byte(text), Time: time.Now()})
	require.NoError(t, err)
	return p
}

// memoryRead returns the texts of what there is, and whether that is complete.
func memoryRead(t testing.TB, b pubsub.Broker, filter string, from pubsub.Start) ([]string, bool) {
	t.Helper()
	page, err := b.Read(t.Context(), filter, from, 1000)
	require.NoError(t, err)
	require.False(t, page.More)
	texts := []string{}
	for _, m := range page.Messages {
		texts = append(texts, string(m.Data))
	}
	return texts, page.Complete
}

func memoryHead(t testing.TB, b pubsub.Broker) pubsub.Start {
	t.Helper()
	page, err := b.Read(t.Context(), ">", pubsub.Start{}, 1)
	require.NoError(t, err)
	return pubsub.Start{Kind: pubsub.StartAfter, Position: page.Next}
}

func TestMemoryTopicsWithoutHistoryDoNotWaitForEachOther(t *testing.T) {
	b := newMemoryBroker(t, pubsub.WithHistory("kept", pubsub.History{Messages: 1}))
	slow, entered := make(chan struct{}), make(chan struct{})
	memoryWatch(t, b, "slow", func(*pubsub.Message) {
		close(entered)
		<-slow
	})
	var others atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Publish(t.Context(), &pubsub.Message{Topic: "slow"})
	}()
	<-entered
	memoryPublish(t, b, "kept", "")
	const topics = 30 // one in 64 shares the lock of the slow one
	published := make(chan struct{}, topics)
	for i := range topics {
		go func() {
			b.Publish(t.Context(), &pubsub.Message{Topic: fmt.Sprint(i)})
			others.Add(1)
			published <- struct{}{}
		}()
	}
	for range topics / 2 {
		<-published
	}
	close(slow)
	<-done
	for range topics / 2 {
		<-published
	}
	require.EqualValues(t, topics, others.Load())
}

func TestMemoryWatcherThatPanicsLocksNobodyOut(t *testing.T) {
	b := newMemoryBroker(t, pubsub.WithHistory("kept", pubsub.History{Messages: 1}))
	for _, topic := range []string{"kept", "live"} {
		got := 0
		memoryWatch(t, b, topic, func(*pubsub.Message) {
			if got++; got == 1 {
				panic("a bug")
			}
		})
		require.PanicsWithValue(t, "a bug", func() { memoryPublish(t, b, topic, "") })
		memoryPublish(t, b, topic, "")
		require.Equal(t, 2, got)
	}
}

func TestMemoryBrokerSetsTheTimeOfWhatItKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t, pubsub.WithHistory("kept", pubsub.History{Messages: 1}))
		got := make(map[string]time.Time)
		memoryWatch(t, b, ">", func(m *pubsub.Message) { got[m.Topic] = m.Time })
		for _, topic := range []string{"kept", "live"} {
			_, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic})
			require.NoError(t, err)
		}
		require.Equal(t, time.Now().UnixNano(), got["kept"].UnixNano())
		require.Zero(t, got["live"])
	})
}

func TestMemoryPublishToOneIsFairToSubscribers(t *testing.T) {
	b := newMemoryBroker(t)
	var got [4]int
	for i := range got {
		_, err := b.Watch("t", memoryWatcher{func(*pubsub.Message) { got[i]++ }, i})
		require.NoError(t, err)
	}
	const messages = 6000
	for range messages {
		require.NoError(t, b.PublishToOne(t.Context(), &pubsub.Message{Topic: "t"}))
	}
	require.Zero(t, got[0])
	for i, n := range got {
		require.InDelta(t, i*messages/6, n, 300, "sizes 1, 2, 3: got %v", got) // eight standard deviations
	}
}

func TestMemoryIDsAreKnownForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t, pubsub.WithDedup(time.Minute, 3), pubsub.WithHistory("kept", pubsub.History{Messages: 1}))
		delivered := 0
		memoryWatch(t, b, ">", func(*pubsub.Message) { delivered++ })
		publish := func(topic, id string) bool {
			before := delivered
			_, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic, ID: id})
			require.NoError(t, err)
			return delivered > before
		}
		for _, topic := range []string{"kept", "live"} {
			require.True(t, publish(topic, "a"))
			time.Sleep(time.Minute - 1)
			require.False(t, publish(topic, "a"))
			time.Sleep(time.Nanosecond)
			require.True(t, publish(topic, "a"), "the window is over")

			require.True(t, publish(topic, "b"))
			require.True(t, publish(topic, "c"))
			require.False(t, publish(topic, "a"))
			require.True(t, publish(topic, "d"))
			require.True(t, publish(topic, "a"), "of four, three are known")
			require.False(t, publish(topic, "d"))
		}
		require.EqualValues(t, 6, b.Statistics().Doubles)
		require.NoError(t, b.PublishToOne(t.Context(), &pubsub.Message{Topic: "live", ID: "d"}))
		require.EqualValues(t, 7, b.Statistics().Doubles, "also of what goes to one")
	})
}

func TestMemoryOptionsThatMakeNoSensePanic(t *testing.T) {
	for name, option := range map[string]func(){
		"filter":     func() { pubsub.WithHistory("a.>.b", pubsub.History{}) },
		"messages":   func() { pubsub.WithHistory("a", pubsub.History{Messages: -1}) },
		"bytes":      func() { pubsub.WithHistory("a", pubsub.History{Bytes: -1}) },
		"age":        func() { pubsub.WithHistory("a", pubsub.History{Age: -1}) },
		"topics":     func() { pubsub.WithHistory("a", pubsub.History{Topics: -1}) },
		"window":     func() { pubsub.WithDedup(-1, 1) },
		"count":      func() { pubsub.WithDedup(1, -1) },
		"idle group": func() { pubsub.WithIdleGroup(0) },
	} {
		require.Panics(t, option, name)
	}
}
