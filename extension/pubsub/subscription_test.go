package pubsub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// faultsTo are those of what the server sends to a peer.
func (s *served) faultsTo(p *peer) arpctest.Faults {
	s.t.Helper()
	for _, c := range s.Server.Server.Clients() {
		if c.Conn().RemoteAddr() == p.nc.LocalAddr() {
			return arpctest.FaultsOf(c.Conn())
		}
	}
	require.FailNow(s.t, "the peer is not connected")
	return arpctest.Faults{}
}

// numbers returns "topic from" to "topic to".
func numbers(topic string, from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf("%s %d", topic, i))
	}
	return all
}

func (s *served) publishNumbers(topic string, from, to int) {
	s.t.Helper()
	for i := from; i <= to; i++ {
		s.mustPublish(topic, fmt.Sprint(i))
	}
}

// The window counts bytes too, and may be overdrawn by one message.
func TestAWindowCountsBytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "a", WindowMessages: 100, WindowBytes: 50})
		require.Len(t, p.take(), 1)
		large := strings.Repeat("x", 1000)
		s.mustPublish("a", large, "small")
		require.Equal(t, []string{"a " + large}, p.take())
		give := func(bytes uint64) {
			c := proto.Consumed{Number: 1, Bytes: bytes}
			require.NoError(t, p.Notify(proto.Credit, c.Append(nil), time.Minute))
		}
		give(900)
		require.Empty(t, p.take())
		give(200)
		require.Equal(t, []string{"a small"}, p.take())
	})
}

func TestAWindowOfNothingWaitsForCredit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "a", WindowBytes: wide})
		s.publishNumbers("a", 1, 3)
		require.Equal(t, []string{"started"}, p.take())
		p.consume(1, 3)
		require.Equal(t, numbers("a", 1, 3), p.take())
	})
}

func TestTheServerLimitsWindowsAndQueues(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithMaxWindow(2, 1000), pubsub.WithMaxQueue(3, 1000))
		p := s.peer()
		opened, err := p.open(proto.Opening{Number: 1, Filter: "a", QueueMessages: 100, WindowMessages: 50, WindowBytes: wide})
		require.NoError(t, err)
		require.Equal(t, []int{2, 1000}, []int{opened.WindowMessages, opened.WindowBytes})
		require.Equal(t, []string{"started"}, p.take())
		s.publishNumbers("a", 1, 10)
		p.consume(1, 1<<40)
		require.Equal(t, []string{"a 1", "a 2", "gap 5", "a 8", "a 9"}, p.take(), "2 at a time, and 3 waited")
	})
}

// Many subscriptions of one connection do not have it hold more than so much.
func TestAConnectionHasALimitForAllItsQueues(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithMaxQueued(10_000))
		p := s.peer()
		for i := range 20 {
			p.mustOpen(proto.Opening{Number: uint64(i + 1), Filter: "*", Group: fmt.Sprint(i), WindowBytes: wide})
			p.mustOpen(proto.Opening{Number: uint64(i + 100), Filter: fmt.Sprint("*.", i), WindowBytes: wide})
		}
		text := strings.Repeat("x", 1000)
		for i := range 20 {
			s.mustPublish("a", text)
			s.mustPublish(fmt.Sprint("a.", i), text, text)
		}
		stats := s.Statistics()
		require.LessOrEqual(t, stats.QueuedBytes, 10_000)
		require.Equal(t, 9, stats.Queued)
		require.Equal(t, times(40, "started"), p.take(), "nothing is told as long as the windows are closed")
		require.Positive(t, stats.Dropped)
		for i := range 20 {
			p.close(uint64(i + 1))
			p.close(uint64(i + 100))
		}
		p.mustOpen(proto.Opening{Number: 1000, Filter: "a", WindowBytes: wide})
		s.mustPublish("a", text, text)
		require.Equal(t, 2, s.Statistics().Queued, "there is room again")
	})
}

// slowed opens a subscription with a window and a queue of some messages.
func (p *peer) slowed(policy, window, queue int) {
	p.t.Helper()
	p.mustOpen(proto.Opening{Number: 1, Filter: "a", WindowMessages: window, WindowBytes: wide, Policy: policy, QueueMessages: queue, QueueBytes: wide})
	require.Len(p.t, p.take(), 1)
}

func TestDropOldestTellsWhereMessagesAreMissing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.slowed(proto.PolicyDefault, 2, 3)
		s.publishNumbers("a", 1, 10)
		require.Equal(t, numbers("a", 1, 2), p.take())
		p.consume(1, 1)
		require.Equal(t, []string{"gap 5", "a 8"}, p.take())
		s.publishNumbers("a", 11, 12)
		p.consume(1, 1)
		require.Equal(t, []string{"gap 1", "a 10"}, p.take())
		p.consume(1, 10)
		require.Equal(t, numbers("a", 11, 12), p.take())
		require.Equal(t, uint64(6), s.Statistics().Dropped)
	})
}

func TestDropNewestTellsWhereMessagesAreMissing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.slowed(proto.PolicyDropNewest, 2, 3)
		s.publishNumbers("a", 1, 10)
		p.consume(1, 2)
		require.Equal(t, numbers("a", 1, 4), p.take())
		s.publishNumbers("a", 11, 11)
		p.consume(1, 1)
		require.Equal(t, []string{"a 5"}, p.take())
		p.consume(1, 1)
		require.Equal(t, []string{"gap 5", "a 11"}, p.take())
	})
}

// Nothing comes behind the gap, and it is told all the same.
func TestAGapAtTheEndIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.slowed(proto.PolicyDropNewest, 1, 2)
		s.publishNumbers("a", 1, 10)
		p.consume(1, 2)
		require.Equal(t, numbers("a", 1, 3), p.take())
		p.consume(1, 1)
		require.Equal(t, []string{"gap 7"}, p.take())
		s.publishNumbers("a", 11, 11)
		require.Equal(t, []string{"a 11"}, p.take())
	})
}

func TestKeepLatestKeepsTheLatestOfEachKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "prices.*", WindowBytes: wide, Policy: proto.PolicyKeepLatest, QueueMessages: 3, QueueBytes: wide})
		require.Len(t, p.take(), 1)
		for i := range 5 {
			s.mustPublish("prices.eur", fmt.Sprint(i))
			for _, key := range []string{"call", "put"} {
				_, err := s.PublishWith(context.Background(), "prices.usd", fmt.Sprint(key, i), pubsub.WithKey(key))
				require.NoError(t, err)
			}
		}
		p.consume(1, 10)
		require.Equal(t, []string{"prices.eur 4 for prices.*", "prices.usd call4 for prices.*", "prices.usd put4 for prices.*"}, p.take())
		stats := s.Statistics()
		require.Equal(t, []uint64{0, 12}, []uint64{stats.Dropped, stats.Superseded})

		p.close(1) // with more keys than there is room for, it is DropOldest
		p.mustOpen(proto.Opening{Number: 2, Filter: "prices.*", WindowBytes: wide, Policy: proto.PolicyKeepLatest, QueueMessages: 2, QueueBytes: wide})
		s.mustPublish("prices.a", "1")
		s.mustPublish("prices.b", "1", "2")
		s.mustPublish("prices.c", "1")
		p.consume(2, 10)
		require.Equal(t, []string{"started", "gap 1", "prices.b 2 for prices.*", "prices.c 1 for prices.*"}, p.take())
	})
}

func TestDisconnectEndsTheConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		var slow []pubsub.SlowConsumer
		s.HandleSlow(func(c pubsub.SlowConsumer) { slow = append(slow, c) })
		p, other := s.peer(), s.peer()
		p.slowed(proto.PolicyDisconnect, 1, 2)
		other.subscribe(1, "a")
		s.publishNumbers("a", 1, 3)
		synctest.Wait()
		require.Equal(t, arpc.StateConnected, p.State())
		s.publishNumbers("a", 4, 10)
		synctest.Wait()
		require.Equal(t, arpc.StateClosed, p.State())
		require.Equal(t, numbers("a", 1, 10), other.take())
		require.Len(t, slow, 1)
		require.Equal(t, pubsub.Disconnect, slow[0].Policy)
		require.Equal(t, 1, s.Statistics().Subscriptions)
	})
}

// Each gap says how many messages are missing, and the counter says the same.
func TestTheDropCounterEqualsTheMissingMessages(t *testing.T) {
	for _, policy := range []int{proto.PolicyDropOldest, proto.PolicyDropNewest, proto.PolicyKeepLatest} {
		t.Run(pubsub.Policy(policy).String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const all = 5000
				s := serveMemory(t)
				p := s.peer()
				p.slowed(policy, 10, 100)
				for i := range all {
					s.mustPublish("a", fmt.Sprint(i))
					if i%7 == 0 {
						p.consume(1, 3)
					}
				}
				synctest.Wait()
				p.consume(1, wide)
				received, missed, last := 0, 0, -1
				for _, text := range p.take() {
					var n int
					if _, err := fmt.Sscanf(text, "gap %d", &n); err == nil {
						missed += n
						continue
					}
					_, err := fmt.Sscanf(text, "a %d", &n)
					require.NoError(t, err)
					require.Greater(t, n, last, "in order")
					if policy != proto.PolicyKeepLatest {
						require.Equal(t, received+missed, n, "the gap is in its place")
					}
					received, last = received+1, n
				}
				stats := s.Statistics()
				require.Equal(t, all, received+int(stats.Dropped+stats.Superseded))
				require.Equal(t, missed, int(stats.Dropped))
				require.Equal(t, received, int(stats.Sent))
				require.Positive(t, stats.Dropped+stats.Superseded)
			})
		})
	}
}

func TestSlowConsumersAreTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		var slow []pubsub.SlowConsumer
		s.HandleSlow(func(c pubsub.SlowConsumer) {
			slow = append(slow, c)
			s.mustPublish("slow", c.Filter) // which must not lock up
		})
		p, watcher := s.peer(), s.peer()
		watcher.subscribe(1, "slow")
		p.slowed(proto.PolicyDropOldest, 2, 3)
		s.publishNumbers("a", 1, 20)
		synctest.Wait()
		require.Len(t, slow, 1, "once until its queue was empty")
		require.Equal(t, "a", slow[0].Filter)
		require.Equal(t, p.nc.LocalAddr(), slow[0].Client.Conn().RemoteAddr())
		require.Equal(t, []string{"slow a"}, watcher.take())
		subs := s.Subscriptions()
		require.Equal(t, "a", subs[0].Filter, "the longest queue first")
		require.True(t, subs[0].Slow)
		require.Equal(t, []int{3, 15}, []int{subs[0].Queued, int(subs[0].Dropped)})

		p.consume(1, 100)
		synctest.Wait()
		require.Zero(t, s.Statistics().Slow)
		s.publishNumbers("a", 1, 200)
		synctest.Wait()
		require.Len(t, slow, 2)
		require.Equal(t, uint64(2), s.Statistics().SlowTimes)
	})
}

// A connection that takes nothing makes its subscriptions wait, each in its queue.
func TestAFullConnectionIsPumped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithServerOptions(arpc.WithSendQueue(20, 1<<20), arpc.WithWriteTimeout(0)))
		p, old, other := s.peer(), s.oldPeer(), s.peer()
		p.subscribe(1, "a")
		p.subscribe(2, "a.*")
		require.NoError(t, old.old(proto.Subscribe, "a", ""))
		other.subscribe(1, "a")
		s.faultsTo(p).Stall()
		s.faultsTo(old).Stall()
		large := strings.Repeat("x", 8<<10)
		for i := range 100 {
			s.mustPublish("a", fmt.Sprint(large, i))
			s.mustPublish("a.b", fmt.Sprint(large, i))
			require.Len(t, other.take(), 1)
		}
		require.Positive(t, s.Statistics().Queued)
		require.Equal(t, 3, s.Statistics().Subscriptions-s.Statistics().Slow-1, "nothing was dropped")
		s.faultsTo(p).Resume()
		s.faultsTo(old).Resume()
		var exact, wild []string
		for _, text := range p.take() {
			if strings.HasPrefix(text, "a.b") {
				wild = append(wild, text)
			} else {
				exact = append(exact, text)
			}
		}
		olds := old.take()
		require.Len(t, exact, 100)
		require.Len(t, wild, 100)
		require.Len(t, olds, 100)
		for i := range 100 {
			require.Equal(t, fmt.Sprint("a ", large, i), exact[i])
			require.Equal(t, fmt.Sprint("a.b ", large, i, " for a.*"), wild[i])
			require.Equal(t, fmt.Sprint("old a ", large, i), olds[i])
		}
		require.Zero(t, s.Statistics().Queued)
	})
}

// An old subscriber has no window; what its connection does not take waits, and is
// dropped beyond the bounds of the queue.
func TestAnOldSubscriberThatTakesNothingLosesMessages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithDefaultQueue(10, 1<<30), pubsub.WithServerOptions(arpc.WithSendQueue(5, 1<<30), arpc.WithWriteTimeout(0)))
		old := s.oldPeer()
		require.NoError(t, old.old(proto.Subscribe, "a", ""))
		s.faultsTo(old).Stall()
		large := strings.Repeat("x", 64<<10)
		for i := range 100 {
			s.mustPublish("a", fmt.Sprint(large, i))
			synctest.Wait()
		}
		dropped := int(s.Statistics().Dropped)
		require.Greater(t, dropped, 70)
		s.faultsTo(old).Resume()
		got := old.take()
		require.Len(t, got, 100-dropped)
		require.Equal(t, fmt.Sprint("old a ", large, 99), got[len(got)-1])
	})
}

// It makes no difference whether it waits for the window or for the connection.
func TestAMessageTooLargeForAPeerThatIsSlowIsAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithServerOptions(arpc.WithSendQueue(4, 1<<20), arpc.WithWriteTimeout(0)))
		p, q := s.peer(arpc.WithMaxBodyLen(20_000)), s.peer(arpc.WithMaxBodyLen(20_000))
		p.slowed(proto.PolicyDropOldest, 1, 100)
		q.subscribe(1, "a")
		s.faultsTo(q).Stall()
		large := strings.Repeat("x", 10_000)
		for range 20 {
			s.mustPublish("a", large)
		}
		s.mustPublish("a", strings.Repeat("x", 30_000), "last")
		s.faultsTo(q).Resume()
		p.consume(1, 100)
		for _, p := range []*peer{p, q} {
			got := p.take()
			require.Len(t, got, 22)
			require.Equal(t, []string{"gap 1", "a last"}, got[20:])
		}
		require.Equal(t, uint64(2), s.Statistics().Dropped)
	})
}

// What is too large for a peer, which said so in its hello, is a gap for it alone.
func TestAMessageTooLargeForAPeerIsAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		small, large := s.peer(arpc.WithMaxBodyLen(100)), s.peer()
		small.subscribe(1, "a")
		large.subscribe(1, "a")
		text := strings.Repeat("x", 200)
		s.mustPublish("a", "1", text, "2")
		require.Equal(t, []string{"a 1", "gap 1", "a 2"}, small.take())
		require.Equal(t, []string{"a 1", "a " + text, "a 2"}, large.take())
		require.Equal(t, uint64(1), s.Statistics().Dropped)
	})
}
