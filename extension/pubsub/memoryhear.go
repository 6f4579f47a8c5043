package pubsub

import (
	"context"
	"slices"
	"sync"
)

// memoryHearer is one who hears what is announced.
type memoryHearer struct {
	queue   chan []byte
	stopped chan struct{}
	once    sync.Once
	gone    sync.WaitGroup
}

// hearQueue is how many announcements one who hears may be behind before those who
// announce wait for him.
const hearQueue = 1024

// Announce says Broker. It waits where somebody is too slow in hearing.
func (b *MemoryBroker) Announce(ctx context.Context, data []byte) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	hearers := b.hearers
	b.mu.Unlock()
	for _, h := range hearers {
		select {
		case h.queue <- data:
		case <-h.stopped:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Hear says Broker. fn is called on a goroutine of its own.
func (b *MemoryBroker) Hear(fn func(data []byte)) (stop func(), err error) {
	h := &memoryHearer{queue: make(chan []byte, hearQueue), stopped: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, ErrBrokerClosed
	}
	b.hearers = append(slices.Clip(b.hearers), h)
	h.gone.Go(func() { h.hear(fn) })
	return func() { b.stopHearing(h) }, nil
}

func (h *memoryHearer) hear(fn func([]byte)) {
	for {
		select {
		case <-h.stopped:
			return
		case data := <-h.queue:
			fn(data)
		}
	}
}

func (b *MemoryBroker) stopHearing(h *memoryHearer) {
	b.mu.Lock()
	b.hearers = slices.DeleteFunc(slices.Clone(b.hearers), func(other *memoryHearer) bool { return other == h })
	b.mu.Unlock()
	h.stop()
}

// stop returns when fn is not called any more.
func (h *memoryHearer) stop() {
	h.once.Do(func() { close(h.stopped) })
	h.gone.Wait()
}
