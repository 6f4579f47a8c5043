package pubsub_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// audience connects clients that are subscribed to a topic, and calls got for each
// message that one of them gets.
func audience(t testing.TB, n int, dial arpc.DialerFunc, topic string, got func(*arpc.Context)) []*arpc.Client {
	t.Helper()
	h := arpc.NewHandler()
	h.Handle(proto.Message, got)
	h.Handle(proto.Note, func(*arpc.Context) {})
	o := proto.Opening{Number: 1, Filter: topic, WindowMessages: 1 << 30, WindowBytes: 1 << 30, QueueMessages: 1 << 16, QueueBytes: 1 << 30}
	var all []*arpc.Client
	for range n {
		c, err := arpc.NewClient(dial, arpc.WithHandler(h))
		require.NoError(t, err)
		t.Cleanup(c.Stop)
		require.NoError(t, c.Call(proto.Open, o.Append(nil), nil, time.Minute))
		all = append(all, c)
	}
	return all
}

func TestABroadcastIsEncodedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		var got atomic.Int64
		audience(t, broadcastTo, s.dial, "news", func(ctx *arpc.Context) {
			if d, err := proto.ParseDelivered(ctx.Body()); err == nil && string(d.Data) == "something has happened" {
				got.Add(1)
			}
		})
		for round := range 3 {
			before := s.Statistics().Encoded
			s.mustPublish("news", "something has happened")
			synctest.Wait()
			require.Equal(t, int64(broadcastTo*(round+1)), got.Load())
			require.Equal(t, before+1, s.Statistics().Encoded)
		}
		require.Equal(t, uint64(3*broadcastTo), s.Statistics().Sent)
	})
}
