package pubsub_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// outboxPair returns a server on TCP, where batches form, and a client of it.
func outboxPair(t *testing.T, opts ...pubsub.Option) (*pubsub.Server, *pubsub.Client) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := pubsub.NewServer(opts...)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	c, err := pubsub.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return s, c
}

// What nobody waits for arrives once and in the order of its publisher, with what is
// acknowledged in its place, and all of it before Shutdown returns.
func TestClientPublishesInBatches(t *testing.T) {
	const publishers, each = 8, 2000
	s, c := outboxPair(t)
	got := make([]int, publishers)
	wrong := make(chan string, 1)
	var all sync.WaitGroup
	all.Add(publishers * each)
	_, err := s.SubscribeWith(t.Context(), "t.*", func(m *pubsub.Topic) {
		var from, n int
		fmt.Sscanf(string(m.Data), "%d %d", &from, &n)
		if n != got[from] {
			select {
			case wrong <- fmt.Sprintf("publisher %d: %d after %d", from, n, got[from]-1):
			default:
			}
		}
		got[from] = n + 1
		all.Done()
	}, pubsub.WithWindow(publishers*each, 64<<20))
	require.NoError(t, err)
	var publishing sync.WaitGroup
	for from := range publishers {
		publishing.Go(func() {
			topic := fmt.Sprint("t.", from%2)
			for n := range each {
				data := fmt.Sprint(from, " ", n)
				if n%97 == 0 {
					data += strings.Repeat(" ", 8<<10) // too long for a batch
				}
				opts := []pubsub.PublishOption{pubsub.NoAck()}
				if n%100 == 50 {
					opts = nil
				}
				if _, err := c.PublishWith(t.Context(), topic, data, opts...); err != nil {
					panic(err)
				}
			}
		})
	}
	publishing.Wait()
	require.NoError(t, c.Shutdown(t.Context()))
	require.Equal(t, uint64(publishers*each), c.Statistics().Published)
	all.Wait()
	require.Empty(t, wrong)
	require.Equal(t, uint64(publishers*each), s.Statistics().Published)
}

// Each message of a batch is checked by itself.
func TestServerChecksEachMessageOfABatch(t *testing.T) {
	s, c := outboxPair(t, pubsub.WithAccess(pubsub.NewRules(pubsub.Allow(pubsub.OpPublish, "open", "*.*"))))
	var got []string
	_, err := s.SubscribeWith(t.Context(), "open", func(m *pubsub.Topic) { got = append(got, string(m.Data)) })
	require.NoError(t, err)
	var batch []byte
	add := func(topic, data string) {
		p := proto.Publication[string]{Topic: topic, Data: []byte(data), Time: 1}
		batch = p.AppendToBatch(batch)
	}
	add("open", "1")
	add("secret", "2")
	add("a.*", "3")
	batch = append(batch, 1, 0, 0, 0, 0xff) // malformed
	add("nobody.listens", "4")
	add("open", "5")
	batch = append(batch, 9, 0, 0, 0) // cut short
	require.NoError(t, c.Notify(proto.Batch, batch, time.Minute))
	require.Eventually(t, func() bool { return s.Statistics().Refused == 4 }, time.Minute, time.Millisecond)
	require.Equal(t, uint64(3), s.Statistics().Published)
	require.NoError(t, s.Shutdown(t.Context()))
	require.Equal(t, []string{"1", "5"}, got)
}

// What was gathered for a connection that is lost is counted.
func TestClientCountsWhatItCouldNotSend(t *testing.T) {
	s, c := outboxPair(t)
	s.Stop()
	require.Eventually(t, func() bool { return c.State() != arpc.StateConnected }, time.Minute, time.Millisecond)
	_, err := c.PublishWith(t.Context(), "t", "x", pubsub.NoAck())
	require.Eventually(t, func() bool { return err != nil || c.Statistics().Unsent == 1 }, time.Minute, time.Millisecond)
	require.Zero(t, c.Statistics().Published)
}
