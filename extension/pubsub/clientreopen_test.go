package pubsub_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

func TestClientMovesToAnotherServerWhenItsOwnGoesAway(t *testing.T) {
	for name, says := range map[string]bool{"it ends its subscriptions": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { moveElsewhere(t, says) })
		})
	}
}

func moveElsewhere(t *testing.T, says bool) {
	first, second := newScript(t), newScript(t)
	first.startsAt("e", 0, true)
	second.startsAt("e", 9, true)
	at := &site{ln: first.ln}
	c, err := pubsub.NewClient(at.dial)
	require.NoError(t, err)
	defer c.Stop()
	var d diary
	_, err = c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
	require.NoError(t, err)
	first.deliver(numbered("t", 1))
	at.set(second.ln)
	hold := make(chan struct{}) // a call that holds the first connection open meanwhile
	c.Handler.Handle("hold", func(*arpc.Context) { <-hold })
	go first.peer().Call("hold", nil, nil, time.Hour)
	synctest.Wait()
	if says {
		first.tell(proto.Noted{Number: 1, Kind: proto.NoteEnded, Code: uint32(arpc.CodeUnavailable), Text: "restart"})
	}
	old := first.peer()
	down := make(chan error, 1)
	go func() { down <- first.server.Shutdown(context.Background()) }()
	time.Sleep(time.Minute)
	synctest.Wait()
	require.Equal(t, fmt.Sprint(proto.StartAfter, "e", 1), starting(second.opening()))
	// The old connection goes on: what still comes there is for nobody.
	require.NoError(t, push(old, proto.Message, new(numbered("t", 99)).Append(nil)))
	second.deliver(numbered("t", 2))
	require.Equal(t, []string{"started true", "1", "interrupted", "started true", "2"}, d.take())
	close(hold)
	require.NoError(t, <-down)
}

// What the server ends is opened again if trying again may mend it.
func TestClientOpensAgainWhatTheServerEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 0, true)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(numbered("t", 5))
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteEnded, Code: uint32(arpc.CodeResourceExhausted), Text: "too much"})
		time.Sleep(time.Second)
		require.Equal(t, []string{"started true", "5", "interrupted", "started true"}, d.take())
		require.Equal(t, fmt.Sprint(proto.StartAfter, "e", 5), starting(s.opening()))

		s.deliver(numbered("t", 6))
		s.tell(proto.Noted{Number: 2, Kind: proto.NoteEnded, Code: uint32(arpc.CodePermissionDenied), Text: "no more"})
		<-sub.Done()
		require.Equal(t, []string{"6", "interrupted", "ended PermissionDenied"}, d.take())
		require.ErrorContains(t, sub.Err(), "no more")
		require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(sub.Err()))
		_, err = c.SubscribeWith(within(t), "t", d.message)
		require.NoError(t, err)
	})
}

func TestClientOpeningAgainBacksOffAndEndsWhatCannotGetBetter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.asked()
		refusal := arpc.NewError(arpc.CodeUnavailable, "the broker is away")
		s.onOpen = func(proto.Opening) (proto.Opened, error) { return proto.Opened{}, refusal }
		s.peer().Stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		tries := len(s.asked())
		require.Greater(t, tries, 5)
		require.Less(t, tries, 60)
		s.note(func() { refusal = arpc.NewError(arpc.CodePermissionDenied, "not any more") })
		<-sub.Done()
		require.Equal(t, []string{"started true", "interrupted", "ended PermissionDenied"}, d.take())
		require.Empty(t, c.Statistics().Subscriptions)
	})
}

// Ten thousand subscriptions come back after a reconnect, some at a time.
func TestClientOpensManySubscriptionsAgainSomeAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 10_000
		s := newScript(t)
		c := s.client()
		for i := range n {
			require.NoError(t, c.Subscribe(fmt.Sprint("topic ", i), nothing, patience))
		}
		s.asked()
		var mu sync.Mutex
		now, most, failures := 0, 0, 0
		h := s.server.Handler
		h.UseStream(func(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc { return next })
		s.onOpen = func(o proto.Opening) (proto.Opened, error) {
			mu.Lock()
			defer mu.Unlock()
			if o.Number%10 == 0 && failures < 500 {
				failures++
				return proto.Opened{}, arpc.NewError(arpc.CodeAborted, "try again")
			}
			return proto.Opened{}, nil
		}
		around := func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			if call.Method != proto.Open {
				return next(ctx, call)
			}
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			defer func() {
				mu.Lock()
				now--
				mu.Unlock()
			}()
			return next(ctx, call)
		}
		c.Handler.UseCall(around)
		s.peer().Stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, s.asked(), n+500)
		require.Equal(t, 500, failures)
		require.LessOrEqual(t, most, 32)
		require.Greater(t, most, 8)
		for _, sub := range c.Statistics().Subscriptions {
			require.True(t, sub.Live)
		}
	})
}

// A client that does not come back ends its subscriptions, with the reason.
func TestClientThatGivesUpEndsItsSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		at := &site{ln: s.ln}
		c, err := pubsub.NewClient(at.dial, pubsub.WithClientOptions(arpc.WithReconnect(time.Second, time.Second, 3)))
		require.NoError(t, err)
		defer c.Stop()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(message("t", "x"))
		synctest.Wait()
		at.set(nil)
		s.peer().Stop()
		<-sub.Done()
		require.Equal(t, []string{"started true", "x", "interrupted", "ended Unavailable"}, d.take())
		require.ErrorContains(t, sub.Err(), "gave up after 3 attempts")
		_, err = c.SubscribeWith(within(t), "t", nothing)
		require.ErrorIs(t, err, arpc.ErrClosed)
	})
}

// A message that this end could not handle, for too much was under way, is no silent
// gap: the subscription begins again behind what was handled.
func TestClientBeginsAgainBehindADroppedMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 0, true)
		hold := make(chan struct{})
		h := arpc.NewHandler()
		h.Handle("hold", func(*arpc.Context) { <-hold })
		c := s.client(pubsub.WithClientHandler(h), pubsub.WithClientOptions(arpc.WithMaxInflight(2)))
		var d diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(numbered("t", 1))
		require.Equal(t, []string{"started true", "1"}, d.take())

		s.server.Handler.Handle("slow", func(ctx *arpc.Context) { time.Sleep(time.Minute); ctx.Write(nil) })
		go c.Call("slow", nil, nil, time.Hour) // so that what is over the limit is dropped, and does not wait
		for range 2 {
			go s.peer().Call("hold", nil, nil, time.Hour)
		}
		time.Sleep(time.Second)
		s.deliver(numbered("t", 2))
		require.Equal(t, []string{"interrupted"}, d.take())
		close(hold)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, fmt.Sprint(proto.StartAfter, "e", 1), starting(s.opening()))
		require.Contains(t, look(s, &s.closed), uint64(1))
		s.deliver(numbered("t", 2), numbered("t", 3))
		require.Equal(t, []string{"started true", "2", "3"}, d.take())
	})
}
