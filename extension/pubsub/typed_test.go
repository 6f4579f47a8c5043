package pubsub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

type order struct {
	ID int
}

var created = pubsub.NewTopic[order]("orders.created")

func TestTypedTopics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var got []order
		_, err := created.Subscribe(within(t), c, func(v *order, m *pubsub.Topic) {
			require.Equal(t, "orders.created", m.Name)
			got = append(got, *v)
		})
		require.NoError(t, err)
		_, err = created.Publish(within(t), c, &order{ID: 7}, pubsub.WithKey("k"))
		require.NoError(t, err)
		require.NoError(t, created.PublishToOne(within(t), c, nil))
		require.Equal(t, []string{`orders.created={"ID":7}`, `orders.created={"ID":0}`}, look(s, &s.sent))
		s.deliver(message("orders.created", `{"ID":8}`), message("orders.created", "no order"), message("orders.created", ""))
		synctest.Wait()
		require.Equal(t, []order{{8}, {0}}, got)
		require.Equal(t, uint64(1), c.Statistics().Undecodable)
		require.Equal(t, "orders.created", created.Name())
		_, err = created.Subscribe(within(t), c, nil)
		require.ErrorContains(t, err, "the callback is nil")
	})
}

func TestTypedTopicsOfTextTravelRaw(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		chat := pubsub.NewTopic[string]("chat")
		text := "hello"
		_, err := chat.Publish(within(t), c, &text)
		require.NoError(t, err)
		require.Equal(t, []string{"chat=hello"}, look(s, &s.sent))
		time.AfterFunc(time.Second, func() { s.deliver(message("chat", "and back")) })
		for v, err := range chat.SubscribeSeq(within(t), c) {
			require.NoError(t, err)
			require.Equal(t, "and back", *v)
			break
		}
		_, err = chat.Subscribe(within(t), c, func(*string, *pubsub.Topic) {})
		require.NoError(t, err)
		for _, err := range chat.SubscribeSeq(within(t), c) {
			require.ErrorContains(t, err, "subscribed to this filter already")
		}
	})
}

// A group's message that one member cannot read may be one for another member.
func TestTypedTopicsGiveBackWhatTheyCannotDecode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		_, err := created.Subscribe(within(t), c, func(*order, *pubsub.Topic) {}, pubsub.WithGroupAck("g", pubsub.GroupOptions{}))
		require.NoError(t, err)
		s.deliver(
			proto.Delivered[string]{Number: 1, Tag: 1, Topic: "orders.created", Data: []byte("no order")},
			proto.Delivered[string]{Number: 1, Tag: 2, Topic: "orders.created", Data: []byte("{}")},
		)
		synctest.Wait()
		require.Equal(t, []proto.Settled{{Number: 1, Tag: 1}, {Number: 1, Tag: 2, Acknowledged: true}}, look(s, &s.settled))
	})
}
