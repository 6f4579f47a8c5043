package pubsub

import (
	"context"
	"time"

	"github.com/arpc-go/arpc"
)

// A publisher reserves room in the queues of all subscriptions with the policy Block
// that its message is for, or in none, and gives it back when the Broker has the message,
// which is then in the queues, or has passed them.

// reservation is the room that one message has.
type reservation struct {
	subscriptions []*subscription
	size          int
}

func (r *reservation) release() {
	for _, s := range r.subscriptions {
		s.unreserve(r.size)
	}
	r.subscriptions = r.subscriptions[:0]
}

// reserve waits for room for a message. Without an error there is.
func (s *Server) reserve(ctx context.Context, m *Message, r *reservation) error {
	r.size = len(m.Data) + len(m.Topic) + len(m.Key)
	for {
		full := s.tryReserve(m.Topic, r)
		if full == nil {
			return nil
		}
		if err := s.awaitRoom(ctx, full); err != nil {
			s.counts.blocked.Add(1)
			return err
		}
	}
}

// noRoom is what a publisher waits for.
type noRoom struct {
	filter string
	room   <-chan struct{}
	since  time.Time
}

// tryReserve reserves room in all subscriptions, or in none and returns one that has
// none.
func (s *Server) tryReserve(topic string, r *reservation) *noRoom {
	for _, sub := range s.blockers.Match(topic, nil) {
		if full := sub.reserve(r.size); full != nil {
			r.release()
			return full
		}
		r.subscriptions = append(r.subscriptions, sub)
	}
	return nil
}

func (s *Server) awaitRoom(ctx context.Context, full *noRoom) error {
	s.counts.waiting.Add(1)
	defer s.counts.waiting.Add(-1)
	timer := time.NewTimer(time.Until(full.since.Add(s.settings.blockTimeout)))
	defer timer.Stop()
	select {
	case <-full.room:
		return nil
	case <-ctx.Done():
		return arpc.Errorf(arpc.CodeOf(ctx.Err()), "pubsub: a subscription to %s has no room (Block); nothing was published: %w", full.filter, context.Cause(ctx))
	case <-s.ctx.Done():
		return arpc.ErrServerClosed
	case <-timer.C:
		return arpc.Errorf(arpc.CodeResourceExhausted, "pubsub: a subscription to %s takes nothing for %v (Block, WithBlockTimeout); nothing was published", full.filter, s.settings.blockTimeout)
	}
}

// reserve takes room for one message, or returns what to wait for.
func (s *subscription) reserve(size int) *noRoom {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages, bytes := s.queue.Messages()
	messages, bytes = messages+s.reserved.messages, bytes+s.reserved.bytes
	if messages == 0 || messages < s.limit.messages && bytes+size <= s.limit.bytes || !s.takes() {
		s.reserved.messages++
		s.reserved.bytes += size
		return nil
	}
	if s.room == nil {
		s.room = make(chan struct{})
	}
	if s.full.IsZero() {
		s.full = time.Now()
		s.tooSlow()
	}
	return &noRoom{s.filter, s.room, s.full}
}

func (s *subscription) unreserve(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved.messages--
	s.reserved.bytes -= size
	s.wakePublishers()
}

// madeRoom is called when the subscription has taken something, or has ended. Guarded
// by mu.
func (s *subscription) madeRoom() {
	s.full = time.Time{}
	s.wakePublishers()
}

// wakePublishers lets those who wait for room look again. Guarded by mu.
func (s *subscription) wakePublishers() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}
