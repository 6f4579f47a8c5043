package main

import (
	"context"
	"fmt"
	"sync/atomic"
)

// broadcast has the server send each message to all subscribers, each of which
// checks what it gets. What counts is what they have got.
type broadcast struct {
	name        string
	subscribers int
	size        int // of a body in bytes, at least minBody
	ahead       int // messages on their way to a subscriber at most, up to maxAhead
}

func (w broadcast) Name() string { return w.name }

func (w broadcast) Title() string {
	title := fmt.Sprintf("broadcast of %s bytes to %s, deliveries", thousands(float64(w.size)), plural(w.subscribers, "subscriber"))
	if w.ahead == 1 {
		return title + ", a message when the last has reached all"
	}
	return title + fmt.Sprintf(", at most %d messages under way to each", w.ahead)
}

func (w broadcast) Server(*serverTask) {}

func (w broadcast) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	b, ok := p.(Broadcaster)
	if !ok {
		return unfit("no broadcast")
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	crowd := newCrowd(w.subscribers, w.ahead, fail)
	for range w.subscribers {
		conn, err := b.Subscribe(s.addr, crowd.subscriber())
		if err != nil {
			return err
		}
		defer conn.Close()
	}
	granting, stop := context.WithCancel(ctx)
	granted := make(chan uint64)
	go func() { granted <- crowd.grant(granting, s, w.size) }()
	err := m.Measure(ctx, func(state) uint64 { return crowd.delivered() })
	stop()
	until := <-granted
	if err != nil {
		return err
	}
	ctx, cancel := m.patiently(ctx)
	defer cancel()
	return crowd.await(ctx, until)
}

// crowd is all subscribers.
type crowd struct {
	ahead uint64
	fail  context.CancelCauseFunc
	each  []*subscriber
	// rings counts how many have message n, at n modulo its length.
	rings    []ring
	complete atomic.Uint64 // messages that all have
	more     chan struct{} // tells that complete has grown
}

type ring struct {
	got atomic.Int64
	_   [56]byte
}

type subscriber struct {
	_    [128]byte // subscribers share no cache line
	last atomic.Uint64
	_    [120]byte
}

func newCrowd(n, ahead int, fail context.CancelCauseFunc) *crowd {
	return &crowd{
		ahead: uint64(ahead),
		fail:  fail,
		each:  make([]*subscriber, 0, n),
		rings: make([]ring, ahead),
		more:  make(chan struct{}, 1),
	}
}

// subscriber returns what receives the messages of one more.
func (c *crowd) subscriber() func(body []byte) {
	s := &subscriber{}
	c.each = append(c.each, s)
	return func(body []byte) {
		_, n, err := readNotice(body)
		if err == nil && !s.last.CompareAndSwap(n-1, n) {
			err = fmt.Errorf("%w: number %d came after %d", errWrongNotice, n, s.last.Load())
		}
		if err != nil {
			c.fail(err)
			return
		}
		c.got(n)
	}
}

// got counts a delivery of message n. All messages before are counted by the
// same subscriber, so that they are complete in order.
func (c *crowd) got(n uint64) {
	r := &c.rings[n%c.ahead]
	if r.got.Add(1) < int64(cap(c.each)) {
		return
	}
	r.got.Store(0) // before n+ahead is allowed
	c.complete.Store(n)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// grant allows the server to go on when all subscribers have what it sent, until
// ctx ends. It returns the number of the last message that was allowed.
func (c *crowd) grant(ctx context.Context, s *remote, size int) (until uint64) {
	for {
		until = c.complete.Load() + c.ahead
		if err := s.tell(command{Do: doBroadcast, Until: until, Size: size}); err != nil {
			c.fail(err)
			return until
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			return until
		}
	}
}

// await waits until all subscribers have all messages up to a number.
func (c *crowd) await(ctx context.Context, until uint64) error {
	for c.complete.Load() < until {
		select {
		case <-c.more:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d sent to %d subscribers, %d delivered: %w", errWrongNotice, until, len(c.each), c.delivered(), context.Cause(ctx))
		}
	}
	return nil
}

func (c *crowd) delivered() (n uint64) {
	for _, s := range c.each {
		n += s.last.Load()
	}
	return n
}
