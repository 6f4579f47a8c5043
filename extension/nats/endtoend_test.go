package nats_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// numbered are the messages of a publisher.
func numbered(publisher, messages int) (all []string) {
	for i := range messages {
		all = append(all, fmt.Sprintf("%d/%d", publisher, i))
	}
	return all
}

// publishersOf returns the publishers of messages that are numbered, each with its
// messages as they came.
func publishersOf(messages []string) map[int][]string {
	all := make(map[int][]string)
	for _, text := range messages {
		var publisher, number int
		fmt.Sscanf(text, "%d/%d", &publisher, &number)
		all[publisher] = append(all[publisher], text)
	}
	return all
}

// A publisher at each server, subscribers at all: each message once to each of them, in
// the order of its publisher.
func TestThreeServersAreOne(t *testing.T) {
	t.Parallel()
	const messages = 100
	nodes := three(t, server(t).URL(), newPrefix(), keep(100_000))
	for _, kind := range []string{"live", "kept"} {
		var all []*inbox
		for _, n := range nodes {
			all = append(all, subscribe(t, dial(t, n), kind+".a"), subscribe(t, dial(t, n), kind+".>"))
		}
		want := make(map[int][]string)
		var publishing sync.WaitGroup
		for i, n := range nodes {
			want[i] = numbered(i, messages)
			c := dial(t, n)
			publishing.Go(func() {
				for _, text := range numbered(i, messages) {
					send(t, c, kind+".a", text)
				}
			})
		}
		publishing.Wait()
		for _, in := range all {
			eventually(t, func() bool { return len(in.messages()) >= 3*messages }, "%d messages", 3*messages)
			require.Equal(t, want, publishersOf(in.messages()))
			require.Equal(t, "recovered true", in.all()[0])
			require.Len(t, in.all(), 1+3*messages)
			if kind == "kept" {
				require.Equal(t, all[0].messages(), in.messages(), "what has history comes in one order everywhere")
			}
		}
	}
}

func TestOneOfAllAtThreeServersGetsWhatIsForOne(t *testing.T) {
	t.Parallel()
	const messages = 60
	nodes := three(t, server(t).URL(), newPrefix())
	var all []*inbox
	for _, n := range nodes {
		all = append(all, subscribe(t, dial(t, n), "one"), subscribe(t, dial(t, n), "*"))
	}
	publisher, want := dial(t, nodes[1]), numbered(0, messages)
	for _, text := range want {
		require.NoError(t, publisher.PublishToOneWith(t.Context(), "one", text))
	}
	var got []string
	eventually(t, func() bool {
		got = nil
		for _, in := range all {
			got = append(got, in.messages()...)
		}
		return len(got) >= messages
	}, "%d messages", messages)
	require.ElementsMatch(t, want, got)
}

// present waits until certain members are present, as all nodes see it.
func present(t testing.TB, topic string, ids []string, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, func() bool {
			all, err := n.Presence(t.Context(), topic)
			require.NoError(t, err)
			var found []string
			for _, one := range all {
				found = append(found, one.ID)
			}
			return slices.Equal(found, ids)
		}, "%q to be present", ids)
	}
}

func TestPresenceOverThreeServers(t *testing.T) {
	t.Parallel()
	nodes := three(t, server(t).URL(), newPrefix())
	watcher := subscribe(t, dial(t, nodes[0]), "room", pubsub.WithPresence())
	ann, bob := dial(t, nodes[1]), dial(t, nodes[2])
	subscribe(t, ann, "room", pubsub.WithMember("ann", []byte("info")))
	eventually(t, func() bool { return slices.Contains(watcher.all(), "joined ann") }, "ann to join")
	subscribe(t, bob, "room", pubsub.WithMember("bob", nil))
	present(t, "room", []string{"ann", "bob"}, nodes[:]...)
	all, err := dial(t, nodes[2]).Presence(t.Context(), "room")
	require.NoError(t, err)
	require.Equal(t, pubsub.Subscriber{ID: "ann", Info: []byte("info"), Filter: "room"}, all[0])
	ann.Stop()
	eventually(t, func() bool { return slices.Contains(watcher.all(), "left ann") }, "ann to leave")
	present(t, "room", []string{"bob"}, nodes[:]...)
}

// A server that dies cannot say that its members leave: the others find out.
func TestMembersOfAKilledServerLeave(t *testing.T) {
	t.Parallel()
	nodes := three(t, server(t).URL(), newPrefix())
	watcher := subscribe(t, dial(t, nodes[0]), "room", pubsub.WithPresence())
	var v valve
	subscribe(t, dialThrough(t, &v, nodes[1]), "room", pubsub.WithMember("ann", nil))
	subscribe(t, dial(t, nodes[1], nodes[2]), "room", pubsub.WithMember("bob", nil))
	present(t, "room", []string{"ann", "bob"}, nodes[:]...)
	v.shut()
	nodes[1].kill()
	eventually(t, func() bool { return slices.Contains(watcher.all(), "left ann") }, "who was there to leave")
	present(t, "room", []string{"bob"}, nodes[0], nodes[2]) // who has gone to another server
}

// Servers that did not hear of each other for a while find each other again.
func TestPresenceOutlivesAnOutageOfNATS(t *testing.T) {
	t.Parallel()
	s := server(t)
	nodes := three(t, s.URL(), newPrefix())
	for i, id := range []string{"ann", "bob", "cid"} {
		subscribe(t, dial(t, nodes[i]), "room", pubsub.WithMember(id, nil))
	}
	present(t, "room", []string{"ann", "bob", "cid"}, nodes[:]...)
	s.Stop()
	present(t, "room", []string{"ann"}, nodes[0])
	require.NoError(t, s.Start())
	present(t, "room", []string{"ann", "bob", "cid"}, nodes[:]...)
}

func TestAWillReachesOtherServers(t *testing.T) {
	t.Parallel()
	nodes := three(t, server(t).URL(), newPrefix(), keep(100))
	for _, topic := range []string{"live.wills", "kept.wills"} {
		heir := subscribe(t, dial(t, nodes[2]), topic)
		var v valve
		c := dialThrough(t, &v, nodes[0])
		require.NoError(t, c.SetWill(t.Context(), topic, "that was all"))
		leaves := dial(t, nodes[1])
		require.NoError(t, leaves.SetWill(t.Context(), topic, "never said"))
		leaves.Stop()
		v.shut()
		eventually(t, func() bool { return len(heir.messages()) > 0 }, "the will")
		require.Equal(t, []string{"that was all"}, heir.messages())
	}
}

// While NATS is away subscribers are told, and afterwards whether something was lost.
func TestSubscribersAreToldOfAnOutageOfNATS(t *testing.T) {
	t.Parallel()
	s := server(t)
	nodes := three(t, s.URL(), newPrefix(), keep(100))
	kept, live := subscribe(t, dial(t, nodes[1]), "kept.a"), subscribe(t, dial(t, nodes[1]), "live.a")
	publisher := dial(t, nodes[0])
	send(t, publisher, "kept.a", "before")
	send(t, publisher, "live.a", "before")
	begun := []string{"recovered true", "before"}
	eventually(t, func() bool { return len(kept.all()) == 2 && len(live.all()) == 2 }, "the first messages")
	require.Equal(t, begun, kept.all())
	require.Equal(t, begun, live.all())

	s.Stop()
	eventually(t, func() bool { return len(kept.all()) == 3 && len(live.all()) == 3 }, "the interruption")
	var all sync.WaitGroup
	all.Go(func() { sendSafely(t, publisher, "kept.a", "meanwhile") })
	require.NoError(t, s.Start())
	all.Wait()
	eventually(t, func() bool { return len(kept.all()) == 5 }, "what was published meanwhile")
	require.Equal(t, append(begun, "interrupted", "recovered true", "meanwhile"), kept.all())
	eventually(t, func() bool { return slices.Contains(live.all(), "recovered false") }, "the end of the outage")
	send(t, publisher, "live.a", "after")
	eventually(t, func() bool { return slices.Contains(live.all(), "after") }, "a message")
	require.Equal(t, []string{"before", "after"}, live.messages())
}

// A server that does not reach NATS for longer than history lasts tells its subscribers,
// in front of what is left.
func TestSubscribersAreToldOfWhatHistoryHasNoMore(t *testing.T) {
	t.Parallel()
	const messages, history = 20, 5
	url, prefix := server(t).URL(), newPrefix()
	away, other := serve(t, url, "", prefix, keep(history)), serve(t, url, "", prefix, keep(history))
	in, whole := subscribe(t, dial(t, away), "kept.a"), subscribe(t, dial(t, other), "kept.a")
	publisher := dial(t, other)
	send(t, publisher, "kept.a", "before")
	eventually(t, func() bool { return len(in.messages()) == 1 }, "the first message")
	away.valve.shut()
	want := numbered(0, messages)
	for _, text := range want {
		send(t, publisher, "kept.a", text)
	}
	away.valve.open()
	eventually(t, func() bool { return slices.Contains(in.all(), want[messages-1]) }, "the last message")
	got := in.all()
	require.Equal(t, []string{"recovered true", "before", "interrupted", "recovered false"}, got[:4])
	require.GreaterOrEqual(t, len(got[4:]), history)
	require.Equal(t, want[messages-len(got[4:]):], got[4:], "the last that there were, without a gap")
	eventually(t, func() bool { return len(whole.messages()) > messages }, "all messages")
	require.Equal(t, append([]string{"recovered true", "before"}, want...), whole.all())
}

// A client that loses its server while NATS is away goes on at another, and has missed
// nothing when both are back.
func TestAnOutageAndACutAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := server(t)
	nodes := three(t, s.URL(), newPrefix(), keep(1000))
	in := subscribe(t, dial(t, nodes[0], nodes[1]), "kept.a")
	publisher := dial(t, nodes[2])
	want := numbered(0, 40)
	for _, text := range want[:10] {
		send(t, publisher, "kept.a", text)
	}
	eventually(t, func() bool { return len(in.messages()) == 10 }, "the first messages")
	s.Stop()
	eventually(t, func() bool { return slices.Contains(in.all(), "interrupted") }, "the interruption")
	nodes[0].stop()
	require.NoError(t, s.Start())
	for _, text := range want[10:] {
		sendSafely(t, publisher, "kept.a", text)
	}
	eventually(t, func() bool { return len(in.messages()) >= len(want) }, "all messages")
	require.Equal(t, want, in.messages())
	require.NotContains(t, in.all(), "recovered false")
}
