package nats_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// What a member's broker has when it dies goes to the others: as if the machine had gone,
// without a word.
func TestWorkOfADeadBrokerGoesToOthers(t *testing.T) {
	t.Parallel()
	url, prefix, lease := server(t).URL(), newPrefix(), nats.WithLease(500*time.Millisecond)
	var v valve
	o := pubsub.GroupOptions{Ack: true, AckWait: time.Hour, MaxPending: 5}
	dying, other := broker(t, url, prefix, keep(1000), lease, v.option()), broker(t, url, prefix, keep(1000), lease)
	holds, _ := join(t, dying, "kept.*", o, nil)
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprint(i))
		publish(t, other, "kept.a", want[i])
	}
	eventually(t, func() bool { return len(distinct(holds)) == 5 }, "a member to have all there is")
	v.shut()
	takes, _ := join(t, other, "kept.*", o, acknowledge)
	for i := range 20 {
		want = append(want, fmt.Sprint("later ", i))
		publish(t, other, "kept.a", fmt.Sprint("later ", i))
	}
	eventually(t, func() bool { return len(distinct(takes)) >= len(want) }, "the other to get all")
	require.ElementsMatch(t, want, distinct(takes))
	for _, d := range takes.has() {
		require.True(t, d.Attempt > 1 || !slices.Contains(holds.texts(), string(d.Data)), "%s comes the first time", d.Data)
	}
	require.GreaterOrEqual(t, other.Statistics().GroupRedelivered, uint64(5))
}

func distinct(m *member) []string { return slices.Compact(slices.Sorted(slices.Values(m.texts()))) }

// JetStream is told of a member that is still at work: it would give the message to others.
func TestALongTaskIsNotGivenToAnother(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	o := pubsub.GroupOptions{Ack: true, AckWait: time.Hour, MaxPending: 1}
	here, there := broker(t, url, prefix, keep(1000)), broker(t, url, prefix, keep(1000))
	slow, _ := join(t, here, "kept.a", o, nil)
	said := listen(t, url, "$JS.ACK.>")
	publish(t, there, "kept.a", "long")
	for range 2 {
		m, err := said.NextMsg(patience)
		require.NoError(t, err)
		require.Equal(t, "+WPI", string(m.Data), "work in progress")
	}
	other, _ := join(t, there, "kept.a", o, acknowledge)
	require.Len(t, slow.has(), 1)
	slow.has()[0].Done(true)
	publish(t, there, "kept.a", "next")
	eventually(t, func() bool { return len(slow.has())+len(other.has()) >= 2 }, "the next")
}

func TestAGroupOutlivesARestartOfNATS(t *testing.T) {
	t.Parallel()
	s, prefix := server(t), newPrefix()
	o := pubsub.GroupOptions{Ack: true, AckWait: time.Hour, MaxPending: 10}
	b := broker(t, s.URL(), prefix, keep(10_000))
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	join(t, b, "kept.*", o, func(d pubsub.Delivery) {
		mu.Lock()
		defer mu.Unlock()
		acknowledged[string(d.Data)] = true
		d.Done(true)
	})
	const messages = 100
	var all sync.WaitGroup
	half := make(chan struct{})
	all.Go(func() {
		for i := range messages {
			if i == messages/2 {
				close(half)
			}
			publishSafely(t, b, "kept.a", fmt.Sprint(i))
		}
	})
	<-half
	s.Stop()
	require.NoError(t, s.Start())
	all.Wait()
	eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged) == messages
	}, "all messages to be acknowledged")
}

// A group without acknowledgement has its messages where there is room, in the whole
// cluster.
func TestMessagesGoToBrokersWhoseMembersHaveRoom(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	o := pubsub.GroupOptions{MaxPending: 1}
	here, there := broker(t, url, prefix, keep(100)), broker(t, url, prefix, keep(100))
	for _, topic := range []string{"live.a", "kept.a"} {
		stuck, leaveStuck := join(t, here, topic, o, nil)
		quick, leaveQuick := join(t, there, topic, o, func(d pubsub.Delivery) { go d.Done(true) })
		const messages = 200
		var want []string
		for i := range messages {
			want = append(want, fmt.Sprint(i))
			publish(t, here, topic, want[i])
		}
		eventually(t, func() bool { return len(quick.has()) >= messages-1 }, "the quick one to get all but one")
		eventually(t, func() bool { return len(stuck.has()) == 1 }, "the other to get one")
		require.ElementsMatch(t, want, append(quick.texts(), stuck.texts()...))
		for _, d := range quick.has() {
			require.Equal(t, topic == "kept.a", d.Offset != 0)
			require.Equal(t, 1, d.Attempt)
		}
		leaveStuck()
		leaveQuick()
	}
}

// Where nobody has room messages wait, and when the members here leave others take them.
func TestMessagesOfAGroupWait(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	o := pubsub.GroupOptions{MaxPending: 1, MaxWaiting: 3}
	here, there := broker(t, url, prefix), broker(t, url, prefix)
	full, leave := join(t, here, "live.a", o, nil)
	for i := range 4 {
		publish(t, there, "live.a", fmt.Sprint(i))
	}
	eventually(t, func() bool { return len(full.has()) == 1 }, "the first")
	full.has()[0].Done(true)
	eventually(t, func() bool { return len(full.has()) == 2 }, "the first that waits")
	require.Equal(t, []string{"0", "1"}, full.texts())
	other, _ := join(t, there, "live.a", o, func(d pubsub.Delivery) { go d.Done(true) })
	leave()
	eventually(t, func() bool { return len(other.has()) == 2 }, "those that wait")
	require.ElementsMatch(t, []string{"2", "3"}, other.texts())
	require.Zero(t, here.Statistics().GroupDropped)
}

func TestMembersElsewhereHaveTheSameOptions(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	here, there := broker(t, url, prefix, keep(100)), broker(t, url, prefix, keep(100))
	for _, o := range []pubsub.GroupOptions{{}, {Ack: true}} {
		_, leave := join(t, here, "kept.a", o, nil)
		other := o
		other.MaxPending = 7
		_, err := there.Join("kept.a", "group", other, new(member))
		require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err), "%v", err)
		_, err = there.Join("kept.a", "group", pubsub.GroupOptions{Ack: !o.Ack}, new(member))
		require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err), "%v", err)
		leave()
		_, leave = join(t, there, "kept.a", other, nil)
		leave()
	}
}

// A group with acknowledgement of topics without history has no messages.
func TestAcknowledgementNeedsHistory(t *testing.T) {
	t.Parallel()
	url := server(t).URL()
	for _, b := range []*nats.Broker{broker(t, url, newPrefix()), broker(t, url, newPrefix(), keep(10))} {
		m := new(member)
		leave, err := b.Join("live.a", "group", pubsub.GroupOptions{Ack: true}, m)
		require.NoError(t, err)
		w := new(recorder)
		stop, err := b.Watch("live.a", w)
		require.NoError(t, err)
		_, err = b.Publish(t.Context(), &pubsub.Message{Topic: "live.a"})
		require.NoError(t, err)
		w.requireTold(t, "")
		stop()
		leave()
		require.Empty(t, m.has())
	}
}
