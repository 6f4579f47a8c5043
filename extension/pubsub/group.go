package pubsub

// member is what a subscription has as a member of a queue group. Its methods do nothing
// without one. Guarded by subscription.mu.
type member struct {
	ack     bool
	most    int // messages in hand
	tags    uint64
	pending map[uint64]func(acknowledged bool) // by tag
	order   fifo[uint64]                       // tags of what was sent and not consumed; without ack
	evicted []func(bool)                       // to be called when mu is free
}

// makeMember makes the subscription one of a group.
func (s *subscription) makeMember(o GroupOptions) {
	s.options = o
	s.member = &member{ack: o.Ack, most: o.MaxPending, pending: make(map[uint64]func(bool))}
	// The Broker gives it no more at a time, so nothing is dropped.
	s.limit.messages, s.policy = o.MaxPending, DropOldest
	s.limit.bytes = s.server.settings.maxQueue.bytes
	s.window.messages = min(s.window.messages, o.MaxPending)
}

// Take is called by the Broker, for a member of a queue group.
func (s *subscription) Take(d Delivery) {
	s.mu.Lock()
	if s.state == ended {
		s.mu.Unlock()
		d.Done(false)
		return
	}
	s.send(s.alone(d.Message, s.member.add(d.Done), d.Attempt), "")
	evicted := s.member.takeEvicted()
	s.mu.Unlock()
	finish(evicted, false)
}

// finish ends deliveries. It is called without locks.
func finish(deliveries []func(bool), acknowledged bool) {
	for _, done := range deliveries {
		done(acknowledged)
	}
}

// settle ends the delivery of a message. One that is not known any more is with another
// member by now.
func (s *subscription) settle(tag uint64, acknowledged bool) {
	s.mu.Lock()
	done := s.member.take(tag)
	s.mu.Unlock()
	if done != nil {
		done(acknowledged)
	}
}

// add notes a message and returns its tag. Of more than there may be at a time the
// oldest was given to another member long ago.
func (m *member) add(done func(bool)) uint64 {
	m.tags++
	m.pending[m.tags] = done
	if len(m.pending) > m.most {
		oldest := m.tags
		for tag := range m.pending {
			oldest = min(oldest, tag)
		}
		m.evict(oldest)
	}
	return m.tags
}

func (m *member) evict(tag uint64) {
	if done := m.take(tag); done != nil {
		m.evicted = append(m.evicted, done)
	}
}

// take forgets a message and returns what ends its delivery, nil if there is none.
func (m *member) take(tag uint64) func(bool) {
	if m == nil {
		return nil
	}
	done := m.pending[tag]
	delete(m.pending, tag)
	return done
}

// sent notes that a message has left.
func (m *member) sent(tag uint64) {
	if !m.ack {
		m.order.push(tag)
	}
}

// consumed returns what ends the delivery of the oldest n messages that were sent:
// without acknowledgement they are done with.
func (m *member) consumed(n uint64) (done []func(bool)) {
	if m == nil {
		return nil
	}
	for ; n > 0 && m.order.len() > 0; n-- {
		if d := m.take(m.order.pop()); d != nil {
			done = append(done, d)
		}
	}
	return done
}

// lost is called for a message that the peer cannot get. Where it is acknowledged
// another member gets it, when the time of this one is over.
func (m *member) lost(tag uint64) {
	if m != nil && !m.ack {
		m.evict(tag)
	}
}

// dropper returns what is to be called for messages that the queue drops, nil for
// nothing.
func (m *member) dropper() func(entry) {
	if m == nil {
		return nil
	}
	return func(e entry) { m.evict(e.tag) }
}

// takeEvicted returns what ends deliveries that lost and drop have given up.
func (m *member) takeEvicted() []func(bool) {
	if m == nil {
		return nil
	}
	evicted := m.evicted
	m.evicted = nil
	return evicted
}

// takeAll returns what ends the delivery of all messages in hand.
func (m *member) takeAll() (done []func(bool)) {
	if m == nil {
		return nil
	}
	for _, d := range m.pending {
		done = append(done, d)
	}
	m.pending = nil
	return append(done, m.takeEvicted()...)
}
