package pubsub

import (
	"context"

	"github.com/arpc-go/arpc"
)

// SubscribeWith calls fn with each message to a topic that filter matches, in the
// server's own process: see Client.SubscribeWith. The subscription has the queue, the
// window and the policy of one of a client; no access rule is asked, and nothing waits
// for fn but what is behind in its queue. Each call makes a subscription of its own.
// Stop and Shutdown end it, without waiting for a callback that runs.
func (s *Server) SubscribeWith(ctx context.Context, filter string, fn func(*Topic), opts ...SubscribeOption) (*Subscription, error) {
	engine := []arpc.Option{arpc.WithCodec(s.Codec), arpc.WithKeepalive(0, 0)}
	c, err := NewClient(s.dialLocal, WithClientHandler(arpc.NewHandler()), WithLogger(s.settings.logger), WithClientOptions(engine...))
	if err != nil {
		return nil, err
	}
	sub, err := c.SubscribeWith(ctx, filter, fn, opts...)
	if err != nil {
		c.Client.Stop()
		return nil, err
	}
	started := s.start(func() {
		select {
		case <-s.ctx.Done():
		case <-sub.done:
		}
		c.stop()
	})
	if !started {
		c.stop()
		return nil, arpc.ErrServerClosed
	}
	return sub, nil
}
