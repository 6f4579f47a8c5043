package pubsub_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// serveTCP returns a server on a free port, and what dials it.
func serveTCP(tb testing.TB, opts ...pubsub.Option) (*pubsub.Server, func() (net.Conn, error)) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	s := pubsub.NewServer(opts...)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(ln)
	}()
	tb.Cleanup(func() {
		s.Stop()
		<-served
	})
	return s, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
}

func benchClient(b *testing.B, dial func() (net.Conn, error)) *pubsub.Client {
	c, err := pubsub.NewClient(dial)
	require.NoError(b, err)
	b.Cleanup(c.Stop)
	return c
}

// BenchmarkDeliver publishes to subscribers, each with a connection of its own, and
// waits for the last of them.
func BenchmarkDeliver(b *testing.B) {
	for _, subscribers := range []int{1, 100} {
		b.Run(fmt.Sprint(subscribers), func(b *testing.B) {
			s, dial := serveTCP(b)
			var all sync.WaitGroup
			all.Add(subscribers * b.N)
			for range subscribers {
				_, err := benchClient(b, dial).SubscribeWith(context.Background(), "t", func(*pubsub.Topic) { all.Done() }, pubsub.WithPolicy(pubsub.Block))
				require.NoError(b, err)
			}
			data := make([]byte, 128)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := s.PublishWith(context.Background(), "t", data); err != nil {
					b.Fatal(err)
				}
			}
			all.Wait()
		})
	}
}

// BenchmarkPublish publishes from many goroutines of one client to nobody.
func BenchmarkPublish(b *testing.B) {
	_, dial := serveTCP(b)
	c := benchClient(b, dial)
	data := make([]byte, 128)
	b.ReportAllocs()
	b.SetParallelism(50)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.PublishWith(context.Background(), "t", data); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
