package nats

import (
	"context"
	"sync"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// window bounds how much of what was published without an acknowledgement the NATS server
// has not handled yet. Otherwise a publisher could be ahead of those who receive by all
// that there is of buffers, and they of what they do.
type window struct {
	b *Broker

	mu        sync.Mutex
	published uint64 // bytes, since the Broker was made
	handled   uint64 // of them
	asking    bool   // the server is being asked
	changed   chan struct{}
}

// windowBytes counts each message as messageBytes more than it has.
const (
	windowBytes  = 1 << 20
	messageBytes = 512
)

// enter waits until there is room, and takes it.
func (w *window) enter(ctx context.Context, size int) error {
	for {
		full := w.take(size)
		if full == nil {
			return nil
		}
		select {
		case <-full:
		case <-w.b.done:
			return pubsub.ErrBrokerClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take returns nil if there is room, or what is closed when there may be.
func (w *window) take(size int) (full <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := w.published - w.handled
	if open >= windowBytes/2 && !w.asking && w.b.spawn(w.ask) {
		w.asking = true
	}
	if open < windowBytes {
		w.published += uint64(size) + messageBytes
		return nil
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// ask waits until the server has handled what was published before. What was lost with
// the connection needs no room either.
func (w *window) ask() {
	w.mu.Lock()
	upTo := w.published
	w.mu.Unlock()
	w.b.handled()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handled, w.asking = upTo, false
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// handled returns when the server has handled what was sent to it so far, or the
// connection is lost.
func (b *Broker) handled() {
	ctx, cancel := b.gate.while(b.life)
	defer cancel()
	for ctx.Err() == nil && b.flushOnce(ctx) != nil {
	}
}
