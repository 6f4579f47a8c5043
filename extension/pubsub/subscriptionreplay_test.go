package pubsub_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// remembering is a broker that keeps so many messages of each topic below "kept".
func remembering(messages int) *pubsub.MemoryBroker {
	return pubsub.NewMemoryBroker(pubsub.WithHistory("kept.>", pubsub.History{Messages: messages}))
}

// at returns "topic n at n" for offsets that are the numbers.
func at(topic string, from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf("%s %d at %d", topic, i, i))
	}
	return all
}

// replayed is at for messages to the subscription 1 alone.
func replayed(topic string, from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf("%s %d for 1 at %d", topic, i, i))
	}
	return all
}

func with(first string, rest ...[]string) []string {
	all := []string{first}
	for _, r := range rest {
		all = append(all, r...)
	}
	return all
}

func TestASubscriptionBeginsWhereItIsTo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		s.publishNumbers("kept.a", 1, 300)
		epoch := ""
		open := func(o proto.Opening) []string {
			t.Helper()
			p := s.peer()
			o.Number, o.Filter = 1, "kept.a"
			opened, err := p.open(o)
			require.NoError(t, err)
			epoch = opened.Epoch
			return p.take()
		}
		require.Equal(t, []string{"started at 300"}, open(proto.Opening{}))
		require.Equal(t, with("started", replayed("kept.a", 1, 300)), open(proto.Opening{Start: proto.StartAll}))
		require.Equal(t, with("started at 290", replayed("kept.a", 291, 300)), open(proto.Opening{Start: proto.StartAfter, Epoch: epoch, Offset: 290}))
		require.Equal(t, with("started at 300"), open(proto.Opening{Start: proto.StartAfter, Epoch: epoch, Offset: 300}))
		require.Equal(t, with("started at 299", replayed("kept.a", 300, 300)), open(proto.Opening{Start: proto.StartLast}))
		time.Sleep(time.Minute)
		since := time.Now().UnixNano()
		require.Equal(t, with("started at 300"), open(proto.Opening{Start: proto.StartSince, Time: since}))
		s.publishNumbers("kept.a", 301, 302)
		require.Equal(t, with("started at 300", replayed("kept.a", 301, 302)), open(proto.Opening{Start: proto.StartSince, Time: since}))
		require.Equal(t, uint64(6), s.Statistics().Recovered)
	})
}

func TestWhatCannotBeRecoveredIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(5)))
		p := s.peer()
		opened, err := p.open(proto.Opening{Number: 1, Filter: "kept.a"})
		require.NoError(t, err)
		s.publishNumbers("kept.a", 1, 10)
		require.Equal(t, with("started", at("kept.a", 1, 10)), p.take())
		again := func(number uint64, o proto.Opening) []string {
			t.Helper()
			p := s.peer()
			o.Number, o.Start = number, proto.StartAfter
			p.mustOpen(o)
			return p.take()
		}
		require.Equal(t, with("started at 5", replayed("kept.a", 6, 10)), again(1, proto.Opening{Filter: "kept.a", Epoch: opened.Epoch, Offset: 5}))
		require.Equal(t, with("started anew at 5", replayed("kept.a", 6, 10)), again(1, proto.Opening{Filter: "kept.a", Epoch: opened.Epoch, Offset: 4}), "history is too short")
		require.Equal(t, with("started anew at 5", replayed("kept.a", 6, 10)), again(1, proto.Opening{Filter: "kept.a", Epoch: "other", Offset: 7}), "of another epoch")
		require.Equal(t, with("started anew at 10"), again(1, proto.Opening{Filter: "other", Epoch: opened.Epoch, Offset: 10}), "no history")
		stats := s.Statistics()
		require.Equal(t, []uint64{1, 3}, []uint64{stats.Recovered, stats.NotRecovered})
	})
}

// busyBroker does something before and after it is read from, once.
type busyBroker struct {
	pubsub.Broker
	before, after func()
}

func (b *busyBroker) Read(ctx context.Context, filter string, from pubsub.Start, most int) (pubsub.Page, error) {
	before, after := b.before, b.after
	b.before, b.after = func() {}, func() {}
	before()
	defer after()
	return b.Broker.Read(ctx, filter, from, most)
}

// A subscription to what is new misses nothing that is published while it is opened,
// however short the history is.
func TestNothingNewIsMissedWhileASubscriptionIsOpened(t *testing.T) {
	for name, times := range map[string]func(b *busyBroker, publish func()){
		"before its start is known": func(b *busyBroker, publish func()) { b.before = publish },
		"after that":                func(b *busyBroker, publish func()) { b.after = publish },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b := &busyBroker{Broker: remembering(2), before: func() {}, after: func() {}}
				s := serveMemory(t, pubsub.WithBroker(b))
				s.publishNumbers("kept.a", 1, 10)
				times(b, func() {
					for i := 11; i <= 20; i++ {
						_, err := b.Publish(t.Context(), &pubsub.Message{Topic: "kept.a", Data: fmt.Append(nil, i)})
						require.NoError(t, err)
					}
				})
				p := s.peer()
				opened, err := p.open(proto.Opening{Number: 1, Filter: "kept.a"})
				require.NoError(t, err)
				require.Equal(t, uint64(10), opened.Offset)
				s.publishNumbers("kept.a", 21, 30)
				require.Equal(t, with("started at 10", at("kept.a", 11, 30)), p.take())
				stats := s.Statistics()
				require.Zero(t, stats.NotRecovered+stats.Recovered+stats.Dropped)
			})
		})
	}
}

// When more comes while it is opened than its window takes, it is read from history,
// and no policy applies.
func TestWhatIsHeldWhileASubscriptionIsOpenedIsBounded(t *testing.T) {
	for _, policy := range []int{proto.PolicyBlock, proto.PolicyDropOldest, proto.PolicyDropNewest, proto.PolicyDisconnect} {
		for _, window := range []int{2, wide} {
			t.Run(fmt.Sprint(policy, " ", window), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					b := &busyBroker{Broker: remembering(1000), before: func() {}, after: func() {}}
					s := serveMemory(t, pubsub.WithBroker(b))
					b.after = func() {
						for i := 1; i <= 10; i++ {
							require.NoError(t, s.Publish("kept.a", fmt.Sprint(i)))
						}
					}
					p := s.peer()
					p.mustOpen(proto.Opening{Number: 1, Filter: "kept.a", QueueMessages: 2, Policy: policy, WindowMessages: window, WindowBytes: wide})
					got := p.take()
					p.consume(1, wide)
					got = append(got, p.take()...)
					want := with("started", at("kept.a", 1, 10))
					if window == 2 {
						want = with("started", replayed("kept.a", 1, 10))
					}
					require.Equal(t, want, got)
					require.Zero(t, s.Statistics().Dropped)
				})
			})
		}
	}
}

// What a Broker delivers late, when the start of a subscription is known, is not for it.
func TestWhatWasPublishedBeforeTheStartIsNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &brokenBroker{Broker: remembering(1000)}
		s := serveMemory(t, pubsub.WithBroker(b))
		s.publishNumbers("kept.a", 1, 10)
		late := func(offset uint64) {
			b.watchers[0].Deliver(&pubsub.Message{Topic: "kept.a", Offset: offset, Data: []byte("late")})
		}
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "kept.a"})
		late(10)
		s.publishNumbers("kept.a", 11, 11)
		require.Equal(t, with("started at 10", at("kept.a", 11, 11)), p.take())
	})
}

// What is published during a replay comes behind it, in order and once, however small
// the window is, and messages without history do not get lost in between.
func TestNothingIsMissingOrDoubledBetweenReplayAndLive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(10_000)))
		s.publishNumbers("kept.a", 1, 500)
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: ">", Start: proto.StartAll, WindowMessages: 7, WindowBytes: wide})
		got := p.take()
		live := 0
		for i := 501; i <= 1000; i++ {
			s.publishNumbers("kept.a", i, i)
			if i%50 == 0 {
				live++
				s.mustPublish("live", fmt.Sprint(live))
			}
			p.consume(1, uint64(i%4))
			got = append(got, p.take()...)
		}
		require.Equal(t, 1, s.Statistics().Replays)
		for range 200 {
			p.consume(1, 7)
			got = append(got, p.take()...)
		}
		require.Zero(t, s.Statistics().Replays)
		s.publishNumbers("kept.a", 1001, 1010)
		s.mustPublish("live", "11")
		p.consume(1, 100)
		got = append(got, p.take()...)

		next, lives, notes := 1, 1, 0
		for _, text := range got {
			switch text {
			case fmt.Sprintf("kept.a %d for > at %d", next, next), fmt.Sprintf("kept.a %d for 1 at %d", next, next):
				next++
			case fmt.Sprintf("live %d for >", lives):
				lives++
			case "started anew":
				notes++
			default:
				require.FailNow(t, text, "behind %d and %d", next-1, lives-1)
			}
		}
		require.Equal(t, []int{1011, 12, 1}, []int{next, lives, notes})
	})
}

// A replay that is slower than what history loses has a gap, which is told.
func TestAReplayThatIsTooSlowHasAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(200)))
		s.publishNumbers("kept.a", 1, 200)
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "kept.a", Start: proto.StartAll, WindowMessages: 1, WindowBytes: wide})
		require.Equal(t, with("started", replayed("kept.a", 1, 1)), p.take())
		s.publishNumbers("kept.a", 201, 1000)
		p.consume(1, 10_000)
		require.Equal(t, with("", replayed("kept.a", 2, 128), []string{"gap 0"}, replayed("kept.a", 801, 1000))[1:], p.take())
		s.publishNumbers("kept.a", 1001, 1001)
		require.Equal(t, at("kept.a", 1001, 1001), p.take())
	})
}

// That a filter also matches topics without history, of which nobody knows what is
// missing, does not hide what is known.
func TestAReplayOfMixedTopicsTellsItsGaps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(200)))
		s.publishNumbers("kept.a", 1, 200)
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: ">", Start: proto.StartAll, WindowMessages: 1, WindowBytes: wide})
		s.publishNumbers("kept.a", 201, 1000)
		p.consume(1, 10_000)
		require.Equal(t, with("started anew", replayed("kept.a", 1, 128), []string{"gap 0"}, replayed("kept.a", 801, 1000)), p.take())
	})
}

// Not even the last value of a topic hides what is published meanwhile.
func TestStartLastMissesNothingThatIsPublishedLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		for i := range 5 {
			s.mustPublish(fmt.Sprint("kept.", i), "first", "last")
		}
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "kept.*", Start: proto.StartLast, WindowMessages: 1, WindowBytes: wide})
		require.Equal(t, []string{"started at 1", "kept.0 last for 1 at 2"}, p.take())
		s.mustPublish("kept.4", "11", "12", "13")
		p.consume(1, 100)
		require.Equal(t, []string{
			"kept.1 last for 1 at 4", "kept.2 last for 1 at 6", "kept.3 last for 1 at 8", "kept.4 last for 1 at 10",
			"kept.4 11 for 1 at 11", "kept.4 12 for 1 at 12", "kept.4 13 for 1 at 13",
		}, p.take())
	})
}

// The end of a subscription in its replay leaves nothing behind: the bubble would not
// end.
func TestAReplayEndsWithItsSubscription(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		s.publishNumbers("kept.a", 1, 500)
		p := s.peer()
		for i, end := range []func(){func() { p.close(1) }, p.Stop} {
			p.mustOpen(proto.Opening{Number: uint64(i + 1), Filter: "kept.a", Start: proto.StartAll, WindowMessages: 1, WindowBytes: wide})
			synctest.Wait()
			require.Equal(t, 1, s.Statistics().Replays)
			end()
			synctest.Wait()
			require.Zero(t, s.Statistics().Replays)
		}
	})
}

func TestAMessageOfHistoryTooLargeForAPeerIsAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(1000)))
		s.mustPublish("kept.a", "1", string(make([]byte, 200)), "3")
		p := s.peer(arpc.WithMaxBodyLen(100))
		p.mustOpen(proto.Opening{Number: 1, Filter: "kept.a", Start: proto.StartAll, WindowMessages: 2, WindowBytes: wide})
		require.Equal(t, []string{"started", "kept.a 1 for 1 at 1", "gap 1", "kept.a 3 for 1 at 3"}, p.take())
		require.Equal(t, uint64(1), s.Statistics().Dropped)
	})
}

// brokenBroker fails as it is told, and otherwise is the Broker behind it.
type brokenBroker struct {
	pubsub.Broker
	read, watch, publish error
	watchers             []pubsub.Watcher
}

func (b *brokenBroker) Read(ctx context.Context, filter string, from pubsub.Start, most int) (pubsub.Page, error) {
	if b.read != nil {
		return pubsub.Page{}, b.read
	}
	return b.Broker.Read(ctx, filter, from, most)
}

func (b *brokenBroker) Watch(filter string, w pubsub.Watcher) (func(), error) {
	if b.watch != nil {
		return nil, b.watch
	}
	b.watchers = append(b.watchers, w)
	return b.Broker.Watch(filter, w)
}

func (b *brokenBroker) Publish(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
	if b.publish != nil {
		return pubsub.Position{}, b.publish
	}
	return b.Broker.Publish(ctx, m)
}

var errAway = arpc.NewError(arpc.CodeUnavailable, "the broker is away")

func TestErrorsOfTheBrokerReachTheClient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &brokenBroker{Broker: remembering(1000)}
		s := serveMemory(t, pubsub.WithBroker(b))
		p := s.peer()
		b.publish, b.watch = errAway, errAway
		require.EqualError(t, p.publish("kept.a", ""), errAway.Error())
		_, err := p.open(proto.Opening{Number: 1, Filter: "kept.a"})
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		b.watch, b.read = nil, errAway
		_, err = p.open(proto.Opening{Number: 1, Filter: "kept.a"})
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
		require.Zero(t, s.Statistics().Filters, "nothing is left of it")
		b.read, b.publish = nil, nil

		s.publishNumbers("kept.a", 1, 200)
		p.mustOpen(proto.Opening{Number: 1, Filter: "kept.a", Start: proto.StartAll, WindowMessages: 1, WindowBytes: wide})
		require.Len(t, p.take(), 2)
		b.read = errAway // in the middle of a replay
		p.consume(1, 1000)
		got := p.take()
		require.Equal(t, "ended Unavailable", got[len(got)-1])
		require.Zero(t, s.Statistics().Subscriptions)
		b.read = nil
		p.subscribe(2, "kept.a")
	})
}

func TestSubscribersAreToldThatTheBrokerIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &brokenBroker{Broker: remembering(1000)}
		s := serveMemory(t, pubsub.WithBroker(b))
		p, old := s.peer(), s.oldPeer()
		p.subscribe(1, "kept.a")
		require.NoError(t, old.old(proto.Subscribe, "kept.a", ""))
		w := b.watchers[0]
		s.publishNumbers("kept.a", 1, 1)
		w.Interrupted(errAway)
		w.Interrupted(errAway)
		late := s.peer()
		late.mustOpen(proto.Opening{Number: 1, Filter: "kept.a"})
		require.Equal(t, []string{"started at 1", "interrupted Unavailable"}, late.take())
		w.Resumed(true)
		s.publishNumbers("kept.a", 2, 2)
		require.Equal(t, []string{"kept.a 1 at 1", "interrupted Unavailable", "resumed", "kept.a 2 at 2"}, p.take())
		require.Equal(t, []string{"resumed", "kept.a 2 at 2"}, late.take())

		// When something was lost, they open again and find out what can be recovered.
		w.Interrupted(errAway)
		w.Resumed(false)
		s.publishNumbers("kept.a", 3, 3)
		require.Equal(t, []string{"interrupted Unavailable", "ended Unavailable"}, p.take())
		require.Equal(t, []string{"old kept.a 1", "old kept.a 2", "old kept.a 3"}, old.take(), "it cannot be told")
		require.Equal(t, 1, s.Statistics().Subscriptions)
	})
}

// Notes of a broker that comes and goes do not pile up for who takes nothing.
func TestNotesDoNotPileUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &brokenBroker{Broker: pubsub.NewMemoryBroker()}
		s := serveMemory(t, pubsub.WithBroker(b))
		p := s.peer()
		p.slowed(proto.PolicyDropOldest, 1, 1)
		s.publishNumbers("a", 1, 2)
		for range 1000 {
			b.watchers[0].Interrupted(errAway)
			b.watchers[0].Resumed(true)
		}
		p.consume(1, 10)
		got := p.take()
		require.Less(t, len(got), 20)
		require.Equal(t, "a 2", got[1])
		require.Contains(t, got, "gap 1992")
	})
}
