package pubsub_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

func TestAMessageGoesToAllWhoseFiltersMatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		a, b, old := s.peer(), s.peer(), s.oldPeer()
		a.subscribe(1, "orders.created")
		b.subscribe(1, "orders.*")
		b.subscribe(2, "orders.created")
		require.NoError(t, old.old(proto.Subscribe, "orders.created", ""))

		s.mustPublish("orders.created", "one")
		require.NoError(t, a.publish("orders.created", "two"))
		require.NoError(t, old.old(proto.Publish, "orders.created", "three"))
		s.mustPublish("orders.deleted", "four")
		require.Equal(t, []string{"orders.created one", "orders.created two", "orders.created three"}, a.take())
		require.ElementsMatch(t, []string{
			"orders.created one", "orders.created two", "orders.created three",
			"orders.created one for orders.*", "orders.created two for orders.*", "orders.created three for orders.*",
			"orders.deleted four for orders.*",
		}, b.take())
		require.Equal(t, []string{"old orders.created one", "old orders.created two", "old orders.created three"}, old.take())

		a.close(1)
		b.close(2)
		require.NoError(t, old.old(proto.Unsubscribe, "orders.created", ""))
		s.mustPublish("orders.created", "five")
		require.Empty(t, a.take())
		require.Equal(t, []string{"orders.created five for orders.*"}, b.take())
		require.Empty(t, old.take())
	})
}

func TestTheServerPublishesWithoutServing(t *testing.T) {
	s := pubsub.NewServer()
	defer s.Stop()
	require.NoError(t, s.Publish("a", "b"))
	require.NoError(t, s.PublishToOne("a", "b"))
	_, err := s.PublishWith(context.Background(), "a.*", "b")
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	s.Stop()
	require.ErrorIs(t, s.Publish("a", "b"), arpc.ErrServerClosed)
}

func TestOneOfAllGetsWhatIsPublishedToOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		peers := []*peer{s.peer(), s.peer(), s.peer()}
		for _, p := range peers {
			p.subscribe(7, "work")
		}
		for range 9 {
			s.mustOne("work", "do")
		}
		for _, p := range peers {
			require.Equal(t, []string{"work do for 7", "work do for 7", "work do for 7"}, p.take(), "in turn")
		}
	})
}

func (s *served) mustOne(topic, data string) {
	s.t.Helper()
	require.NoError(s.t, s.PublishToOne(topic, data))
}

// Whoever has no room in its window is passed by.
func TestPublishToOneGoesToWhoHasRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		busy, free := s.peer(), s.oldPeer()
		busy.mustOpen(proto.Opening{Number: 1, Filter: "work", WindowMessages: 1, WindowBytes: wide})
		require.NoError(t, free.old(proto.Subscribe, "work", ""))
		require.Equal(t, []string{"started"}, busy.take())
		for range 5 {
			s.mustOne("work", "do")
		}
		require.Equal(t, []string{"work do for 1"}, busy.take())
		require.Len(t, free.take(), 4)
	})
}

func TestRefusalsHaveACode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithMaxSubscriptions(2), pubsub.WithMaxTopicLength(20), pubsub.WithMaxMemberInfo(3), pubsub.WithMaxWill(3))
		p := s.peer()
		p.subscribe(1, "a")
		for name, c := range map[string]struct {
			opening proto.Opening
			code    arpc.Code
			text    string
		}{
			"filter":  {proto.Opening{Number: 2, Filter: "a.>.b"}, arpc.CodeInvalidArgument, "wildcard"},
			"length":  {proto.Opening{Number: 2, Filter: "aaaaaaaaaaaaaaaaaaaaaa"}, arpc.CodeInvalidArgument, "WithMaxTopicLength"},
			"again":   {proto.Opening{Number: 2, Filter: "a"}, arpc.CodeAlreadyExists, "already"},
			"number":  {proto.Opening{Number: 1, Filter: "b"}, arpc.CodeAlreadyExists, "subscription 1"},
			"policy":  {proto.Opening{Number: 2, Filter: "b", Policy: 99}, arpc.CodeInvalidArgument, "policy 99"},
			"start":   {proto.Opening{Number: 2, Filter: "b", Start: 99}, arpc.CodeInvalidArgument, "start 99"},
			"ack":     {proto.Opening{Number: 2, Filter: "b", Ack: true}, arpc.CodeInvalidArgument, "queue group"},
			"group":   {proto.Opening{Number: 2, Filter: "b", Group: "g", Start: proto.StartAll}, arpc.CodeInvalidArgument, "start"},
			"info":    {proto.Opening{Number: 2, Filter: "b", MemberID: "m", MemberInfo: []byte("info")}, arpc.CodeResourceExhausted, "WithMaxMemberInfo"},
			"nothing": {proto.Opening{Number: 2}, arpc.CodeInvalidArgument, "filter"},
		} {
			_, err := p.open(c.opening)
			require.Equal(t, c.code, arpc.CodeOf(err), "%s: %v", name, err)
			require.ErrorContains(t, err, c.text, name)
		}
		p.subscribe(2, "b")
		_, err := p.open(proto.Opening{Number: 3, Filter: "c"})
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.ErrorContains(t, err, "WithMaxSubscriptions")
		p.close(2)
		p.close(2) // which is no error
		p.subscribe(3, "c")

		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(p.publish("a.*", "")))
		require.ErrorContains(t, p.publish("aaaaaaaaaaaaaaaaaaaaaa", ""), "WithMaxTopicLength")
		will := proto.Publication[string]{Topic: "a", Data: []byte("will")}
		require.ErrorContains(t, p.Call(proto.Will, will.Append(nil), nil, time.Minute), "WithMaxWill")
		for _, method := range []string{proto.Open, proto.Close, proto.Send, proto.Credit, proto.Settle, proto.Presence} {
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(p.Call(method, "", nil, time.Minute)), method)
		}
		require.Positive(t, s.Statistics().Refused)
	})
}

func TestOptionsThatMakeNoSenseAreReported(t *testing.T) {
	for name, opt := range map[string]pubsub.Option{
		"WithMaxSubscriptions": pubsub.WithMaxSubscriptions(0),
		"WithMaxTopicLength":   pubsub.WithMaxTopicLength(2000),
		"WithDefaultQueue":     pubsub.WithDefaultQueue(0, 1),
		"WithMaxQueue":         pubsub.WithMaxQueue(1, -1),
		"WithMaxWindow":        pubsub.WithMaxWindow(0, 0),
		"WithMaxQueued":        pubsub.WithMaxQueued(0),
		"WithMaxMemberInfo":    pubsub.WithMaxMemberInfo(5000),
		"WithMaxWill":          pubsub.WithMaxWill(0),
		"WithMaxPresent":       pubsub.WithMaxPresent(0),
		"WithAuthTimeout":      pubsub.WithAuthTimeout(0),
		"WithBlockTimeout":     pubsub.WithBlockTimeout(-1),
		"WithPresenceTimeout":  pubsub.WithPresenceTimeout(0),
		"WithBroker":           pubsub.WithBroker(nil),
		"WithToken":            pubsub.WithToken(nil),
	} {
		s := pubsub.NewServer(opt)
		err := s.Run("127.0.0.1:0")
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), name)
		require.ErrorContains(t, err, name)
		require.Equal(t, err, s.RunTLS("127.0.0.1:0", "", ""))
		require.Equal(t, err, s.Serve(arpctest.ListenMemory()))
		require.Equal(t, err, s.ServeTLS(arpctest.ListenMemory(), nil))
		s.Stop()
	}
}

// A buffer may be used again when Publish has returned.
func TestServerPublishesWhatABufferHeld(t *testing.T) {
	b := remembering(10)
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(b))
		buf := bytes.NewBufferString("first")
		require.NoError(t, s.Publish("kept.a", buf))
		buf.Reset()
		buf.WriteString("again")
		require.NoError(t, s.Publish("kept.a", buf))
		page, err := b.Read(t.Context(), "kept.a", pubsub.Start{Kind: pubsub.StartAll}, 10)
		require.NoError(t, err)
		require.Equal(t, "first", string(page.Messages[0].Data))
	})
}
