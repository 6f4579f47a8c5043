package pubsub

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// outbox gathers messages that nobody waits for, so that those of many goroutines, or of
// one that is faster than the connection, leave in one notification. A goroutine that
// exists only while there are any sends them: at once where a processor is free, and
// otherwise when a batch is full or a publisher pauses.
type outbox struct {
	client *Client     // set by NewClient, never changed
	open   atomic.Bool // there is a connection, to a server that takes batches

	mu      sync.Mutex
	batch   *batch // nil: nothing waits
	sending bool
	moved   chan struct{} // closed when there is room again, or all is sent; nil: nobody waits
}

// batch is the body of a Batch, and how many messages are in it.
type batch struct {
	body  []byte
	count int
}

var batchPool = sync.Pool{New: func() any { return &batch{body: make([]byte, 0, maxBatch+2*maxBatched)} }}

const (
	// maxBatch is how many bytes a batch has at most, but for its last message. Who
	// adds to a full one waits.
	maxBatch = 32 << 10
	// maxBatched is the length in bytes of the longest message that goes into one.
	maxBatched = 4 << 10
)

// takes reports whether a message is for the outbox.
func (o *outbox) takes(p *proto.Publication[string]) bool {
	return len(p.Data) <= maxBatched && o.open.Load()
}

// post sends a message, soon. It waits while others have a full batch under way.
func (o *outbox) post(ctx context.Context, p *proto.Publication[string]) error {
	o.mu.Lock()
	for o.batch != nil && len(o.batch.body) >= maxBatch {
		if err := o.wait(ctx); err != nil {
			return err
		}
	}
	if o.batch == nil {
		o.batch = batchPool.Get().(*batch)
	}
	o.batch.body = p.AppendToBatch(o.batch.body)
	o.batch.count++
	if !o.sending {
		o.sending = true
		go o.send()
	}
	o.mu.Unlock()
	return nil
}

// drain returns when all that was posted has been sent.
func (o *outbox) drain(ctx context.Context) error {
	o.mu.Lock()
	for o.sending {
		if err := o.wait(ctx); err != nil {
			return err
		}
	}
	o.mu.Unlock()
	return nil
}

// wait waits until something has moved. It is called with mu held, and returns with
// it, but for an error.
func (o *outbox) wait(ctx context.Context) error {
	if o.moved == nil {
		o.moved = make(chan struct{})
	}
	moved := o.moved
	o.mu.Unlock()
	select {
	case <-moved:
	case <-ctx.Done():
		return arpc.Unsent(ctx.Err())
	}
	o.mu.Lock()
	return nil
}

// send sends batch after batch until there is none.
func (o *outbox) send() {
	for b := o.take(); b != nil; b = o.take() {
		o.sendBatch(b)
		b.body, b.count = b.body[:0], 0
		batchPool.Put(b)
	}
}

// take returns what is to be sent next. If it is nothing nobody sends any more.
func (o *outbox) take() *batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.moved != nil {
		close(o.moved)
		o.moved = nil
	}
	b := o.batch
	o.batch, o.sending = nil, b != nil
	return b
}

func (o *outbox) sendBatch(b *batch) {
	method, body := proto.Batch, b.body
	if b.count == 1 {
		method, body = proto.Send, proto.LoneOfBatch(body)
	}
	if o.client.NotifyWith(o.client.life, method, body) != nil {
		o.client.stats.unsent.Add(uint64(b.count))
		return
	}
	o.client.stats.published.Add(uint64(b.count))
}
