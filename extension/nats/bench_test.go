package nats_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// message is what benchmarks publish.
func message(topic string) *pubsub.Message {
	return &pubsub.Message{Topic: topic, Data: make([]byte, 128), Time: time.Now()}
}

// counter is a Watcher that counts.
type counter struct{ messages atomic.Int64 }

func (c *counter) Deliver(*pubsub.Message)           { c.messages.Add(1) }
func (c *counter) DeliverToOne(*pubsub.Message) bool { c.messages.Add(1); return true }
func (c *counter) Size() int                         { return 1 }
func (c *counter) Interrupted(error)                 {}
func (c *counter) Resumed(bool)                      {}

// wait waits until so many messages were delivered.
func (c *counter) wait(b *testing.B, n int) {
	eventually(b, func() bool { return c.messages.Load() >= int64(n) }, "%d messages", n)
}

// BenchmarkPublish publishes 128 bytes from one goroutine, with history until they are
// stored, and to who watches until they have arrived at another broker.
func BenchmarkPublish(b *testing.B) {
	for _, topic := range []string{"live.a", "kept.a"} {
		for _, watched := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/watched=%v", topic, watched), func(b *testing.B) {
				url, prefix := server(b).URL(), newPrefix()
				here, there := broker(b, url, prefix, keep(1000)), broker(b, url, prefix, keep(1000))
				arrived := new(counter)
				if watched {
					_, err := there.Watch(topic, arrived)
					require.NoError(b, err)
				}
				m := message(topic)
				b.ReportAllocs()
				b.SetBytes(int64(len(m.Data)))
				for b.Loop() {
					_, err := here.Publish(b.Context(), m)
					require.NoError(b, err)
				}
				if watched {
					arrived.wait(b, b.N)
				}
			})
		}
	}
}

// BenchmarkPublishAtOnce publishes 128 bytes with history, from many goroutines.
func BenchmarkPublishAtOnce(b *testing.B) {
	here := broker(b, server(b).URL(), newPrefix(), keep(1000))
	m := message("kept.a")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := here.Publish(context.Background(), m); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkRead reads a hundred messages behind a position, as a subscriber does that
// comes back.
func BenchmarkRead(b *testing.B) {
	here := broker(b, server(b).URL(), newPrefix(), keep(1000))
	begin := pubsub.Start{Kind: pubsub.StartAfter}
	for i := range 1000 {
		p, err := here.Publish(b.Context(), message("kept.a"))
		require.NoError(b, err)
		if i == 899 {
			begin.Position = p
		}
	}
	readPages(b, here, "kept.a", begin)
}

// BenchmarkReadManyTopics reads a page behind a position where a wildcard matches ten
// thousand topics, each of which has the last message and had one before.
func BenchmarkReadManyTopics(b *testing.B) {
	here := broker(b, server(b).URL(), newPrefix(), keep(1))
	begin := pubsub.Start{Kind: pubsub.StartAfter}
	for i := range 20_000 {
		p, err := here.Publish(b.Context(), message(fmt.Sprint("kept.", i%10_000)))
		require.NoError(b, err)
		if i == 19_899 {
			begin.Position = p
		}
	}
	readPages(b, here, "kept.>", begin)
}

// readPages reads the last hundred messages of a filter, again and again.
func readPages(b *testing.B, from *nats.Broker, filter string, begin pubsub.Start) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		page, err := from.Read(b.Context(), filter, begin, 100)
		require.NoError(b, err)
		require.Len(b, page.Messages, 100)
		require.True(b, page.Complete)
	}
}

// BenchmarkWatch is what a subscription to a topic of its own costs.
func BenchmarkWatch(b *testing.B) {
	here := broker(b, server(b).URL(), newPrefix(), keep(1000))
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			stop, err := here.Watch(fmt.Sprint("live.", n.Add(1)), new(counter))
			if err != nil {
				b.Error(err)
				return
			}
			stop()
		}
	})
}

// BenchmarkGroup has the members of a group at two brokers take messages and acknowledge
// them.
func BenchmarkGroup(b *testing.B) {
	url, prefix := server(b).URL(), newPrefix()
	here, there := broker(b, url, prefix, keep(1_000_000)), broker(b, url, prefix, keep(1_000_000))
	var done atomic.Int64
	for _, at := range []*nats.Broker{here, there} {
		_, err := at.Join("kept.a", "group", pubsub.GroupOptions{Ack: true, MaxPending: 1000}, &counting{done: &done})
		require.NoError(b, err)
	}
	m := message("kept.a")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := here.Publish(context.Background(), m); err != nil {
				b.Error(err)
			}
		}
	})
	eventually(b, func() bool { return done.Load() >= int64(b.N) }, "%d messages", b.N)
}

// counting is a Member that acknowledges.
type counting struct{ done *atomic.Int64 }

func (c *counting) Take(d pubsub.Delivery) {
	d.Done(true)
	c.done.Add(1)
}
