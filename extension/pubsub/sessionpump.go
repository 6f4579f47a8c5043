package pubsub

import (
	"sync"

	"github.com/arpc-go/arpc"
)

// pump pushes for subscriptions whose connection was full, and waits for it. Its
// goroutine exists only while there are any.
type pump struct {
	session *session // set by connected, never changed

	mu      sync.Mutex
	waiting []*subscription // in turn
	running bool
}

// turnLength is how many messages the pump pushes for one subscription before it is the
// next one's turn.
const turnLength = 32

// startPump leaves pushing to the pump. Guarded by mu.
func (s *subscription) startPump() {
	s.pumped = true
	s.session.pump.add(s)
}

func (p *pump) add(s *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, s)
	if !p.running {
		p.running = p.session.server.start(p.run)
	}
}

func (p *pump) run() {
	for s := p.take(); s != nil; s = p.take() {
		if s.pumpSome() {
			p.add(s)
		}
	}
}

// take returns the next subscription, nil to end the goroutine.
func (p *pump) take() *subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.waiting, p.running = nil, false
		return nil
	}
	s := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	return s
}

// pumpSome pushes what waits for the subscription, and reports whether there is more.
func (s *subscription) pumpSome() (more bool) {
	for range turnLength {
		e, ok := s.pumpNext()
		if !ok {
			return false
		}
		switch outcomeOf(s.client.PushMsg(e.msg, arpc.TimeForever)) {
		case undeliverable:
			s.pumpLost(e)
		case connectionOver:
			return false // and nobody else pushes any more
		}
	}
	return true
}

// pumpNext takes what is next out of the queue. If there is nothing the subscription is
// not the pump's any more.
func (s *subscription) pumpNext() (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, gap, ok := s.next()
	if !ok || s.state != live {
		s.pumped = false
		return entry{}, false
	}
	s.taken(gap)
	if !gap {
		s.spend(e)
	}
	return e, true
}

func (s *subscription) pumpLost(e entry) {
	s.mu.Lock()
	s.lost(e)
	evicted := s.member.takeEvicted()
	s.mu.Unlock()
	finish(evicted, false)
}
