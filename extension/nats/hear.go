package nats

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// hearer is one who hears what is announced.
type hearer struct {
	sub *nats.Subscription // set by Hear before it returns, never changed

	mu sync.Mutex // held while fn is called
	fn func([]byte)
}

func (h *hearer) hear(m *nats.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fn != nil {
		h.fn(m.Data)
	}
}

// stop returns when fn is not called any more.
func (h *hearer) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fn = nil
}

// Announce says pubsub.Broker: it is heard at most once. While NATS is away it waits, as
// WithWait says.
func (b *Broker) Announce(ctx context.Context, data []byte) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	return b.send(ctx, &nats.Msg{Subject: b.names.announce, Data: data})
}

// Hear says pubsub.Broker.
func (b *Broker) Hear(fn func(data []byte)) (stop func(), err error) {
	ctx, cancel := b.bounded(b.life)
	defer cancel()
	h := &hearer{fn: fn}
	if err := b.addHearer(h); err != nil {
		return nil, err
	}
	if h.sub, err = b.nc.Subscribe(b.names.announce, h.hear); err == nil {
		err = b.settle(ctx)
	}
	stop = sync.OnceFunc(func() { b.removeHearer(h) })
	if err != nil {
		stop()
		return nil, b.failed(ctx, "hear", err)
	}
	return stop, nil
}

func (b *Broker) addHearer(h *hearer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return pubsub.ErrBrokerClosed
	}
	b.hearers[h] = struct{}{}
	return nil
}

func (b *Broker) removeHearer(h *hearer) {
	if h.sub != nil {
		h.sub.Unsubscribe() // an error says that the connection is closed
	}
	h.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.hearers, h)
}
