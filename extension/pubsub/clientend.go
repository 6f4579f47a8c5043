package pubsub

import (
	"context"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// forget takes a subscription that is over out of the tables. It reports false if it
// was over. Guarded by mu.
func (c *Client) forget(s *Subscription) bool {
	if s.state == subOver {
		return false
	}
	c.stopped(s)
	delete(c.byNumber, s.number)
	delete(c.subs, s.key())
	if s.timer != nil {
		s.timer.Stop()
	}
	s.state = subOver
	return true
}

// stopped has nothing come any more that is for its filter. Guarded by mu.
func (c *Client) stopped(s *Subscription) {
	if c.byFilter[s.filter] == s {
		delete(c.byFilter, s.filter)
	}
}

// over ends a subscription of which nothing more is told.
func (s *Subscription) over(err error) {
	s.end.Do(func() {
		s.client.mu.Lock()
		s.err = err
		if !s.accepted {
			s.accepted = true
			close(s.ready)
		}
		s.client.mu.Unlock()
		close(s.done)
	})
}

// takeNumbers returns the numbers under which the server may know a subscription, which
// it is to forget.
func (c *Client) takeNumbers(s *Subscription) []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	numbers := s.loose
	if s.number != 0 {
		numbers = append(numbers, s.number)
	}
	s.number, s.loose = 0, nil
	return numbers
}

// dropRemote has the server forget a subscription, without waiting for it.
func (c *Client) dropRemote(s *Subscription) {
	for _, number := range c.takeNumbers(s) {
		c.dropNumber(s, number)
	}
}

func (c *Client) dropNumber(s *Subscription, number uint64) {
	if c.old.Load() {
		c.CallAsync(proto.Unsubscribe, oldBody(s.filter, nil), func(*arpc.Context) {}, openTimeout)
		return
	}
	c.NotifyWith(c.life, proto.Close, proto.AppendNumber(nil, number))
}

// closeRemote has the server forget a subscription that is over here.
func (c *Client) closeRemote(ctx context.Context, s *Subscription) (err error) {
	ctx = arpc.ContextWithWaitForReady(ctx, false)
	for _, number := range c.takeNumbers(s) {
		if c.old.Load() {
			err = c.CallWith(ctx, proto.Unsubscribe, oldBody(s.filter, nil), nil)
		} else {
			err = c.CallWith(ctx, proto.Close, proto.AppendNumber(nil, number), nil)
		}
	}
	if err != nil && ctx.Err() == nil && !arpc.IsRemote(err) && arpc.CodeOf(err) == arpc.CodeUnavailable {
		return nil // the server has forgotten it with the connection
	}
	return err
}
