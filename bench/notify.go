package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// notify has senders that notify as fast as they may. What counts is what has
// arrived, where its order is checked, and that it is all in the end.
type notify struct {
	name    string
	senders int
	size    int // of a body in bytes, at least minBody
}

func (w notify) Name() string { return w.name }

func (w notify) Title() string {
	return fmt.Sprintf("notifications of %d bytes, %s, 1 connection, counted and checked by the receiver", w.size, plural(w.senders, "sender"))
}

func (w notify) Server(*serverTask) {}

func (w notify) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	conns, err := dialAll(ctx, p, s.addr, 1)
	if err != nil {
		return err
	}
	defer conns.close()
	conn, ok := conns[0].(NotifyConn)
	if !ok {
		return unfit("no notifications")
	}
	var loops []loop
	for id := range w.senders {
		t := &tally{id: uint64(id)}
		loops = append(loops, &notifyLoop{tally: t, sender: conn.Sender(), body: newNotice(w.size)})
	}
	err = runLoops(ctx, fail, loops, func() error { return m.Measure(ctx, state.notices) })
	if err != nil {
		return err
	}
	return w.arrived(ctx, s, loops, m)
}

// look is how long to wait before a server is asked again.
const look = 10 * time.Millisecond

// arrived waits until all that was sent is there, and compares.
func (w notify) arrived(ctx context.Context, s *remote, loops []loop, m *Meter) error {
	ctx, cancel := m.patiently(ctx)
	defer cancel()
	for {
		now, err := s.ask(doState)
		if err != nil {
			return err
		}
		if now.notices() >= total(loops) {
			return compareSenders(now.Senders, loops, &m.result)
		}
		if err := wait(ctx, look); err != nil {
			return fmt.Errorf("%w: %d sent, %d arrived: %w", errWrongNotice, total(loops), now.notices(), err)
		}
	}
}

func compareSenders(senders []arrived, loops []loop, res *Result) error {
	senders = append(senders, make([]arrived, len(loops))...) // the last may be missing
	for id, l := range loops {
		got := senders[id]
		if got.Count != l.done() {
			return fmt.Errorf("%w: sender %d sent %d, %d arrived", errWrongNotice, id, l.done(), got.Count)
		}
		if got.Sum == 0 {
			continue // in order, as each was checked
		}
		res.Unordered = true
		if got.Sum != sumTo(got.Count) {
			return fmt.Errorf("%w: sender %d: not each of its %d arrived once", errWrongNotice, id, got.Count)
		}
	}
	return nil
}

// sumTo is the sum of the mixed numbers from 1 to n.
func sumTo(n uint64) (sum uint64) {
	for i := uint64(1); i <= n; i++ {
		sum += mix(i)
	}
	return sum
}

type notifyLoop struct {
	*tally
	sender Sender
	body   []byte
}

func (l *notifyLoop) run(stop *atomic.Bool) error {
	err := l.repeat(stop, func(n uint64) error {
		stamp(l.body, l.id, n)
		return l.sender.Notify(l.body)
	})
	if f, ok := l.sender.(Flusher); ok && err == nil {
		return f.Flush()
	}
	return err
}
