package pubsub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// Clients that do everything at the same time, and whose connections end in the middle
// of it, lock nothing up and leave nothing behind.
func TestEverythingAtTheSameTimeLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &countingBroker{Broker: remembering(50)}
		s := serveMemory(t, pubsub.WithBroker(b), pubsub.WithBlockTimeout(10*time.Millisecond), pubsub.WithServerOptions(arpc.WithSendQueue(16, 16<<10)))
		other := serveMemory(t, pubsub.WithBroker(b))
		s.HandleSlow(func(c pubsub.SlowConsumer) { s.Publish("kept.slow", c.Filter) })
		var working sync.WaitGroup
		for i := range 8 {
			working.Go(func() {
				w := stressed{s: s, random: rand.New(rand.NewPCG(uint64(i), 0))}
				for range 400 {
					w.act()
				}
				w.peer.Stop()
			})
		}
		for range 100 {
			s.Statistics()
			s.Subscriptions()
			other.Publish("kept.a", "from another server")
			time.Sleep(time.Millisecond)
		}
		working.Wait()
		synctest.Wait()
		stats := s.Statistics()
		require.Equal(t, []int{0, 0, 0, 0, 0}, []int{stats.Subscriptions, stats.Filters, stats.Present, stats.Queued, stats.Waiting})
		require.Zero(t, b.held.Load())
		require.Empty(t, other.present("kept.a"))
		require.Positive(t, stats.Sent)
	})
}

// stressed is a client that does something at random, again and again.
type stressed struct {
	s      *served
	random *rand.Rand
	peer   *peer
	number uint64
}

var stressFilters = []string{"kept.a", "kept.*", ">", "b", "b.*"}

func (w *stressed) act() {
	r := w.random
	if w.peer == nil || w.peer.State() == arpc.StateClosed {
		w.peer, w.number = w.s.peer(), 0
	}
	p, number := w.peer, uint64(r.IntN(int(w.number)+1))
	switch n := r.IntN(100); {
	case n < 30:
		w.open()
	case n < 40:
		p.Call(proto.Close, proto.AppendNumber(nil, number), nil, time.Minute)
	case n < 60:
		p.publish([]string{"kept.a", "kept.b", "b", "b.c"}[r.IntN(4)], fmt.Sprint(n))
	case n < 75:
		p.Notify(proto.Credit, proto.Consumed{Number: number, Messages: uint64(r.IntN(20)), Bytes: 1000}.Append(nil), time.Minute)
	case n < 85:
		p.Notify(proto.Settle, proto.Settled{Number: number, Tag: uint64(r.IntN(10)), Acknowledged: n%2 == 0}.Append(nil), time.Minute)
	case n < 90:
		p.old([]string{proto.Subscribe, proto.Unsubscribe, proto.Publish, proto.PublishToOne}[r.IntN(4)], "b", "x")
	case n < 94:
		time.Sleep(time.Millisecond)
	case n < 96:
		w.s.Presence(context.Background(), "kept.a")
	case n < 98:
		arpctest.FaultsOf(p.nc).CutAfter(r.Int64N(1000))
	default:
		p.Stop()
	}
}

// open opens a subscription of any kind.
func (w *stressed) open() {
	r := w.random
	w.number++
	o := proto.Opening{
		Number: w.number, Filter: stressFilters[r.IntN(len(stressFilters))],
		WindowMessages: r.IntN(10), WindowBytes: wide, Policy: r.IntN(6), QueueMessages: 1 + r.IntN(5), QueueBytes: wide,
		Events: r.IntN(4) == 0,
	}
	if r.IntN(4) == 0 {
		o.MemberID = fmt.Sprint(r.IntN(3))
	}
	if r.IntN(3) == 0 {
		o.Group, o.Ack, o.MaxPending, o.AckWait = fmt.Sprint("g", r.IntN(2)), r.IntN(2) == 0, 3, 5*time.Millisecond
	} else {
		o.Start = r.IntN(5)
	}
	w.peer.open(o)
}
