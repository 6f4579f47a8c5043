package nats

import (
	"sync"
	"time"
)

// seen knows the IDs of messages that were published lately, for one window at least
// and two at most. It is for messages that JetStream does not see.
type seen struct {
	window time.Duration // set by NewBroker, never changed

	mu       sync.Mutex
	now      map[messageID]struct{}
	before   map[messageID]struct{}
	switched time.Time
}

// messageID is the ID of a message, which means something in its topic only.
type messageID struct{ topic, id string }

// maxSeen is how many IDs are known at most, twice.
const maxSeen = 100_000

// add reports whether an ID was not known, and has it known.
func (s *seen) add(id messageID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch age := time.Since(s.switched); {
	case age >= 2*s.window:
		s.now, s.before, s.switched = nil, nil, time.Now()
	case age >= s.window || len(s.now) >= maxSeen:
		s.now, s.before, s.switched = nil, s.now, time.Now()
	}
	_, isNew := s.now[id]
	_, isOld := s.before[id]
	if isNew || isOld {
		return false
	}
	if s.now == nil {
		s.now = make(map[messageID]struct{})
	}
	s.now[id] = struct{}{}
	return true
}

// remove has an ID unknown whose message was not published.
func (s *seen) remove(id messageID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.now, id)
	delete(s.before, id)
}
