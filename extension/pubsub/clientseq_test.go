package pubsub_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

func TestClientSequence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		s.opened = func(peer *arpc.Client, o proto.Opening) {
			push(peer, proto.Note, (&proto.Noted{Number: o.Number, Kind: proto.NoteStarted, Recovered: true}).Append(nil))
			for i := range 5 {
				m := proto.Delivered[string]{Topic: "t", Number: o.Number, Tag: uint64(i + 1), Data: fmt.Append(nil, i)}
				push(peer, proto.Message, m.Append(nil))
			}
		}
		var d diary
		for m, err := range c.SubscribeSeq(within(t), "t", pubsub.OnEvent(d.event), pubsub.WithGroupAck("g", pubsub.GroupOptions{}), pubsub.WithWindow(5, 1<<20)) {
			require.NoError(t, err)
			d.message(m)
			if string(m.Data) == "2" {
				break
			}
		}
		require.Equal(t, []string{"started true", "0", "1", "2"}, d.take())
		require.Len(t, look(s, &s.settled), 3)
		require.Len(t, look(s, &s.credits), 1)
		require.Equal(t, []uint64{1}, look(s, &s.closed))
		require.Empty(t, c.Statistics().Subscriptions)
	})
}

func TestClientSequenceEndsWithTheReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		last := func(ctx context.Context, meanwhile func()) (err error) {
			time.AfterFunc(time.Minute, meanwhile)
			for _, err = range c.SubscribeSeq(ctx, "t") {
				if err != nil {
					break
				}
			}
			synctest.Wait()
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		require.ErrorIs(t, last(ctx, cancel), context.Canceled)
		require.ErrorContains(t, last(context.Background(), func() {
			s.tell(proto.Noted{Number: 2, Kind: proto.NoteEnded, Code: uint32(arpc.CodePermissionDenied), Text: "not yours"})
		}), "not yours")
		require.ErrorIs(t, last(context.Background(), func() { c.Unsubscribe("t", time.Second) }), arpc.ErrClosed)
		require.ErrorIs(t, last(context.Background(), c.Stop), arpc.ErrClosed)
		require.ErrorIs(t, last(context.Background(), func() {}), arpc.ErrClosed)
	})
}

func TestClientSequenceWhoseBodyPanicsGivesItsMessageBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		s.opened = func(peer *arpc.Client, o proto.Opening) {
			push(peer, proto.Note, (&proto.Noted{Number: o.Number, Kind: proto.NoteStarted}).Append(nil))
			push(peer, proto.Message, (&proto.Delivered[string]{Topic: "t", Number: o.Number, Tag: 1}).Append(nil))
		}
		require.Panics(t, func() {
			for range c.SubscribeSeq(within(t), "t", pubsub.WithGroupAck("g", pubsub.GroupOptions{})) {
				panic("boom")
			}
		})
		synctest.Wait()
		require.Equal(t, []proto.Settled{{Number: 1, Tag: 1}}, look(s, &s.settled))
		require.Equal(t, []uint64{1}, look(s, &s.closed))
	})
}
