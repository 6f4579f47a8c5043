package pubsub

import (
	"context"
	"sort"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// reading is where a subscription begins, and the page of history it is at. Live
// messages with offsets are not kept meanwhile: they are read, unless nothing else is.
type reading struct {
	from  Start
	head  Position // up to which from is read, of StartSince and StartLast
	page  Page
	known uint64 // the offset up to which the client knows that it has everything
}

// pageLength is how many messages are read at a time.
const pageLength = 128

// beginReading reads the first page. Live messages have to be seen by then.
func (s *Server) beginReading(ctx context.Context, filter string, from Start) (reading, error) {
	r := reading{from: from}
	if r.bounded() {
		page, err := s.broker.Read(ctx, filter, Start{Kind: StartNew}, 1)
		if err != nil {
			return r, err
		}
		r.head = page.Next
	}
	err := r.read(ctx, s.broker, filter)
	if from.Kind == StartNew {
		r.page.Complete = true // nothing was asked for
	}
	r.known = r.start().Offset
	return r, err
}

// bounded reports whether the start says which messages of those that are there are
// wanted. What is published later is always wanted.
func (r *reading) bounded() bool { return r.from.Kind == StartSince || r.from.Kind == StartLast }

func (r *reading) read(ctx context.Context, b Broker, filter string) (err error) {
	r.page, err = b.Read(ctx, filter, r.from, pageLength)
	if err == nil && r.bounded() {
		all := r.page.Messages
		wanted := sort.Search(len(all), func(i int) bool { return all[i].Offset > r.head.Offset })
		r.page.Messages = all[:wanted]
		r.page.More = r.page.More && wanted == len(all)
		if !r.page.More {
			r.page.Next = r.head
		}
	}
	return err
}

// readOn reads the next page.
func (r *reading) readOn(ctx context.Context, b Broker, filter string) error {
	if !r.page.More {
		r.from.Kind = StartAfter
	}
	r.from.Position = r.page.Next
	return r.read(ctx, b, filter)
}

// start returns a position behind which everything is going to be sent.
func (r *reading) start() Position {
	switch page := &r.page; {
	case r.from.Kind == StartAfter && page.Complete:
		return r.from.Position
	case len(page.Messages) > 0:
		return Position{page.Next.Epoch, page.Messages[0].Offset - 1}
	}
	return r.page.Next
}

// startBefore moves the start of what is not read from history.
func (r *reading) startBefore(offset uint64) {
	if r.page.Next.Offset >= offset {
		r.page.Next.Offset = offset - 1
		r.known = r.page.Next.Offset
	}
}

// begin sends what there is to send behind the answer that opened the subscription. It
// waits for the connection if that is full.
func (s *subscription) begin() {
	r := &s.reading
	if !s.old {
		at := r.start()
		recovered := r.page.Complete || s.member != nil
		started := s.note(&proto.Noted{Kind: proto.NoteStarted, Recovered: recovered, Epoch: at.Epoch, Offset: at.Offset})
		if !s.pushWaiting(started) {
			return
		}
		if r.from.Kind != StartNew {
			s.server.counts.started(recovered)
		}
	}
	if len(r.page.Messages) > 0 || r.page.More || !s.caughtUp() {
		s.startReplay()
	}
}

func (s *subscription) startReplay() {
	s.mu.Lock()
	s.wake = make(chan struct{}, 1)
	s.mu.Unlock()
	s.server.start(s.replay)
}

// replay sends what is read from history until that is all there is.
func (s *subscription) replay() {
	r := &s.reading
	for {
		for _, m := range r.page.Messages {
			if !s.sendReplayed(m) {
				return
			}
		}
		if !r.page.More && s.caughtUp() {
			return
		}
		if err := r.readOn(s.server.ctx, s.server.broker, s.filter); err != nil {
			s.endWith(err)
			return
		}
		if r.page.Lost && !s.tellLost() {
			return
		}
	}
}

// tellLost says that history was evicted while it was read.
func (s *subscription) tellLost() bool {
	s.server.counts.started(false)
	return s.pushWaiting(s.note(&proto.Noted{Kind: proto.NoteGap}))
}

// sendReplayed sends a message as soon as the window and the connection have room for
// it. It reports false when the subscription is over.
func (s *subscription) sendReplayed(m *Message) bool {
	e := s.alone(m, 0, 0)
	for ok := false; !ok; {
		var over bool
		if ok, over = s.spendReplayed(e); over {
			return false
		}
		if !ok {
			<-s.wake
		}
	}
	s.reading.known = m.Offset
	switch outcomeOf(s.client.PushMsg(e.msg, arpc.TimeForever)) {
	case undeliverable:
		return s.lostReplayed(e)
	case connectionOver:
		return false
	}
	return true
}

// spendReplayed takes the room for a message from the window if that is open, or says
// that the subscription is over.
func (s *subscription) spendReplayed(e entry) (ok, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != opening {
		return false, true
	}
	if !s.window.open(s.old) {
		return false, false
	}
	s.spend(e)
	return true, false
}

// lostReplayed tells of a message that the peer cannot get.
func (s *subscription) lostReplayed(e entry) bool {
	s.mu.Lock()
	s.window.messages++
	s.window.bytes += e.size
	s.sent--
	s.unread++
	s.mu.Unlock()
	return s.pushWaiting(s.note(&proto.Noted{Kind: proto.NoteGap, Count: 1}))
}

// pushWaiting sends a note. It reports false when the subscription is over.
func (s *subscription) pushWaiting(e entry) bool {
	return !s.hasEnded() && outcomeOf(s.client.PushMsg(e.msg, arpc.TimeForever)) != connectionOver
}

// caughtUp makes the subscription live if the client knows all that was published. It
// is the only one to send before.
func (s *subscription) caughtUp() bool {
	r := &s.reading
	if next := r.page.Next; next.Offset > r.known {
		r.known = next.Offset
		if !s.pushWaiting(s.note(&proto.Noted{Kind: proto.NoteLive, Epoch: next.Epoch, Offset: next.Offset})) {
			return true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state != opening:
		return true
	case s.seen > r.page.Next.Offset && !s.holds:
		return false
	}
	s.state, s.behind = live, r.page.Next.Offset
	s.reading = reading{}
	s.drain()
	for _, m := range s.held {
		s.send(m.entry, m.key)
	}
	s.held = nil
	return true
}
