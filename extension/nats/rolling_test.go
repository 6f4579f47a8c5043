package nats_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// load is publishing and subscribing that goes on while servers come and go.
type load struct {
	done        atomic.Bool
	publishing  sync.WaitGroup
	published   []atomic.Int64 // by each publisher, and acknowledged
	subscribers []*inbox
}

// begin has publishers publish to one topic, with IDs, and subscribers subscribe to it,
// each connected to some of the nodes, in any order.
func begin(t testing.TB, r *rand.Rand, publishers, subscribers int, nodes []*node) *load {
	l := &load{published: make([]atomic.Int64, publishers)}
	anyOrder := func() []*node {
		all := make([]*node, len(nodes))
		for i, at := range r.Perm(len(nodes)) {
			all[i] = nodes[at]
		}
		return all
	}
	for range subscribers {
		l.subscribers = append(l.subscribers, subscribe(t, dial(t, anyOrder()...), "kept.a"))
	}
	for i := range publishers {
		c := dial(t, anyOrder()...)
		l.publishing.Go(func() {
			for ; !l.done.Load() && t.Context().Err() == nil; l.published[i].Add(1) {
				sendSafely(t, c, "kept.a", fmt.Sprintf("%d/%d", i, l.published[i].Load()))
			}
		})
	}
	return l
}

// some waits until all have published some more.
func (l *load) some(t testing.TB, messages int64) {
	t.Helper()
	for i := range l.published {
		before := l.published[i].Load()
		eventually(t, func() bool { return l.published[i].Load() >= before+messages }, "publisher %d to go on", i)
	}
}

// end checks that every subscriber got all that was acknowledged, once and in order, and
// was told so.
func (l *load) end(t testing.TB) {
	t.Helper()
	l.done.Store(true)
	l.publishing.Wait()
	want, total := make(map[int][]string), 0
	for i := range l.published {
		want[i] = numbered(i, int(l.published[i].Load()))
		total += len(want[i])
	}
	for _, s := range l.subscribers {
		eventually(t, func() bool { return len(s.messages()) >= total }, "%d messages", total)
		require.Equal(t, want, publishersOf(s.messages()))
		require.Equal(t, l.subscribers[0].messages(), s.messages(), "all in one order")
		require.NotContains(t, s.all(), "recovered false")
	}
}

// restart replaces a node by another with the same address, as it should be done.
func restart(t testing.TB, n *node, url string, opts ...nats.Option) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, n.Shutdown(ctx))
	n.stop()
	*n = *serve(t, url, n.address, opts...)
}

// Every server is replaced, one after the other, while clients publish and subscribe:
// nothing that was acknowledged is lost, and each subscriber gets it once, in order.
func TestARollingRestartOfServers(t *testing.T) {
	t.Parallel()
	r, url := random(t), server(t).URL()
	opts := []nats.Option{newPrefix(), keep(100_000)}
	nodes := three(t, url, opts...)
	l := begin(t, r, 2, 4, nodes[:])
	for _, i := range r.Perm(len(nodes)) {
		l.some(t, r.Int64N(20))
		restart(t, nodes[i], url, opts...)
		l.some(t, 1+r.Int64N(20))
	}
	l.end(t)
}

// The same where each of three machines has a server and a NATS server, and both restart.
func TestARollingRestartOfMachines(t *testing.T) {
	t.Parallel()
	r, c := random(t), cluster(t)
	opts := []nats.Option{newPrefix(), keep(100_000), nats.WithReplicas(3)}
	var nodes []*node
	for _, s := range c {
		nodes = append(nodes, serve(t, s.URL()+","+c.URL(), "", opts...))
	}
	l := begin(t, r, 2, 4, nodes)
	for _, i := range r.Perm(len(nodes)) {
		l.some(t, r.Int64N(20))
		c[i].Stop()
		require.NoError(t, c[i].Start())
		restart(t, nodes[i], c[i].URL()+","+c.URL(), opts...)
		l.some(t, 1+r.Int64N(20))
	}
	l.end(t)
}

// Servers are killed instead, and NATS goes away and comes back meanwhile.
func TestServersAndNATSThatFailLoseNothingAcknowledged(t *testing.T) {
	t.Parallel()
	r, s := random(t), server(t)
	opts := []nats.Option{newPrefix(), keep(100_000)}
	nodes := three(t, s.URL(), opts...)
	l := begin(t, r, 2, 4, nodes[:])
	for range 6 {
		l.some(t, 1+r.Int64N(20))
		switch n := nodes[r.IntN(len(nodes))]; r.IntN(3) {
		case 0:
			n.kill()
			*n = *serve(t, s.URL(), n.address, opts...)
		case 1:
			s.Stop()
			require.NoError(t, s.Start())
		case 2:
			n.valve.shut()
			n.valve.open()
		}
	}
	l.some(t, 1)
	l.end(t)
}

// What a group with acknowledgement has to do is done, whichever server is replaced.
func TestAGroupOverARollingRestartOfServers(t *testing.T) {
	t.Parallel()
	r, url := random(t), server(t).URL()
	opts := []nats.Option{newPrefix(), keep(100_000)}
	nodes, o := three(t, url, opts...), pubsub.GroupOptions{MaxPending: 1 + r.IntN(20)}
	var workers []*inbox
	for i := range nodes {
		c := dial(t, nodes[i], nodes[(i+1)%3], nodes[(i+2)%3])
		workers = append(workers, subscribe(t, c, "kept.a", pubsub.WithGroupAck("workers", o)))
	}
	l := begin(t, r, 2, 0, nodes[:])
	for _, i := range r.Perm(len(nodes)) {
		l.some(t, 1+r.Int64N(20))
		restart(t, nodes[i], url, opts...)
	}
	l.some(t, 1)
	l.done.Store(true)
	l.publishing.Wait()
	requireWorked(t, l, workers)
}

// requireWorked waits until all that was published has been worked on.
func requireWorked(t testing.TB, l *load, workers []*inbox) {
	var want []string
	for i := range l.published {
		want = append(want, numbered(i, int(l.published[i].Load()))...)
	}
	eventually(t, func() bool {
		worked := make(map[string]bool)
		for _, w := range workers {
			for _, text := range w.messages() {
				worked[text] = true
			}
		}
		return len(worked) >= len(want)
	}, "%d messages to be worked on", len(want))
}
