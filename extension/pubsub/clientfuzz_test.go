package pubsub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// FuzzClient has a server send arbitrary messages and notes to a client: nothing
// panics, the client's memory for them is bounded, and it works afterwards. Of each
// pair of bytes in plan the first says what is sent and the second how long it is.
func FuzzClient(f *testing.F) {
	m := (&proto.Delivered[string]{Topic: "t", Offset: 1, Data: []byte("x")}).Append(nil)
	n := (&proto.Noted{Number: 1, Kind: proto.NoteStarted, Recovered: true, Epoch: "e"}).Append(nil)
	e := (&proto.Noted{Number: 1, Kind: proto.NoteEnded, Code: 14}).Append(nil)
	f.Add([]byte{1, byte(len(n)), 0, byte(len(m)), 1, byte(len(e))}, append(append(append([]byte(nil), n...), m...), e...))
	f.Add([]byte{2, 11}, (&proto.Topic[string]{Name: "t"}).Append(nil))
	f.Fuzz(func(t *testing.T, plan, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(t)
			c := s.client()
			events := 0
			_, err := c.SubscribeWith(within(t), "t", nothing, pubsub.WithWindow(4, 100), pubsub.OnEvent(func(pubsub.Event) { events++ }))
			require.NoError(t, err)
			for len(plan) >= 2 && len(data) > 0 {
				length := min(int(plan[1]), len(data))
				method := []string{proto.Message, proto.Note, proto.Publish}[plan[0]%3]
				push(s.peer(), method, data[:length])
				plan, data = plan[2:], data[length:]
				synctest.Wait()
			}
			time.Sleep(time.Minute)
			for _, sub := range c.Statistics().Subscriptions {
				require.LessOrEqual(t, sub.Waiting, 4*2+64)
			}
			s.onOpen, s.onNote = nil, nil
			require.NoError(t, c.Subscribe("after", nothing, patience))
		})
	})
}
