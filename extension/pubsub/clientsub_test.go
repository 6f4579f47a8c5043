package pubsub_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

func TestClientMessagesArriveInOrderWithWhatTheyCarry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.onNote = func(proto.Opening) *proto.Noted {
			return &proto.Noted{Kind: proto.NoteStarted, Recovered: true, Epoch: "e", Offset: 4}
		}
		c := s.client()
		var got []*pubsub.Topic
		sub, err := c.SubscribeWith(within(t), "orders.*", func(m *pubsub.Topic) { got = append(got, m) })
		require.NoError(t, err)
		s.deliver(
			proto.Delivered[string]{Filter: "orders.*", Offset: 7, Key: "k", Topic: "orders.a", Time: 1_500_000_000, Data: []byte(`{"id":1}`)},
			proto.Delivered[string]{Filter: "orders.*", Topic: "orders.b"},
		)
		synctest.Wait()
		require.Len(t, got, 2)
		require.Equal(t, []any{"orders.a", `{"id":1}`, uint64(7), "k", 0, time.Unix(1, 500_000_000)},
			[]any{got[0].Name, string(got[0].Data), got[0].Offset, got[0].Key, got[0].Attempt, got[0].Time()})
		require.Equal(t, pubsub.Position{Epoch: "e", Offset: 7}, got[0].Position())
		require.Equal(t, pubsub.Position{Epoch: "e", Offset: 7}, sub.Position())
		require.Zero(t, got[1].Position())
		var order struct{ ID int }
		require.NoError(t, got[0].Bind(&order))
		require.Equal(t, 1, order.ID)
		require.ErrorIs(t, got[0].Ack(), got[1].Nak())
		require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(got[0].Ack()))
		require.Equal(t, "orders.*", sub.Filter())
		require.Empty(t, sub.Group())
	})
}

func TestClientAsksForWhatTheOptionsSay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		since := time.Unix(0, 1234)
		_, err := c.SubscribeWith(within(t), "a.>", nothing,
			pubsub.WithWindow(10, 1000), pubsub.WithPolicy(pubsub.KeepLatest), pubsub.WithQueue(20, 2000),
			pubsub.StartAtTime(since), pubsub.WithPresence(), pubsub.WithMember("me", []byte("info")))
		require.NoError(t, err)
		require.Equal(t, proto.Opening{
			Number: 1, Filter: "a.>", WindowMessages: 10, WindowBytes: 1000, Policy: proto.PolicyKeepLatest,
			QueueMessages: 20, QueueBytes: 2000, Start: proto.StartSince, Time: 1234,
			Events: true, MemberID: "me", MemberInfo: []byte("info"),
		}, s.opening())
		_, err = c.SubscribeWith(within(t), "a.>", nothing, pubsub.WithGroupAck("g", pubsub.GroupOptions{AckWait: time.Second, MaxPending: 3}))
		require.NoError(t, err)
		require.Equal(t, proto.Opening{
			Number: 2, Filter: "a.>", Group: "g", Ack: true, AckWait: time.Second, MaxPending: 3,
			WindowMessages: 1024, WindowBytes: 1 << 20,
		}, s.opening())
		_, err = c.SubscribeWith(within(t), "b", nothing, pubsub.StartAt(pubsub.Position{Epoch: "e", Offset: 9}))
		require.NoError(t, err)
		require.Equal(t, proto.Opening{
			Number: 3, Filter: "b", WindowMessages: 1024, WindowBytes: 1 << 20, Start: proto.StartAfter, Epoch: "e", Offset: 9,
		}, s.opening())
	})
}

func TestClientRefusesWhatMakesNoSense(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		long := strings.Repeat("x", 5000)
		cases := map[string]struct {
			filter string
			fn     func(*pubsub.Topic)
			opts   []pubsub.SubscribeOption
			says   string
		}{
			"no callback":  {"t", nil, nil, "the callback is nil"},
			"no filter":    {"", nothing, nil, `invalid topic, should not be ""`},
			"wildcard":     {"a.>.b", nothing, nil, "should be the last token"},
			"group":        {"t", nothing, asking(pubsub.WithGroup(long)), "group of 5000 bytes is longer than the limit of 256 (WithGroup)"},
			"ack":          {"t", nothing, asking(pubsub.WithManualAck()), "a group needs a name"},
			"window":       {"t", nothing, asking(pubsub.WithWindow(0, 1)), "a window of 0 messages and 1 bytes has no room (WithWindow)"},
			"queue":        {"t", nothing, asking(pubsub.WithQueue(-1, 1)), "(WithQueue)"},
			"policy":       {"t", nothing, asking(pubsub.WithPolicy(77)), "there is no policy 77 (WithPolicy)"},
			"member":       {"t", nothing, asking(pubsub.WithMember(long, nil)), "member's id of 5000 bytes"},
			"info":         {"t", nothing, asking(pubsub.WithMember("", []byte(long))), "member's info of 5000 bytes is longer than the limit of 4096 (WithMember)"},
			"start":        {"t", nothing, asking(pubsub.WithStart(pubsub.Start{Kind: 9})), "no start of kind 9"},
			"group's past": {"t", nothing, asking(pubsub.WithGroup("g"), pubsub.StartAtTime(time.Now())), "a group begins with new messages"},
		}
		for name, k := range cases {
			_, err := c.SubscribeWith(within(t), k.filter, k.fn, k.opts...)
			require.ErrorContains(t, err, k.says, name)
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), name)
			require.True(t, arpc.SafeToRetry(err), name)
		}
		require.ErrorContains(t, c.Subscribe("t", nil, time.Second), "the callback is nil")
		require.ErrorContains(t, c.Subscribe("t", nothing, 0), "the timeout must be positive")
		require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(c.Unsubscribe("t", time.Second)))
		require.Empty(t, s.asked())
		require.Empty(t, c.Statistics().Subscriptions)
	})
}

func asking(opts ...pubsub.SubscribeOption) []pubsub.SubscribeOption { return opts }

func TestClientHasOneSubscriptionForEachFilterAndGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var first, second diary
		require.NoError(t, c.Subscribe("t", first.message, time.Second))
		_, err := c.SubscribeWith(within(t), "t", nothing)
		require.Equal(t, arpc.CodeAlreadyExists, arpc.CodeOf(err))
		_, err = c.SubscribeWith(within(t), "t", nothing, pubsub.WithGroup("g"))
		require.NoError(t, err)
		s.deliver(message("t", "one"))
		require.Equal(t, []string{"one"}, first.take())
		require.NoError(t, c.Subscribe("t", second.message, time.Second)) // takes the place of the callback
		s.deliver(message("t", "two"))
		require.Equal(t, []string{"two"}, second.take())
		require.Empty(t, first.take())
		require.Len(t, s.asked(), 2)
		require.NoError(t, c.Unsubscribe("t", time.Second))
		require.Equal(t, []uint64{1}, look(s, &s.closed))
		_, err = c.SubscribeWith(within(t), "t", nothing)
		require.NoError(t, err)
	})
}

func TestClientSubscriptionsThatAreRefusedSayWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.onOpen = func(proto.Opening) (proto.Opened, error) {
			return proto.Opened{}, arpc.NewError(arpc.CodePermissionDenied, "not yours")
		}
		c := s.client()
		sub, err := c.SubscribeWith(within(t), "t", nothing)
		require.Nil(t, sub)
		require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
		require.ErrorContains(t, c.Subscribe("t", nothing, time.Second), "not yours")
		require.Empty(t, c.Statistics().Subscriptions)
		require.Empty(t, look(s, &s.closed))
	})
}

func TestClientSubscribingThatIsGivenUpIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.onOpen = func(proto.Opening) (proto.Opened, error) {
			time.Sleep(time.Minute)
			return proto.Opened{}, nil
		}
		c := s.client()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.SubscribeWith(ctx, "t", nothing)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, []uint64{1}, look(s, &s.closed))
		s.onOpen = nil
		require.NoError(t, c.Subscribe("t", nothing, time.Second))
	})
}

// A callback may use the client.
func TestClientCallbacksSubscribeUnsubscribeAndPublish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var inner diary
		done := make(chan error, 8)
		require.NoError(t, c.Subscribe("outer", func(m *pubsub.Topic) {
			done <- c.Subscribe("inner", inner.message, time.Second)
			done <- c.Publish("inner", "from the callback", time.Second)
			done <- c.Unsubscribe("other", time.Second)
			done <- c.Unsubscribe("outer", time.Second)
		}, time.Second))
		require.NoError(t, c.Subscribe("other", nothing, time.Second))
		s.deliver(message("outer", "x"), message("outer", "y"), message("other", "z"))
		for range 4 {
			require.NoError(t, <-done)
		}
		s.deliver(message("inner", "hello"), message("outer", "not again"))
		require.Equal(t, []string{"hello"}, inner.take())
		require.Empty(t, done) // y was dropped, since the callback has unsubscribed
		require.Equal(t, []string{"inner=from the callback"}, look(s, &s.sent))
	})
}

func TestClientUnsubscribeWaitsForTheCallbackThatRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var calls atomic.Int32
		var running atomic.Bool
		sub, err := c.SubscribeWith(within(t), "t", func(*pubsub.Topic) {
			calls.Add(1)
			running.Store(true)
			time.Sleep(time.Minute)
			running.Store(false)
		})
		require.NoError(t, err)
		s.deliver(message("t", "a"), message("t", "b"), message("t", "c"))
		synctest.Wait()
		require.True(t, running.Load())
		require.NoError(t, sub.Unsubscribe(context.Background()))
		require.False(t, running.Load())
		require.NoError(t, sub.Unsubscribe(context.Background())) // a second time does nothing
		<-sub.Done()
		require.ErrorIs(t, sub.Err(), arpc.ErrClosed)
		time.Sleep(time.Hour)
		require.Equal(t, int32(1), calls.Load())
		require.Equal(t, []uint64{1}, look(s, &s.closed))
	})
}

func TestClientUnsubscribeGivesUpWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		sub, err := c.SubscribeWith(within(t), "t", func(*pubsub.Topic) { time.Sleep(time.Hour) })
		require.NoError(t, err)
		s.deliver(message("t", "a"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, sub.Unsubscribe(ctx), context.DeadlineExceeded)
		synctest.Wait()
		require.Equal(t, []uint64{1}, look(s, &s.closed)) // the server is told all the same
		time.Sleep(time.Hour)
	})
}

func TestClientPanicsOfCallbacksEndNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		var started atomic.Bool
		_, err := c.SubscribeWith(within(t), "t", func(m *pubsub.Topic) {
			switch string(m.Data) {
			case "panic":
				panic("boom")
			case "exit":
				runtime.Goexit()
			}
			d.message(m)
		}, pubsub.OnEvent(func(pubsub.Event) {
			started.Store(true)
			panic("bang")
		}), pubsub.WithWindow(2, 1<<20))
		require.NoError(t, err)
		for _, text := range []string{"one", "panic", "two", "exit", "three"} {
			s.deliver(message("t", text))
			synctest.Wait()
		}
		require.Equal(t, []string{"one", "two", "three"}, d.take())
		require.True(t, started.Load())
		require.Equal(t, uint64(3), c.Statistics().Panics)
		require.Len(t, look(s, &s.credits), 5) // they count as consumed
	})
}

// Subscriptions without messages have no goroutines.
func TestClientIdleSubscriptionsCostNoGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		const n = 100
		var all sync.WaitGroup
		all.Add(n)
		for i := range n {
			require.NoError(t, c.Subscribe(fmt.Sprint(i), func(*pubsub.Topic) { all.Done() }, time.Second))
		}
		for i := range n {
			s.deliver(message(fmt.Sprint(i), "x"))
		}
		all.Wait()
		synctest.Wait()
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		require.Contains(t, string(stacks), t.Name()) // there are some
		require.NotContains(t, string(stacks), "pubsub.workOff")
	})
}

func TestClientOnPublishTakesThePlaceOfCallbacks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var own, all diary
		require.NoError(t, c.Subscribe("t", own.message, time.Second))
		c.OnPublish(all.message)
		s.deliver(message("t", "one"))
		require.Equal(t, []string{"one"}, all.take())
		c.OnPublish(nil)
		s.deliver(message("t", "two"))
		require.Equal(t, []string{"two"}, own.take())
		require.Empty(t, all.take())
	})
}

// What is for subscriptions that are over, or never were, is counted and nothing else.
func TestClientLateAndSenselessMessagesAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		require.NoError(t, c.Subscribe("t", func(*pubsub.Topic) { t.Error("called") }, time.Second))
		synctest.Wait()
		require.NoError(t, c.Unsubscribe("t", time.Second))
		s.deliver(message("t", "x"), proto.Delivered[string]{Number: 99, Topic: "t"})
		s.tell(proto.Noted{Number: 99, Kind: proto.NoteGap})
		s.tell(proto.Noted{Filter: "t", Kind: proto.NoteLeft})
		for _, method := range []string{proto.Message, proto.Note, proto.Publish} {
			require.NoError(t, push(s.peer(), method, []byte{0xff}))
		}
		synctest.Wait()
		st := c.Statistics()
		require.Equal(t, []uint64{4, 3}, []uint64{st.Late, st.Malformed})
	})
}
