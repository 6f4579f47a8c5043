package pubsub_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// present returns who is present, as "id info of filter".
func (s *served) present(topic string) (all []string) {
	s.t.Helper()
	subscribers, err := s.Presence(context.Background(), topic)
	require.NoError(s.t, err)
	for _, who := range subscribers {
		all = append(all, fmt.Sprintf("%s %s of %s", who.ID, who.Info, who.Filter))
	}
	return all
}

func TestPresenceListsWhoSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithAuthenticator(func(_ context.Context, _ *arpc.Client, credentials []byte) (any, error) {
			return "user " + string(credentials), nil
		}))
		ann, bob := s.peer(withCredentials("ann")), s.peer(withCredentials("bob"))
		ann.mustOpen(proto.Opening{Number: 1, Filter: "rooms.1", MemberID: "ann", MemberInfo: []byte("here")})
		bob.mustOpen(proto.Opening{Number: 1, Filter: "rooms.*", MemberID: "bob"})
		bob.mustOpen(proto.Opening{Number: 2, Filter: "rooms.1"})
		bob.mustOpen(proto.Opening{Number: 3, Filter: "rooms.1", Group: "g", MemberID: "bob too"})
		require.Equal(t, []string{"ann here of rooms.1", "bob  of rooms.*", "bob too  of rooms.1"}, s.present("rooms.1"))
		require.Equal(t, []string{"bob  of rooms.*"}, s.present("rooms.2"))
		require.Empty(t, s.present("other"))

		var body []byte
		require.NoError(t, bob.Call(proto.Presence, "rooms.1", &body, time.Minute))
		members, err := proto.ParseMembers(body)
		require.NoError(t, err)
		require.Len(t, members, 3)
		require.Equal(t, proto.Member{ID: "ann", Info: []byte("here"), Client: "user ann", Filter: "rooms.1"}, members[0])
		require.Equal(t, 3, s.Statistics().Present)

		ann.close(1)
		bob.Stop()
		synctest.Wait()
		require.Empty(t, s.present("rooms.1"))
	})
}

func TestPresenceHasALimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithMaxPresent(2))
		p := s.peer()
		for i := range 3 {
			p.mustOpen(proto.Opening{Number: uint64(i + 1), Filter: "a", Group: fmt.Sprint(i), MemberID: fmt.Sprint(i)})
		}
		err := p.Call(proto.Presence, "a", nil, time.Minute)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.ErrorContains(t, err, "WithMaxPresent")
		require.Len(t, s.present("a"), 3, "the program itself has none")
	})
}

func TestJoinsAndLeavesAreToldOncePerID(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		watcher, wide, member, other := s.peer(), s.peer(), s.peer(), s.peer()
		watcher.mustOpen(proto.Opening{Number: 1, Filter: "rooms.1", Events: true})
		wide.mustOpen(proto.Opening{Number: 1, Filter: "rooms.>", Events: true})
		member.mustOpen(proto.Opening{Number: 1, Filter: "rooms.1", Group: "g", Events: true, MemberID: "member"})
		other.subscribe(1, "rooms.1")
		join := func(filter, id string) *peer {
			t.Helper()
			p := s.peer()
			p.mustOpen(proto.Opening{Number: 1, Filter: filter, MemberID: id, MemberInfo: []byte("hi"), Events: true})
			return p
		}
		first := join("rooms.1", "ann")
		second := join("rooms.1", "ann") // by another device
		join("rooms.2", "bob")
		everywhere := join("rooms.*", "cid")
		join("elsewhere", "dan")
		first.Stop()
		synctest.Wait()
		second.Stop()
		synctest.Wait()
		everywhere.close(1)
		want := []string{
			"started", "joined member  of rooms.1", "joined ann hi of rooms.1", "joined cid hi of rooms.*", "left ann hi of rooms.1", "left cid hi of rooms.*",
		}
		require.Equal(t, want, watcher.take())
		require.Equal(t, append([]string{"started"}, want[2:]...), member.take())
		require.Equal(t, slices.Insert(want, 3, "joined bob hi of rooms.2"), wide.take())
		require.Empty(t, other.take())
	})
}

// Notes of who comes and goes wait in the queue like messages, with its bounds.
func TestManyJoinsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		watcher, p := s.peer(), s.peer()
		watcher.mustOpen(proto.Opening{Number: 1, Filter: "a", Events: true, WindowMessages: 2, WindowBytes: wide, QueueMessages: 3, QueueBytes: wide})
		require.Equal(t, []string{"started"}, watcher.take())
		for i := range 10 {
			p.mustOpen(proto.Opening{Number: uint64(i + 1), Filter: "a", Group: fmt.Sprint(i), MemberID: fmt.Sprint(i)})
		}
		watcher.consume(1, 10)
		require.Equal(t, []string{"joined 0  of a", "joined 1  of a", "gap 5", "joined 7  of a", "joined 8  of a", "joined 9  of a"}, watcher.take())
	})
}

// cluster is servers of one Broker.
func cluster(t *testing.T, n int, b pubsub.Broker, opts ...pubsub.Option) (all []*served) {
	for range n {
		all = append(all, serveMemory(t, append(opts, pubsub.WithBroker(b))...))
	}
	synctest.Wait()
	return all
}

func TestPresenceReachesOverServers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := cluster(t, 3, pubsub.NewMemoryBroker())
		watcher := nodes[2].peer()
		watcher.mustOpen(proto.Opening{Number: 1, Filter: "a", Events: true})
		require.Len(t, watcher.take(), 1)
		p, q := nodes[0].peer(), nodes[1].peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "a", MemberID: "p"})
		q.mustOpen(proto.Opening{Number: 1, Filter: "a", MemberID: "p"})
		q.mustOpen(proto.Opening{Number: 2, Filter: "a.*", MemberID: "q"})
		synctest.Wait()
		for _, s := range nodes {
			require.Equal(t, []string{"p  of a"}, s.present("a"))
			require.Equal(t, []string{"q  of a.*"}, s.present("a.b"))
		}
		p.Stop()
		synctest.Wait()
		require.Equal(t, []string{"p  of a"}, nodes[2].present("a"), "it is at another server still")
		q.Stop()
		require.Equal(t, []string{"joined p  of a", "left p  of a"}, watcher.take())
		for _, s := range nodes {
			require.Empty(t, s.present("a"))
		}
	})
}

func TestAServerThatStartsLearnsWhoIsPresent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := pubsub.NewMemoryBroker()
		first := cluster(t, 1, b)[0]
		p := first.peer()
		large := make([]byte, 1024)
		for i := range 300 {
			p.mustOpen(proto.Opening{Number: uint64(i + 1), Filter: "a", Group: fmt.Sprint(i), MemberID: fmt.Sprint(i), MemberInfo: large})
		}
		second := cluster(t, 1, b)[0]
		require.Len(t, second.present("a"), 300)
		p.Stop()
		synctest.Wait()
		require.Empty(t, second.present("a"))
	})
}

func TestWhoIsAtAServerThatIsGoneIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := cluster(t, 2, pubsub.NewMemoryBroker())
		watcher := nodes[1].peer()
		watcher.mustOpen(proto.Opening{Number: 1, Filter: "a", Events: true})
		nodes[0].peer().mustOpen(proto.Opening{Number: 1, Filter: "a", MemberID: "p"})
		synctest.Wait()
		nodes[0].Stop()
		require.Equal(t, []string{"started", "joined p  of a", "left p  of a"}, watcher.take())
	})
}

// deafBroker loses what is announced.
type deafBroker struct {
	pubsub.Broker
	deaf atomic.Bool
}

func (b *deafBroker) Announce(ctx context.Context, data []byte) error {
	if b.deaf.Load() {
		return nil
	}
	return b.Broker.Announce(ctx, data)
}

// A server that dies without a word is missed after a while; one whose words were lost
// is asked again.
func TestPresenceGetsOverLostAnnouncements(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := pubsub.NewMemoryBroker()
		lossy := &deafBroker{Broker: b}
		one, other := cluster(t, 1, lossy)[0], cluster(t, 1, b)[0]
		watcher := other.peer()
		watcher.mustOpen(proto.Opening{Number: 1, Filter: "a", Events: true})
		open := func(number uint64, id string) {
			t.Helper()
			p := one.peer()
			p.mustOpen(proto.Opening{Number: number, Filter: "a", MemberID: id})
		}
		open(1, "heard")
		synctest.Wait()
		lossy.deaf.Store(true)
		open(2, "unheard")
		synctest.Wait()
		require.Equal(t, []string{"heard  of a"}, other.present("a"))
		lossy.deaf.Store(false)
		open(3, "later")
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{"heard  of a", "later  of a", "unheard  of a"}, other.present("a"))
		lossy.deaf.Store(true)
		time.Sleep(9 * time.Second)
		require.Len(t, other.present("a"), 3)
		time.Sleep(10 * time.Second)
		require.Empty(t, other.present("a"))
		lossy.deaf.Store(false)
		time.Sleep(10 * time.Second)
		require.Len(t, other.present("a"), 3, "it was not dead after all")
		got := watcher.take()
		require.Len(t, got, 1+3+3+3)
		require.Equal(t, []string{"started", "joined heard  of a"}, got[:2])
	})
}

func TestHowLongAServerMayBeSilentIsAnOption(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := pubsub.NewMemoryBroker()
		lossy, soon := &deafBroker{Broker: b}, pubsub.WithPresenceTimeout(3*time.Second)
		one, other := cluster(t, 1, lossy, soon)[0], cluster(t, 1, b, soon)[0]
		require.Empty(t, other.present("a"))
		one.peer().mustOpen(proto.Opening{Number: 1, Filter: "a", MemberID: "p"})
		time.Sleep(time.Minute)
		require.Equal(t, []string{"p  of a"}, other.present("a"))
		lossy.deaf.Store(true)
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, []string{"p  of a"}, other.present("a"))
		time.Sleep(3 * time.Second)
		require.Empty(t, other.present("a"))
	})
}

// hardOfHearing takes its time to hear.
type hardOfHearing struct {
	pubsub.Broker
	heard chan struct{}
}

func (b *hardOfHearing) Hear(fn func([]byte)) (func(), error) {
	<-b.heard
	return b.Broker.Hear(fn)
}

func TestStoppingDoesNotWaitForABrokerThatIsSlowToHear(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		slow := &hardOfHearing{Broker: pubsub.NewMemoryBroker(), heard: make(chan struct{})}
		s := serveMemory(t, pubsub.WithBroker(slow))
		synctest.Wait()
		require.Zero(t, s.Statistics().Present)
		s.Stop()
		close(slow.heard)
	})
}

// Words of others are not trusted to make sense.
func TestAnnouncementsThatMakeNoSenseAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := pubsub.NewMemoryBroker()
		s := cluster(t, 1, b)[0]
		for _, a := range []proto.Announced{
			{Kind: 99, Server: "x", Revision: 7},
			{Kind: proto.AnnounceJoined, Server: "x", Revision: 1, Members: []proto.Member{{ID: "bad", Filter: "a.>.b"}}},
			{Kind: proto.AnnounceLeft, Server: "x", Revision: 2, Members: []proto.Member{{ID: "never", Filter: "a"}}},
			{Kind: proto.AnnounceLeft, Server: "y", Revision: 1},
			{Kind: proto.AnnounceAll, Server: "x", Revision: 1 << 60},
			{Kind: proto.AnnounceGone, Server: "z"},
			{Kind: proto.AnnounceJoined, Server: "x", Revision: 1<<64 - 1},
		} {
			require.NoError(t, b.Announce(t.Context(), a.Append(nil)))
		}
		require.NoError(t, b.Announce(t.Context(), []byte("nonsense")))
		time.Sleep(time.Minute)
		require.Empty(t, s.present("a"))
		p := s.peer()
		p.mustOpen(proto.Opening{Number: 1, Filter: "a", MemberID: "p"})
		require.Equal(t, []string{"p  of a"}, s.present("a"))
	})
}
