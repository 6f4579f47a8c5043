package pubsub_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

func TestClientPublishesValuesAndReturnsThePosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		var got []proto.Publication[string]
		s.onSend = func(p proto.Publication[[]byte]) (proto.Position[string], error) {
			got = append(got, proto.Publication[string]{ToOne: p.ToOne, Topic: string(p.Topic), Key: string(p.Key), ID: string(p.ID), Time: p.Time})
			if p.ToOne {
				return proto.Position[string]{}, nil
			}
			return proto.Position[string]{Epoch: "e", Offset: uint64(len(got))}, nil
		}
		c := s.client()
		ctx := within(t)
		now := time.Now().UnixNano()
		at, err := c.PublishWith(ctx, "a", map[string]int{"n": 1}, pubsub.WithKey("k"), pubsub.WithMessageID("id"))
		require.NoError(t, err)
		require.Equal(t, pubsub.Position{Epoch: "e", Offset: 1}, at)
		require.NoError(t, c.PublishToOneWith(ctx, "b", []byte("raw")))
		require.NoError(t, c.Publish("c", "text", time.Second))
		require.NoError(t, c.PublishToOne("d", nil, time.Second))
		text, bytes := "pointed at", []byte("bytes")
		require.NoError(t, c.Publish("e", &text, time.Second))
		require.NoError(t, c.Publish("e", &bytes, arpc.TimeForever))
		require.NoError(t, c.Publish("e", context.Canceled, time.Second))
		at, err = c.PublishWith(ctx, "f", "on its way", pubsub.NoAck())
		require.NoError(t, err)
		require.Zero(t, at)
		synctest.Wait()
		require.Equal(t, []string{`a={"n":1}`, "b=raw", "c=text", "d=", "e=pointed at", "e=bytes", "e=context canceled", "f=on its way"}, look(s, &s.sent))
		require.Equal(t, []proto.Publication[string]{
			{Topic: "a", Key: "k", ID: "id", Time: now},
			{ToOne: true, Topic: "b", Time: now},
			{Topic: "c", Time: now},
			{ToOne: true, Topic: "d", Time: now},
		}, got[:4])
		require.Equal(t, uint64(8), c.Statistics().Published)
	})
}

func TestClientPublishingErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.onSend = func(proto.Publication[[]byte]) (proto.Position[string], error) {
			return proto.Position[string]{}, arpc.NewError(arpc.CodeResourceExhausted, "the subscribers are slow")
		}
		c := s.client()
		long := strings.Repeat("x", 300)
		for says, publish := range map[string]func() error{
			`invalid topic, should not be ""`: func() error { return c.Publish("", "x", time.Second) },
			"wildcards are for subscribing":   func() error { return c.Publish("a.*", "x", time.Second) },
			"(WithKey)":                       func() error { return c.PublishToOneWith(within(t), "t", "x", pubsub.WithKey(long)) },
			"(WithMessageID)":                 func() error { return c.PublishToOneWith(within(t), "t", "x", pubsub.WithMessageID(long)) },
			"encode chan int":                 func() error { return c.Publish("t", make(chan int), time.Second) },
			"must be positive":                func() error { return c.PublishToOne("t", "x", 0) },
		} {
			err := publish()
			require.ErrorContains(t, err, says)
			require.True(t, arpc.SafeToRetry(err), says)
		}
		require.Empty(t, look(s, &s.sent))
		err := c.Publish("t", "x", time.Second)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.Zero(t, c.Statistics().Published)
	})
}

// With an id a message is sent again when nobody knows whether it arrived; without,
// that is the caller's to decide.
func TestClientPublishesAgainWhatHasAnID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		var ids []string
		s.onSend = func(p proto.Publication[[]byte]) (proto.Position[string], error) {
			ids = append(ids, string(p.ID))
			if len(ids) == 1 {
				s.peer().Stop() // it has arrived, and the answer has not
			}
			return proto.Position[string]{Epoch: "e", Offset: 1}, nil
		}
		c := s.client()
		at, err := c.PublishWith(within(t), "t", "x", pubsub.WithMessageID("7"))
		require.NoError(t, err)
		require.Equal(t, pubsub.Position{Epoch: "e", Offset: 1}, at)
		require.Equal(t, []string{"7", "7"}, ids)

		ids = nil
		err = c.Publish("t", "x", time.Minute)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.False(t, arpc.SafeToRetry(err))
		require.Equal(t, []string{""}, ids)
	})
}

func TestClientTellsWhoIsPresent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.server.Handler.Handle(proto.Presence, func(ctx *arpc.Context) {
			require.Equal(t, "room.7", string(ctx.Body()))
			ctx.Write(proto.AppendMembers(nil, []proto.Member{{ID: "ann", Info: []byte("hi"), Client: "10.0.0.7", Filter: "room.*"}, {ID: "bob"}}))
		})
		c := s.client()
		who, err := c.Presence(within(t), "room.7")
		require.NoError(t, err)
		require.Equal(t, []pubsub.Subscriber{{ID: "ann", Info: []byte("hi"), Client: "10.0.0.7", Filter: "room.*"}, {ID: "bob"}}, who)
		_, err = c.Presence(within(t), "room.*")
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	})
}

func TestClientWillIsSetOnEachConnectionAndTakenBackInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		require.NoError(t, c.SetWill(within(t), "gone", "me"))
		s.cut()
		require.Equal(t, []string{"gone=me", "gone=me"}, look(s, &s.wills))
		require.NoError(t, c.SetWill(within(t), "", nil))
		s.cut()
		require.Equal(t, []string{"gone=me", "gone=me", ""}, look(s, &s.wills))

		require.NoError(t, c.SetWill(within(t), "gone", "again"))
		c.Stop()
		require.Equal(t, []string{"gone=again", ""}, look(s, &s.wills)[3:])
		other := s.client()
		require.NoError(t, other.SetWill(within(t), "gone", "other"))
		require.NoError(t, other.Shutdown(within(t)))
		require.Equal(t, []string{"gone=other", ""}, look(s, &s.wills)[5:])
		require.ErrorContains(t, other.SetWill(within(t), "a.*", "x"), "wildcards are for subscribing")
	})
}
