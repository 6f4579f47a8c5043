package pubsub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

func TestClientGivesBackHalfOfTheWindowAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		_, err := c.SubscribeWith(within(t), "t", nothing, pubsub.WithWindow(10, 1000))
		require.NoError(t, err)
		m := message("t", "12345678")
		size := uint64(len(m.Append(nil)))
		for range 4 {
			s.deliver(m)
		}
		synctest.Wait()
		require.Empty(t, look(s, &s.credits))
		s.deliver(m)
		synctest.Wait()
		require.Equal(t, []proto.Consumed{{Number: 1, Messages: 5, Bytes: 5 * size}}, look(s, &s.credits))
		big := message("t", strings.Repeat("x", 600)) // more than half of the bytes
		s.deliver(big)
		synctest.Wait()
		require.Equal(t, proto.Consumed{Number: 1, Messages: 1, Bytes: uint64(len(big.Append(nil)))}, look(s, &s.credits)[1])
	})
}

func TestClientGivesBackHalfOfWhatTheServerHasMadeOfTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.onOpen = func(proto.Opening) (proto.Opened, error) { return proto.Opened{WindowMessages: 2}, nil }
		c := s.client()
		_, err := c.SubscribeWith(within(t), "t", nothing)
		require.NoError(t, err)
		s.deliver(message("t", "x"))
		synctest.Wait()
		require.Len(t, look(s, &s.credits), 1)
	})
}

// A callback that is slow fills its own window, and nobody else notices.
func TestClientSlowCallbackHoldsUpNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		_, err := c.SubscribeWith(within(t), "slow", func(*pubsub.Topic) { time.Sleep(time.Hour) }, pubsub.WithWindow(4, 1<<20))
		require.NoError(t, err)
		require.NoError(t, c.Subscribe("quick", d.message, time.Second))
		for i := range 4 {
			s.deliver(message("slow", "x"), message("quick", fmt.Sprint(i)))
		}
		require.Equal(t, []string{"0", "1", "2", "3"}, d.take())
		require.NoError(t, c.Publish("t", "answered meanwhile", time.Second))
		for _, sub := range c.Statistics().Subscriptions {
			if sub.Filter == "slow" {
				require.Equal(t, 3, sub.Waiting)
			}
		}
		require.Empty(t, look(s, &s.credits))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Equal(t, []proto.Consumed{{Number: 1, Messages: 2, Bytes: 2 * uint64(len(new(message("slow", "x")).Append(nil)))}}, look(s, &s.credits))
		time.Sleep(2 * time.Hour)
	})
}

// After a reconnect the new window is what is not taken by messages of before, and
// these are given back to the new subscription.
func TestClientKeepsItsWindowOverAReconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		done := make(chan struct{})
		_, err := c.SubscribeWith(within(t), "t", func(*pubsub.Topic) { <-done }, pubsub.WithWindow(4, 1000))
		require.NoError(t, err)
		m := message("t", "x")
		size := len(m.Append(nil))
		s.deliver(m, m, m)
		synctest.Wait()
		s.cut()
		o := s.opening()
		require.Equal(t, []int{1, 1000 - 3*size}, []int{o.WindowMessages, o.WindowBytes})
		s.deliver(m)
		synctest.Wait()
		s.cut()
		require.Equal(t, 0, s.opening().WindowMessages)
		done <- struct{}{}
		done <- struct{}{}
		synctest.Wait()
		require.Equal(t, []proto.Consumed{{Number: 3, Messages: 2, Bytes: 2 * uint64(size)}}, look(s, &s.credits))
		close(done)
	})
}

// Credit that could not be sent while there was no connection is in the next window.
func TestClientLosesNoCreditWithAConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		at := &site{ln: s.ln}
		c, err := pubsub.NewClient(at.dial)
		require.NoError(t, err)
		defer c.Stop()
		step := make(chan struct{})
		_, err = c.SubscribeWith(within(t), "t", func(*pubsub.Topic) { <-step }, pubsub.WithWindow(4, 1000))
		require.NoError(t, err)
		m := message("t", "x")
		s.deliver(m, m, m, m)
		synctest.Wait()
		at.set(nil)
		s.peer().Stop()
		time.Sleep(time.Second)
		for range 3 {
			step <- struct{}{}
		}
		synctest.Wait()
		require.Empty(t, look(s, &s.credits))
		at.set(s.ln)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 3, s.opening().WindowMessages)
		close(step)
		synctest.Wait()
		require.Empty(t, look(s, &s.credits)) // one of four is less than half
	})
}

// A server that sends more than the window does not fill memory: the oldest messages
// make room, and the callback is told.
func TestClientThatIsOverrunDropsTheOldest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		step := make(chan struct{})
		sub, err := c.SubscribeWith(within(t), "t", func(m *pubsub.Topic) {
			d.message(m)
			<-step
		}, pubsub.WithWindow(3, 1000), pubsub.OnEvent(d.event))
		require.NoError(t, err)
		for i := range 10 {
			s.deliver(message("t", fmt.Sprint(i)))
			synctest.Wait()
		}
		for range 1000 {
			s.tell(proto.Noted{Number: 1, Kind: proto.NoteGap, Count: 1})
		}
		synctest.Wait()
		require.LessOrEqual(t, sub.Statistics().Waiting, 100)
		close(step)
		lines := d.take()
		require.Equal(t, []string{"started true", "0", "gap 7", "8", "9", "gap 1"}, lines[:6])
		require.Equal(t, uint64(1007), sub.Statistics().Missed)
	})
}

func TestClientGroupMessagesAreAcknowledgedBehindTheCallback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		done := make(chan struct{})
		var attempts []int
		_, err := c.SubscribeWith(within(t), "jobs", func(m *pubsub.Topic) {
			attempts = append(attempts, m.Attempt)
			<-done
		}, pubsub.WithGroupAck("g", pubsub.GroupOptions{}))
		require.NoError(t, err)
		s.deliver(
			proto.Delivered[string]{Number: 1, Topic: "jobs", Tag: 7, Offset: 9},
			proto.Delivered[string]{Number: 1, Topic: "jobs", Tag: 8, Offset: 3, Attempt: 2}, // again
		)
		synctest.Wait()
		require.Empty(t, look(s, &s.settled)) // not before the work
		done <- struct{}{}
		synctest.Wait()
		require.Equal(t, []proto.Settled{{Number: 1, Acknowledged: true, Tag: 7}}, look(s, &s.settled))
		done <- struct{}{}
		synctest.Wait()
		require.Len(t, look(s, &s.settled), 2)
		require.Equal(t, []int{1, 2}, attempts)
		require.Equal(t, uint64(2), c.Statistics().Acknowledged)
	})
}

func TestClientGroupMessageOfACallbackThatPanicsIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		_, err := c.SubscribeWith(within(t), "jobs", func(m *pubsub.Topic) { panic("boom") }, pubsub.WithGroupAck("g", pubsub.GroupOptions{}))
		require.NoError(t, err)
		s.deliver(proto.Delivered[string]{Number: 1, Topic: "jobs", Tag: 7})
		synctest.Wait()
		require.Equal(t, []proto.Settled{{Number: 1, Tag: 7}}, look(s, &s.settled))
		require.Equal(t, uint64(1), c.Statistics().GivenBack)
	})
}

func TestClientGroupMessagesCanBeSettledLaterAndOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var got []*pubsub.Topic
		_, err := c.SubscribeWith(within(t), "jobs", func(m *pubsub.Topic) { got = append(got, m) },
			pubsub.WithGroupAck("g", pubsub.GroupOptions{}), pubsub.WithManualAck())
		require.NoError(t, err)
		for tag := range uint64(3) {
			s.deliver(proto.Delivered[string]{Number: 1, Topic: "jobs", Tag: tag + 1})
		}
		synctest.Wait()
		require.Empty(t, look(s, &s.settled))
		require.NoError(t, got[1].Ack())
		require.NoError(t, got[0].Nak())
		require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(got[0].Ack()))
		synctest.Wait()
		require.Equal(t, []proto.Settled{{Number: 1, Acknowledged: true, Tag: 2}, {Number: 1, Tag: 1}}, look(s, &s.settled))
		s.cut()
		require.Equal(t, arpc.CodeAborted, arpc.CodeOf(got[2].Ack())) // it has gone to somebody else
		require.Len(t, look(s, &s.settled), 2)
	})
}

// One that leaves its group from its own callback has that message acknowledged first.
func TestClientGroupMemberThatLeavesInItsCallbackAcknowledgesFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		subs := make(chan *pubsub.Subscription, 1)
		sub, err := c.SubscribeWith(within(t), "jobs", func(*pubsub.Topic) {
			sub := <-subs
			require.NoError(t, sub.Unsubscribe(t.Context()))
			require.Empty(t, look(s, &s.closed))
		}, pubsub.WithGroupAck("g", pubsub.GroupOptions{}))
		require.NoError(t, err)
		subs <- sub
		s.deliver(proto.Delivered[string]{Number: 1, Topic: "jobs", Tag: 1}, proto.Delivered[string]{Number: 1, Topic: "jobs", Tag: 2})
		synctest.Wait()
		require.Equal(t, []proto.Settled{{Number: 1, Acknowledged: true, Tag: 1}}, look(s, &s.settled))
		require.Equal(t, []uint64{1}, look(s, &s.closed))
	})
}
