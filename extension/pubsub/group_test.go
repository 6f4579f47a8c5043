package pubsub_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// join opens a subscription 1 to "kept.jobs" as a member of a group.
func (p *peer) join(o proto.Opening) proto.Opened {
	p.t.Helper()
	o.Number, o.Filter, o.Group = 1, "kept.jobs", "workers"
	opened, err := p.open(o)
	require.NoError(p.t, err)
	require.Equal(p.t, []string{"started"}, p.take())
	return opened
}

func TestEachMessageGoesToOneMemberOfAGroup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		members, plain := []*peer{s.peer(), s.peer(), s.peer()}, s.peer()
		for _, p := range members {
			p.join(proto.Opening{})
		}
		plain.subscribe(1, "kept.jobs")
		got := make(map[string]int)
		for i := range 300 {
			s.mustPublish("kept.jobs", fmt.Sprint(i))
			if i%10 == 0 {
				for _, p := range members {
					n := p.take()
					p.consume(1, uint64(len(n)))
					for _, text := range n {
						got[text]++
					}
				}
			}
		}
		for _, p := range members {
			n := p.take()
			require.NotEmpty(t, n)
			for _, text := range n {
				got[text]++
			}
		}
		require.Len(t, got, 300)
		for text, times := range got {
			require.Equal(t, 1, times, text)
		}
		require.Len(t, plain.take(), 300)
		require.Equal(t, 3, s.Statistics().GroupMembers)
	})
}

// A member has no more in hand than it may, and gets more when it has consumed some.
func TestAMemberOfAGroupHasSoManyMessagesAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		opened := p.join(proto.Opening{MaxPending: 3})
		require.Equal(t, 3, opened.WindowMessages)
		for i := range 10 {
			s.mustPublish("kept.jobs", fmt.Sprint(i))
		}
		require.Len(t, p.take(), 3)
		p.consume(1, 2)
		require.Len(t, p.take(), 2)
		other := s.peer() // the rest goes to whoever has room
		other.mustOpen(proto.Opening{Number: 1, Filter: "kept.jobs", Group: "workers", MaxPending: 3})
		require.Equal(t, []string{"started", "kept.jobs 5 for 1", "kept.jobs 6 for 1", "kept.jobs 7 for 1"}, other.take())
		p.consume(1, 3)
		require.Equal(t, []string{"kept.jobs 8 for 1", "kept.jobs 9 for 1"}, p.take())
	})
}

func TestAcknowledgedMessagesAreDeliveredUntilTheyAre(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		one, other := s.peer(), s.peer()
		one.join(proto.Opening{Ack: true, AckWait: 10 * time.Second, MaxPending: 2})
		s.publishNumbers("kept.jobs", 1, 3)
		require.Equal(t, []string{"kept.jobs 1 for 1 at 1 tag 1", "kept.jobs 2 for 1 at 2 tag 2"}, one.take())
		one.settle(1, 1, true)
		one.consume(1, 1)
		require.Equal(t, []string{"kept.jobs 3 for 1 at 3 tag 3"}, one.take())

		// One is given back, the other is not settled in time.
		other.join(proto.Opening{Ack: true, AckWait: 10 * time.Second, MaxPending: 2})
		one.settle(1, 2, false)
		synctest.Wait()
		again := append(one.take(), other.take()...)
		require.Len(t, again, 1)
		require.Contains(t, again[0], "kept.jobs 2 for 1 at 2")
		require.Contains(t, again[0], "attempt 2")

		// Whose connection dies gives all back.
		one.Stop()
		time.Sleep(time.Second)
		got := append(again, other.take()...)
		require.Len(t, got, 2+btoi(len(again) == 1 && again[0][len(again[0])-1] != '2'))
		require.Zero(t, s.Statistics().Dropped)
		other.settle(1, 1, true)
		other.settle(1, 2, true)
		other.settle(1, 77, true) // which is nothing
		time.Sleep(time.Minute)
		require.Empty(t, other.take())
		require.Equal(t, arpc.StateConnected, other.State())
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The work of a member that takes it and never settles goes to others, and what it has
// in hand stays bounded.
func TestAMemberThatSettlesNothingDoesNotHoard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		p := s.peer()
		p.join(proto.Opening{Ack: true, AckWait: time.Second, MaxPending: 4})
		s.publishNumbers("kept.jobs", 1, 100)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		subs := s.Subscriptions()
		require.LessOrEqual(t, subs[0].Pending, 4)
		require.LessOrEqual(t, subs[0].Queued, 4)
		require.Len(t, p.take(), 4, "the window is full")

		good := s.peer()
		good.mustOpen(proto.Opening{Number: 1, Filter: "kept.jobs", Group: "workers", Ack: true, AckWait: time.Second, MaxPending: 4})
		done := make(map[string]bool)
		for range 1000 {
			for _, text := range good.take() {
				if text == "started" {
					continue
				}
				var n, offset int
				var tag uint64
				_, err := fmt.Sscanf(text, "kept.jobs %d for 1 at %d tag %d", &n, &offset, &tag)
				require.NoError(t, err)
				done[fmt.Sprint(n)] = true
				good.settle(1, tag, true)
				good.consume(1, 1)
			}
			time.Sleep(500 * time.Millisecond)
		}
		require.Len(t, done, 100)
	})
}

// What the last member had is there for the next one.
func TestAGroupWithAcknowledgementOutlivesItsMembers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		p := s.peer()
		p.join(proto.Opening{Ack: true})
		s.publishNumbers("kept.jobs", 1, 2)
		require.Len(t, p.take(), 2)
		p.settle(1, 1, true)
		p.close(1)
		s.publishNumbers("kept.jobs", 3, 3)
		q := s.peer()
		q.mustOpen(proto.Opening{Number: 1, Filter: "kept.jobs", Group: "workers", Ack: true})
		require.ElementsMatch(t, []string{"started", "kept.jobs 2 for 1 at 2 tag 1 attempt 2", "kept.jobs 3 for 1 at 3 tag 2"}, q.take())
	})
}

func TestMembersOfAGroupHaveTheSameOptions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p, q := s.peer(), s.peer()
		p.join(proto.Opening{MaxPending: 5})
		_, err := q.open(proto.Opening{Number: 1, Filter: "kept.jobs", Group: "workers", MaxPending: 6})
		require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err))
		require.Equal(t, 1, s.Statistics().Subscriptions)
	})
}

// What is too large for a member is not what its group stands still for.
func TestAMemberThatCannotGetAMessageGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer(arpc.WithMaxBodyLen(100))
		p.join(proto.Opening{MaxPending: 1})
		s.mustPublish("kept.jobs", string(make([]byte, 200)), "2", "3")
		require.Equal(t, []string{"gap 1", "kept.jobs 2 for 1"}, p.take())
		p.consume(1, 1)
		require.Equal(t, []string{"kept.jobs 3 for 1"}, p.take())
	})
}
