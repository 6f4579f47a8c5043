package nats_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// worker is a member of a group, which writes down what it has done, and for which time
// it was delivered.
type worker struct {
	mu       sync.Mutex
	done     []string
	attempts map[string]int // of what was delivered
}

func work(t testing.TB, c *pubsub.Client, filter string, group pubsub.SubscribeOption, fn func()) *worker {
	w := &worker{attempts: make(map[string]int)}
	_, err := c.SubscribeWith(t.Context(), filter, func(topic *pubsub.Topic) {
		text := string(topic.Data)
		w.mu.Lock()
		w.attempts[text] = topic.Attempt
		w.mu.Unlock()
		if fn != nil {
			fn()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done = append(w.done, text)
	}, group)
	require.NoError(t, err)
	return w
}

func doneBy(workers ...*worker) (all []string) {
	for _, w := range workers {
		w.mu.Lock()
		all = append(all, w.done...)
		w.mu.Unlock()
	}
	return all
}

// has returns what was delivered, with the attempts.
func (w *worker) has() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]int)
	for text, attempt := range w.attempts {
		all[text] = attempt
	}
	return all
}

// Each message goes to one member of the group, wherever it is, and to each group.
func TestGroupsOverThreeServers(t *testing.T) {
	t.Parallel()
	const messages = 90
	nodes := three(t, server(t).URL(), newPrefix(), keep(100_000), nats.WithLease(time.Hour))
	for name, group := range map[string]func(string) pubsub.SubscribeOption{
		"live.jobs": pubsub.WithGroup,
		"kept.jobs": func(name string) pubsub.SubscribeOption {
			return pubsub.WithGroupAck(name, pubsub.GroupOptions{AckWait: time.Hour})
		},
	} {
		var many []*worker
		for _, n := range append(nodes[:], nodes[:]...) {
			many = append(many, work(t, dial(t, n), name, group("many"), nil))
		}
		alone := work(t, dial(t, nodes[1]), name, group("one"), nil)
		var want []string
		for i, n := range nodes {
			c := dial(t, n)
			for _, text := range numbered(i, messages/3) {
				want = append(want, text)
				send(t, c, name, text)
			}
		}
		for _, workers := range [][]*worker{many, {alone}} {
			eventually(t, func() bool { return len(doneBy(workers...)) >= messages }, "%d messages", messages)
			require.ElementsMatch(t, want, doneBy(workers...))
		}
		for _, w := range append(many, alone) {
			for text, attempt := range w.has() {
				require.LessOrEqual(t, attempt, 1, text)
			}
		}
	}
}

// What a member has when it is lost another gets, at another server too.
func TestWorkOfALostMemberGoesToAnotherServer(t *testing.T) {
	t.Parallel()
	nodes := three(t, server(t).URL(), newPrefix(), keep(100_000))
	group := pubsub.WithGroupAck("workers", pubsub.GroupOptions{AckWait: time.Hour, MaxPending: 3})
	hung := make(chan struct{})
	defer close(hung)
	var v valve
	lost := work(t, dialThrough(t, &v, nodes[0]), "kept.jobs", group, func() { <-hung })
	publisher, want := dial(t, nodes[1]), numbered(0, 30)
	for _, text := range want[:3] {
		send(t, publisher, "kept.jobs", text)
	}
	eventually(t, func() bool { return len(lost.has()) > 0 }, "a message to who will be lost")
	other := work(t, dial(t, nodes[2]), "kept.jobs", group, nil)
	for _, text := range want[3:] {
		send(t, publisher, "kept.jobs", text)
	}
	v.shut()
	eventually(t, func() bool { return len(doneBy(other)) >= len(want) }, "all to be worked on")
	require.ElementsMatch(t, want, slices.Compact(slices.Sorted(slices.Values(doneBy(other)))))
	for text := range lost.has() {
		require.Greater(t, other.has()[text], 1, "the second time of %s", text)
	}
}

// A queue group with members at all servers: what a server that is killed had goes to
// the others, and so does all that follows.
func TestGroupWorkMovesFromAKilledServer(t *testing.T) {
	t.Parallel()
	r, url := random(t), server(t).URL()
	opts := []nats.Option{newPrefix(), keep(100_000), nats.WithLease(time.Second)}
	nodes := three(t, url, opts...)
	doomed := r.IntN(len(nodes))
	group := pubsub.WithGroupAck("workers", pubsub.GroupOptions{AckWait: time.Hour, MaxPending: 1 + r.IntN(10)})

	hung, quick := make(chan struct{}), int64(r.IntN(5))
	defer close(hung)
	var taken atomic.Int64
	dies := work(t, dial(t, nodes[doomed]), "kept.jobs", group, func() {
		if taken.Add(1) > quick {
			<-hung
		}
	})
	var others []*worker
	var alive []*node
	for i, n := range nodes {
		if i != doomed {
			others = append(others, work(t, dial(t, n), "kept.jobs", group, nil))
			alive = append(alive, n)
		}
	}
	publisher := dial(t, alive[0])
	var want []string
	for i := 0; taken.Load() <= quick; i++ {
		want = append(want, fmt.Sprint("before ", i))
		send(t, publisher, "kept.jobs", want[i])
	}
	nodes[doomed].kill()
	for _, text := range numbered(0, 30) {
		want = append(want, text)
		send(t, publisher, "kept.jobs", text)
	}
	worked := func() []string {
		return slices.Compact(slices.Sorted(slices.Values(doneBy(append(others, dies)...))))
	}
	eventually(t, func() bool { return len(worked()) >= len(want) }, "all messages to be worked on")
	require.ElementsMatch(t, want, worked())
}

// Members of a group without acknowledgement that are at a killed server get nothing
// more: it goes to the others.
func TestAGroupWithoutAcknowledgementLosesAServer(t *testing.T) {
	t.Parallel()
	nodes := three(t, server(t).URL(), newPrefix())
	var workers []*worker
	for _, n := range nodes {
		workers = append(workers, work(t, dial(t, n), "live.jobs", pubsub.WithGroup("workers"), nil))
	}
	publisher := dial(t, nodes[0])
	send(t, publisher, "live.jobs", "before")
	eventually(t, func() bool { return len(doneBy(workers...)) == 1 }, "a message")
	nodes[2].kill()
	for i := 0; len(doneBy(workers[:2]...)) < 50; i++ {
		send(t, publisher, "live.jobs", fmt.Sprint("after ", i))
	}
	all := doneBy(workers...)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(all))), len(all), "each at most once")
}
