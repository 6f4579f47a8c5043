package main

import (
	"context"
	"fmt"
)

// PublishConn can publish to a topic.
type PublishConn interface {
	// Publisher returns what one goroutine publishes with, to the topic unread.
	Publisher() Sender
}

// unread is a topic that nobody subscribes to.
const unread = "unread"

// publish has publishers of a topic that nobody subscribes to. What counts is what
// the server says it has taken, which in the end must be all of it.
type publish struct {
	publishers int
	size       int // of a body in bytes, at least minBody
}

func (publish) Name() string { return "publish" }

func (w publish) Title() string {
	return fmt.Sprintf("publishing %d bytes to a topic without subscribers, %s, 1 connection, counted by the server", w.size, plural(w.publishers, "publisher"))
}

func (publish) Server(*serverTask) {}

func (w publish) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	conns, err := dialAll(ctx, p, s.addr, 1)
	if err != nil {
		return err
	}
	defer conns.close()
	conn, ok := conns[0].(PublishConn)
	if !ok {
		return unfit("no topics")
	}
	before, err := s.ask(doState)
	if err != nil {
		return err
	}
	var loops []loop
	for id := range w.publishers {
		t := &tally{id: uint64(id)}
		loops = append(loops, &notifyLoop{tally: t, sender: conn.Publisher(), body: newNotice(w.size)})
	}
	err = runLoops(ctx, fail, loops, func() error {
		return m.Measure(ctx, func(now state) uint64 { return now.Counted - before.Counted })
	})
	if err != nil {
		return err
	}
	return w.taken(ctx, s, before.Counted+total(loops), m)
}

// taken waits until the server has counted all that was published, and no more.
func (w publish) taken(ctx context.Context, s *remote, want uint64, m *Meter) error {
	ctx, cancel := m.patiently(ctx)
	defer cancel()
	for {
		now, err := s.ask(doState)
		switch {
		case err != nil:
			return err
		case now.Counted == want:
			return nil
		}
		if err := wait(ctx, look); err != nil || now.Counted > want {
			return fmt.Errorf("%w: the server counts %d published messages instead of %d: %w", errWrongNotice, now.Counted, want, err)
		}
	}
}
