package pubsub

import (
	"sync"
	"time"
)

// memorySeen knows the IDs of messages that were published lately.
type memorySeen struct {
	// Set by NewMemoryBroker, never changed.
	window time.Duration
	limit  int

	mu    sync.Mutex
	at    map[memoryID]Position
	order fifo[memorySighting]
}

// memoryID is the ID of a message, which means something in its topic only.
type memoryID struct{ topic, id string }

type memorySighting struct {
	memoryID
	at time.Time
}

// find reports whether the ID of m is known, and the position it came with.
func (s *memorySeen) find(m *Message) (Position, bool) {
	if m.ID == "" {
		return Position{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now(), s.limit)
	p, ok := s.at[memoryID{m.Topic, m.ID}]
	return p, ok
}

// add has the ID of m known, which it is not yet.
func (s *memorySeen) add(m *Message, p Position) {
	if m.ID == "" || s.limit == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now(), s.limit-1)
	id := memoryID{m.Topic, m.ID}
	s.at[id] = p
	s.order.push(memorySighting{id, time.Now()})
}

// forget drops what is older than the window, and the oldest beyond a number.
func (s *memorySeen) forget(now time.Time, most int) {
	for s.order.len() > most || s.order.len() > 0 && now.Sub(s.order.at(0).at) >= s.window {
		delete(s.at, s.order.pop().memoryID)
	}
}
