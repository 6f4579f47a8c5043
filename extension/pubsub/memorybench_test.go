package pubsub_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
)

func benchmarkBroker(b *testing.B) *pubsub.MemoryBroker {
	return newMemoryBroker(b, pubsub.WithHistory("kept.>", pubsub.History{Messages: 1000}), pubsub.WithHistory("aged.>", pubsub.History{Age: time.Minute, Messages: 1000}))
}

// BenchmarkMemoryPublish is the time of one Publish, with watchers that do nothing.
func BenchmarkMemoryPublish(b *testing.B) {
	for _, topic := range []string{"live.topic", "kept.topic", "aged.topic"} {
		for _, watchers := range []int{0, 1, 1000} {
			b.Run(fmt.Sprintf("%s/watchers=%d", topic, watchers), func(b *testing.B) {
				broker := benchmarkBroker(b)
				for range watchers {
					memoryWatch(b, broker, topic, func(*pubsub.Message) {})
				}
				m := &pubsub.Message{Topic: topic, Data: make([]byte, 100), Time: time.Now()}
				b.ReportAllocs()
				for b.Loop() {
					broker.Publish(b.Context(), m)
				}
			})
		}
	}
}

// BenchmarkMemoryPublishParallel is that of publishers on all cores, to a topic each.
func BenchmarkMemoryPublishParallel(b *testing.B) {
	for _, kind := range []string{"live", "kept"} {
		b.Run(kind, func(b *testing.B) {
			broker := benchmarkBroker(b)
			memoryWatch(b, broker, kind+".*", func(*pubsub.Message) {})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				m := &pubsub.Message{Topic: fmt.Sprintf("%s.%p", kind, pb), Data: make([]byte, 100), Time: time.Now()}
				for pb.Next() {
					broker.Publish(b.Context(), m)
				}
			})
		})
	}
}

// BenchmarkMemoryPublishID is that of messages with an ID that is new.
func BenchmarkMemoryPublishID(b *testing.B) {
	broker := benchmarkBroker(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		broker.Publish(b.Context(), &pubsub.Message{Topic: "live.topic", ID: fmt.Sprint(i), Time: time.Now()})
	}
}

// BenchmarkMemoryGroup is the time from Publish to Done of one message in a queue
// group of three.
func BenchmarkMemoryGroup(b *testing.B) {
	for _, ack := range []bool{false, true} {
		b.Run(fmt.Sprintf("ack=%v", ack), func(b *testing.B) {
			broker := benchmarkBroker(b)
			for range 3 {
				if _, err := broker.Join("kept.*", "group", pubsub.GroupOptions{Ack: ack}, memoryMemberFunc(func(d pubsub.Delivery) { d.Done(true) })); err != nil {
					b.Fatal(err)
				}
			}
			m := &pubsub.Message{Topic: "kept.topic", Data: make([]byte, 100), Time: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				broker.Publish(b.Context(), m)
			}
		})
	}
}

type memoryMemberFunc func(d pubsub.Delivery)

func (fn memoryMemberFunc) Take(d pubsub.Delivery) { fn(d) }

// BenchmarkMemoryRecover is the time to read the 100 messages that were published
// last, of 100,000 in as many topics as said, as each of many subscribers does after a
// cut.
func BenchmarkMemoryRecover(b *testing.B) {
	for _, topics := range []int{1, 100, 50_000} {
		for _, filter := range []string{"kept.*", "kept.0"} {
			b.Run(fmt.Sprintf("topics=%d/%s", topics, filter), func(b *testing.B) {
				broker := newMemoryBroker(b, pubsub.WithHistory("kept.>", pubsub.History{Messages: 100_000 / topics}))
				var from pubsub.Start
				for i := range 200_000 {
					if i == 200_000-100 {
						from = memoryHead(b, broker)
					}
					broker.Publish(b.Context(), &pubsub.Message{Topic: fmt.Sprintf("kept.%d", i%topics)})
				}
				b.ReportAllocs()
				for b.Loop() {
					broker.Read(b.Context(), filter, from, 100)
				}
			})
		}
	}
}

// BenchmarkMemoryPerMessage is the memory that a kept message of 100 bytes takes
// beside its data, and the time to keep it.
func BenchmarkMemoryPerMessage(b *testing.B) {
	for _, topics := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			const messages, size = 200_000, 100
			names := make([]string, topics)
			for i := range names {
				names[i] = fmt.Sprintf("kept.%d", i)
			}
			var bytes uint64
			for b.Loop() {
				broker := newMemoryBroker(b, pubsub.WithHistory("kept.>", pubsub.History{Messages: messages / topics}))
				before := heap()
				for i := range 3 * messages {
					broker.Publish(b.Context(), &pubsub.Message{Topic: names[i%topics], Data: make([]byte, size), Time: time.Now()})
				}
				bytes += heap() - before
				runtime.KeepAlive(broker)
				broker.Close()
			}
			b.ReportMetric(float64(bytes)/float64(b.N)/messages-112, "B/message") // 112: size class of 100
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(3*messages), "ns/message")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
