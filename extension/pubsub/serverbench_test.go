package pubsub_test

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// serveLoopback is a server over loopback.
func serveLoopback(b testing.TB, opts ...pubsub.Option) (*pubsub.Server, arpc.DialerFunc) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	s := pubsub.NewServer(opts...)
	go s.Serve(ln)
	b.Cleanup(s.Stop)
	return s, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
}

// BenchmarkFanOut publishes to subscribers with a TCP connection each, in this process,
// and waits for every so many messages until all have them. One operation is one
// message; publish-ns is what Publish takes of it for each subscriber.
func BenchmarkFanOut(b *testing.B) {
	for _, subscribers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(subscribers), func(b *testing.B) {
			const ahead = 64
			s, dial := serveLoopback(b)
			var got sync.WaitGroup
			audience(b, subscribers, dial, "news", func(*arpc.Context) { got.Done() })
			data := make([]byte, 128)
			var publishing time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += ahead {
				some := min(ahead, b.N-n)
				got.Add(subscribers * some)
				start := time.Now()
				for range some {
					require.NoError(b, s.Publish("news", data))
				}
				publishing += time.Since(start)
				got.Wait()
			}
			b.StopTimer()
			deliveries := float64(b.N * subscribers)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
			b.ReportMetric(float64(publishing.Nanoseconds())/deliveries, "publish-ns/delivery")
			require.Equal(b, uint64(b.N), s.Statistics().Encoded)
			require.Zero(b, s.Statistics().Dropped)
		})
	}
}

// BenchmarkPublishToNobody publishes without subscribers: by the server itself, and by a
// client without acknowledgement.
func BenchmarkPublishToNobody(b *testing.B) {
	data := make([]byte, 128)
	b.Run("server", func(b *testing.B) {
		s := pubsub.NewServer()
		defer s.Stop()
		b.ReportAllocs()
		for b.Loop() {
			s.Publish("news", data)
		}
	})
	b.Run("client", func(b *testing.B) {
		s, dial := serveLoopback(b)
		c, err := arpc.NewClient(dial)
		require.NoError(b, err)
		defer c.Stop()
		m := proto.Publication[string]{Topic: "news", Time: 1, Data: data}
		body := m.Append(nil)
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, c.Notify(proto.Send, body, time.Minute))
		}
		require.Eventually(b, func() bool { return s.Statistics().Published >= uint64(b.N) }, time.Minute, time.Millisecond)
	})
}

// BenchmarkStuckSubscriber publishes at a steady rate to 999 subscribers over TCP, in
// turn to a topic that is theirs alone and to one that another one has subscribed to
// too, who takes nothing, and reports how long after its publishing they get a message.
func BenchmarkStuckSubscriber(b *testing.B) {
	const subscribers, every = 999, 20 * time.Millisecond
	s, dial := serveLoopback(b)
	topics := []string{"alone", "beside"}
	took := make([]latencies, len(topics))
	var got atomic.Int64
	clients := audience(b, subscribers, dial, topics[0], func(ctx *arpc.Context) {
		d, err := proto.ParseDelivered(ctx.Body())
		if err != nil {
			b.Error(err)
		}
		took[slices.Index(topics, string(d.Topic))].add(time.Since(time.Unix(0, d.Time)))
		got.Add(1)
	})
	o := proto.Opening{Number: 2, Filter: topics[1], WindowMessages: 1 << 30, WindowBytes: 1 << 30}
	for _, c := range clients {
		require.NoError(b, c.Call(proto.Open, o.Append(nil), nil, time.Minute))
	}
	stuck, err := arpc.NewClient(dial)
	require.NoError(b, err)
	defer stuck.Stop()
	o.WindowMessages, o.QueueMessages = 1, 10
	require.NoError(b, stuck.Call(proto.Open, o.Append(nil), nil, time.Minute))

	data := make([]byte, 128)
	tick := time.NewTicker(every)
	defer tick.Stop()
	b.ResetTimer()
	for n := range b.N {
		<-tick.C
		require.NoError(b, s.Publish(topics[n%2], data))
	}
	require.Eventually(b, func() bool { return got.Load() == int64(b.N*subscribers) }, time.Minute, time.Millisecond)
	b.StopTimer()
	for i, topic := range topics {
		b.ReportMetric(float64(took[i].percentile(50).Microseconds()), topic+"-p50-µs")
		b.ReportMetric(float64(took[i].percentile(99).Microseconds()), topic+"-p99-µs")
	}
	dropped := int(s.Statistics().Dropped)
	b.ReportMetric(float64(dropped), "dropped")
	require.Equal(b, max(0, b.N/2-1-10), dropped, "all but what the window and the queue hold")
}

type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *latencies) percentile(p int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return 0
	}
	slices.Sort(l.all)
	return l.all[(len(l.all)-1)*p/100]
}
