package pubsub

import (
	"errors"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// send pushes a message, or puts it into the queue. Guarded by mu.
func (s *subscription) send(e entry, key string) {
	if !s.direct() {
		s.wait(e, key)
		s.drain()
		return
	}
	switch s.push(e) {
	case pushed:
		s.spend(e)
	case connectionFull:
		s.wait(e, key)
		s.startPump()
	case undeliverable:
		s.lost(e)
		s.drain()
	}
}

// direct reports whether nothing is before a message. Guarded by mu.
func (s *subscription) direct() bool {
	return s.state == live && !s.pumped && s.window.open(s.old) && s.queue.Idle()
}

// open reports whether something may be sent. The old form has no windows.
func (b bounds) open(old bool) bool { return old || b.messages > 0 && b.bytes > 0 }

// spend counts what was sent. Guarded by mu.
func (s *subscription) spend(e entry) {
	if e.free {
		return
	}
	s.window.messages--
	s.window.bytes -= e.size
	s.sent++
	if s.member != nil {
		s.member.sent(e.tag)
	}
}

// outcome is what became of a message that was to be pushed.
type outcome byte

const (
	pushed outcome = iota
	connectionFull
	connectionOver // or about to be, and the subscription with it
	undeliverable  // too large for the peer, or a coder refuses it
)

func (s *subscription) push(e entry) outcome {
	return outcomeOf(s.client.TryPush(e.msg))
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return pushed
	case errors.Is(err, arpc.ErrOverstock):
		return connectionFull
	case arpc.CodeOf(err) == arpc.CodeUnavailable:
		return connectionOver
	}
	return undeliverable
}

// lost counts a message that is undeliverable. Guarded by mu.
func (s *subscription) lost(e entry) {
	if !e.free {
		s.queue.MissFirst(1)
		s.member.lost(e.tag)
	}
}

// wait puts a message into the queue, and does what the policy says if it is full.
// Guarded by mu.
func (s *subscription) wait(e entry, key string) {
	before, _ := s.queue.Dropped()
	if s.session.queued.Load()+int64(e.size) > s.server.settings.maxQueued {
		s.queue.Skip(1)
		s.member.lost(e.tag)
	} else {
		s.queue.Push(e, key, e.size, s.member.dropper())
		s.account()
	}
	if after, _ := s.queue.Dropped(); after != before {
		s.tooSlow()
	}
}

// account has the connection know what waits for it. Guarded by mu.
func (s *subscription) account() {
	if _, bytes := s.queue.Messages(); bytes != s.counted {
		s.session.queued.Add(int64(bytes - s.counted))
		s.counted = bytes
	}
}

func keyOf(m *Message) string {
	if m.Key != "" {
		return m.Key
	}
	return m.Topic
}

// tooSlow begins a time in which the subscription does not keep up. Guarded by mu.
func (s *subscription) tooSlow() {
	if s.slow {
		return
	}
	s.slow = true
	s.server.watching.tell(s)
	if s.policy == Disconnect && s.member == nil {
		s.server.start(s.client.Stop)
	}
}

// next returns what is to be sent next, if the window is open: a note of what is missing,
// or what is first in the queue. Guarded by mu.
func (s *subscription) next() (e entry, gap, ok bool) {
	e, _, missed, ok := s.queue.Front()
	switch {
	case !(ok && e.free) && !s.window.open(s.old):
		return e, false, false
	case missed > 0 && s.old: // it cannot be told
		s.queue.Told()
	case missed > 0:
		return s.note(&proto.Noted{Kind: proto.NoteGap, Count: missed}), true, true
	}
	return e, false, ok
}

// taken takes out of the queue what next returned. Guarded by mu.
func (s *subscription) taken(gap bool) {
	if gap {
		s.queue.Told()
	} else {
		s.queue.Pop()
		s.account()
		s.madeRoom()
	}
	if s.queue.Idle() {
		s.slow = false
	}
}

// drain pushes what waits, as far as the window and the connection go. Guarded by mu.
func (s *subscription) drain() {
	for s.state == live && !s.pumped {
		e, gap, ok := s.next()
		if !ok {
			return
		}
		switch s.push(e) {
		case pushed:
			s.taken(gap)
			s.spend(e)
		case undeliverable:
			s.taken(gap)
			s.lost(e)
		case connectionFull:
			s.startPump()
			return
		case connectionOver:
			return
		}
	}
}

// credit gives room in the window.
func (s *subscription) credit(messages, bytes uint64) {
	s.mu.Lock()
	limit := s.server.settings.maxWindow
	s.window.messages = min(s.window.messages+int(min(messages, uint64(limit.messages))), limit.messages)
	s.window.bytes = min(s.window.bytes+int(min(bytes, uint64(limit.bytes))), limit.bytes)
	s.wakeReplay()
	s.drain()
	consumed := s.member.consumed(messages)
	evicted := s.member.takeEvicted()
	s.mu.Unlock()
	finish(consumed, true)
	finish(evicted, false)
}

// wakeReplay lets the replay, if there is one, look at the window again. Guarded by mu.
func (s *subscription) wakeReplay() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
