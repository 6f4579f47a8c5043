package pubsub

import (
	"context"
	"iter"

	"github.com/arpc-go/arpc"
)

// SubscribeSeq is SubscribeWith for a loop in the place of a callback: it subscribes when
// it is ranged over, and ends the subscription when the loop is left. A message counts
// as consumed, and one of a group is acknowledged, when the loop asks for the next one
// or is left in order. The last pair has an error, and no message: of subscribing, of ctx, or of the subscription,
// when that is over. The functions of OnEvent are called on the loop's goroutine.
//
//	for topic, err := range client.SubscribeSeq(ctx, "orders.*") {
//		if err != nil {
//			return err
//		}
//		...
//	}
func (c *Client) SubscribeSeq(ctx context.Context, filter string, opts ...SubscribeOption) iter.Seq2[*Topic, error] {
	return func(yield func(*Topic, error) bool) {
		s, err := newSubscription(c, filter, nil, opts)
		if err == nil {
			_, err = c.add(s, false)
		}
		if err == nil {
			err = c.openFirst(ctx, s)
		}
		if err == nil {
			defer s.leave()
			err = s.each(ctx, yield)
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// each yields messages until there are none, and returns why, nil if the loop was left.
func (s *Subscription) each(ctx context.Context, yield func(*Topic, error) bool) error {
	var done *item
	for {
		it, due, ok := s.queue.take(done)
		if due {
			s.client.giveBack(s)
		}
		switch {
		case !ok && s.queue.over():
			return arpc.ErrClosed
		case !ok:
			done = nil
			select {
			case <-s.queue.ready:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		case it.topic != nil:
			if !s.yield(it.topic, yield) {
				return nil
			}
		case it.event != nil:
			s.tell(it.event)
			if it.event.Kind == EventEnded {
				return it.event.Err
			}
		}
		done = &it
	}
}

// yield runs the body of the loop, and settles the message.
func (s *Subscription) yield(t *Topic, yield func(*Topic, error) bool) (more bool) {
	returned := false
	defer func() {
		if !returned || !s.with.manualAck {
			s.settleUnsettled(t, returned)
		}
	}()
	more = yield(t, nil)
	returned = true
	return more
}

// leave ends the subscription of a loop.
func (s *Subscription) leave() {
	c := s.client
	c.mu.Lock()
	first := c.forget(s)
	c.mu.Unlock()
	s.queue.stop(nil)
	if first {
		c.dropRemote(s)
	}
	s.over(arpc.ErrClosed)
}
