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

func TestBlockHasPublishersWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p, publisher, other := s.peer(), s.peer(), s.peer()
		other.subscribe(1, "a")
		p.slowed(proto.PolicyBlock, 2, 3)
		s.publishNumbers("a", 1, 5)
		done := make(chan error, 1)
		go func() { done <- publisher.publish("a", "6") }()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Empty(t, done)
		require.Equal(t, numbers("a", 1, 5), other.take(), "nothing was published")
		require.Equal(t, 1, s.Statistics().Waiting)
		require.NoError(t, p.publish("b", ""), "other topics go on")
		p.consume(1, 1)
		require.NoError(t, <-done)
		require.Equal(t, numbers("a", 1, 3), p.take())
		require.Equal(t, numbers("a", 6, 6), other.take())
		p.consume(1, 100)
		require.Equal(t, numbers("a", 4, 6), p.take())
		require.Zero(t, s.Statistics().Dropped)
	})
}

func TestBlockFailsWhenThePublishersTimeIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p, other, publisher := s.peer(), s.peer(), s.peer()
		other.subscribe(1, "a")
		p.slowed(proto.PolicyBlock, 1, 1)
		s.publishNumbers("a", 1, 2)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.PublishWith(ctx, "a", "3")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
		require.ErrorContains(t, err, "nothing was published")

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = publisher.publishWith(ctx, proto.Publication[string]{Topic: "a", Data: []byte("3")})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Second)
		require.Equal(t, numbers("a", 1, 2), other.take())
		require.Equal(t, uint64(2), s.Statistics().Blocked)
	})
}

// Who takes nothing holds everybody up once, and then nobody.
func TestBlockHoldsUpForALimitedTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBlockTimeout(3*time.Second))
		p := s.peer()
		p.slowed(proto.PolicyBlock, 1, 1)
		s.publishNumbers("a", 1, 2)
		start := time.Now()
		for i := range 100 {
			err := s.Publish("a", "3")
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.ErrorContains(t, err, "WithBlockTimeout")
			require.Equal(t, 3*time.Second, time.Since(start), "attempt %d", i)
		}
		p.consume(1, 1)
		synctest.Wait()
		s.publishNumbers("a", 3, 3)
		p.consume(1, 2)
		require.Equal(t, numbers("a", 1, 3), p.take())
	})
}

// A publisher that waits for its own subscription gets its credit meanwhile, and an
// error if there is none.
func TestBlockDoesNotDeadlockAConnectionWithItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.slowed(proto.PolicyBlock, 1, 1)
		done := make(chan error, 10)
		for i := range 10 {
			go func() { done <- p.publish("a", fmt.Sprint(i)) }()
		}
		time.Sleep(time.Second)
		require.Len(t, done, 2)
		p.consume(1, 3)
		time.Sleep(time.Second)
		require.Len(t, done, 5)
		p.close(1) // behind the publishers, who are refused first
		time.Sleep(time.Second)
		require.Len(t, done, 10)
		require.Equal(t, uint64(5), s.Statistics().Blocked)
	})
}

// Many publishers at the same time do not overfill the queue.
func TestBlockIsExactWithManyPublishers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const each = 200
		s := serveMemory(t)
		p, q := s.peer(), s.peer()
		for _, p := range []*peer{p, q} {
			p.mustOpen(proto.Opening{Number: 1, Filter: ">", WindowBytes: wide, Policy: proto.PolicyBlock, QueueMessages: 10, QueueBytes: wide})
		}
		done := make(chan error, 8)
		for i := range cap(done) {
			go func() {
				var err error
				for n := 1; n <= each && err == nil; n++ {
					err = s.Publish(fmt.Sprint("a", i), fmt.Sprint(n))
				}
				done <- err
			}()
		}
		for len(done) < cap(done) {
			synctest.Wait()
			require.LessOrEqual(t, s.Statistics().Queued, 2*10)
			p.consume(1, 3)
			q.consume(1, 2)
		}
		p.consume(1, 100)
		q.consume(1, 100)
		for range cap(done) {
			require.NoError(t, <-done)
		}
		for _, p := range []*peer{p, q} {
			got := p.take()
			require.Len(t, got, 1+each*cap(done))
			next := make(map[string]int)
			for _, text := range got[1:] {
				var topic string
				var n int
				_, err := fmt.Sscanf(text, "%s %d", &topic, &n)
				require.NoError(t, err)
				next[topic]++
				require.Equal(t, next[topic], n)
			}
		}
		require.Zero(t, s.Statistics().Dropped)
	})
}

func TestAnEndedSubscriptionBlocksNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		for _, end := range []func(*peer){func(p *peer) { p.close(1) }, func(p *peer) { p.Stop() }} {
			p := s.peer()
			p.slowed(proto.PolicyBlock, 1, 1)
			s.publishNumbers("a", 1, 2)
			done := make(chan error, 1)
			go func() { done <- s.Publish("a", "3") }()
			synctest.Wait()
			require.Empty(t, done)
			end(p)
			require.NoError(t, <-done)
		}
	})
}

func TestStopEndsPublishersThatWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.slowed(proto.PolicyBlock, 1, 1)
		s.publishNumbers("a", 1, 2)
		done := make(chan error, 1)
		go func() { done <- s.Publish("a", "3") }()
		synctest.Wait()
		s.Stop()
		require.Error(t, <-done)
	})
}
