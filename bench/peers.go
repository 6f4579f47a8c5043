package main

import (
	"context"
	"slices"
	"sync"
)

// peers are the systems of others, each in its fastest recommended set-up.
var peers = []Participant{
	natsEcho{},
	natsEcho{concurrent: true},
	cmdStream{},
	kitex{},
	rpcx{},
	netRPC{},
	drpcEcho{},
	connectEcho{},
	buffStreams{},
}

// peerVariants are other set-ups of them.
var peerVariants = []Participant{
	natsEcho{inProcess: true},
	cmdStream{plain: true},
	rpcx{service: true},
	rpcx{oneWay: true},
	netRPC{gob: true},
	drpcEcho{plain: true},
	drpcEcho{single: true},
	connectEcho{grpc: true},
	connectEcho{plain: true},
}

// newsroom is the broadcast of systems that have a stream to each subscriber and
// nothing to send one message to all: a queue for each, and a goroutine that
// empties it.
type newsroom struct {
	// Guarded by mu.
	mu     sync.Mutex
	queues map[chan []byte]struct{}
}

// deliver has send called with what is broadcast, until it fails or ctx ends.
// ready is called once nothing more is missed.
func (r *newsroom) deliver(ctx context.Context, ready func() error, send func(body []byte) error) error {
	queue := make(chan []byte, maxAhead)
	r.add(queue)
	defer r.remove(queue)
	err := ready()
	for err == nil {
		select {
		case body := <-queue:
			err = send(body)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

func (r *newsroom) add(queue chan []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queues == nil {
		r.queues = map[chan []byte]struct{}{}
	}
	r.queues[queue] = struct{}{}
}

func (r *newsroom) remove(queue chan []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.queues, queue)
}

// broadcast passes over subscribers that do not read.
func (r *newsroom) broadcast(body []byte) error {
	body = slices.Clone(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	for queue := range r.queues {
		select {
		case queue <- body:
		default:
		}
	}
	return nil
}
