package nats

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// liveSource is the source of a group without acknowledgement: a queue group of NATS, in
// which each member is as likely to get a message as the others. Where none here has room
// other brokers of the group are asked to take a message, and it waits until one does or
// there is room here. What is passed on like this may overtake other messages, or be
// overtaken.
type liveSource struct {
	g  *group
	b  *Broker
	in chan *nats.Msg

	// Guarded by group.turn.
	subs map[*member][]*nats.Subscription

	stop, stopped chan struct{}

	// Set by newLiveSource, never changed.
	answers *nats.Subscription // of those who were asked
	room    *nats.Subscription // to be asked

	// Owned by run.
	waiting []*waitingMessage
	number  uint64 // of the last question
	trust   int    // how many messages others may be asked to take: more the more they take
}

// waitingMessage is one that members had no room for.
type waitingMessage struct {
	*nats.Msg
	answer  string // the subject of the answer that is awaited; empty: none
	awaited int    // for how many times askAgain
	refused int    // how often others had no room either
}

// Headers of a message that is passed on: its subject, and the broker that does so.
const (
	headerFrom   = "Arpc-Subject"
	headerBroker = "Arpc-Broker"
)

const (
	// askAgain is when others are asked again to take what waits.
	askAgain = 100 * time.Millisecond
	// maxRefused is how many may say no before.
	maxRefused = 4
	// maxAwaited is when a message is given up that another broker may have taken, in
	// times of askAgain: they do not pass while the process does not run.
	maxAwaited = 50
)

// refusal is the answer of a broker without room. Another is empty.
const refusal = "no room"

func newLiveSource(g *group) (s *liveSource, err error) {
	s = &liveSource{
		g:       g,
		b:       g.b,
		in:      make(chan *nats.Msg, max(1<<10, g.options.MaxWaiting)),
		subs:    make(map[*member][]*nats.Subscription),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		trust:   1,
	}
	if s.answers, err = s.b.nc.ChanSubscribe(s.b.nc.NewInbox()+".*", s.in); err != nil {
		return nil, err
	}
	const one = "room" // of all brokers is asked
	if s.room, err = s.b.nc.ChanQueueSubscribe(s.b.names.room+g.key.id(), one, s.in); err != nil {
		s.answers.Unsubscribe()
		return nil, err
	}
	go s.run()
	return s, nil
}

func (s *liveSource) add(m *member) error {
	encoded, queue := encodeFilter(s.g.key.filter), s.g.key.id()
	var subjects []string
	if !s.b.rules.covers(s.g.key.filter) {
		subjects = append(subjects, s.b.names.plain+encoded)
	}
	if s.b.rules.touches(s.g.key.filter) {
		subjects = append(subjects, s.b.names.stored+encoded)
	}
	for _, subject := range subjects {
		sub, err := s.b.nc.ChanQueueSubscribe(subject, queue, s.in)
		if err != nil {
			return err
		}
		s.subs[m] = append(s.subs[m], sub)
	}
	return nil
}

func (s *liveSource) remove(m *member) {
	unsubscribe(s.subs[m])
	delete(s.subs, m)
}

// close has others take what waits, if they will.
func (s *liveSource) close() {
	close(s.stop)
	<-s.stopped
	s.awaitAnswers() // of this broker too, which may have been asked
	unsubscribe([]*nats.Subscription{s.answers, s.room})
	for _, one := range s.waiting {
		if one.answer == "" {
			s.b.nc.PublishMsg(s.passed(one.Msg)) // where that fails it is lost
		}
	}
}

// awaitAnswers finds out what others have taken that were asked before.
func (s *liveSource) awaitAnswers() {
	lost := s.b.gate.lost()
	if lost == nil {
		return
	}
	patience := time.NewTimer(maxAwaited * askAgain)
	defer patience.Stop()
	for len(s.in) > 0 || slices.ContainsFunc(s.waiting, func(one *waitingMessage) bool { return one.answer != "" }) {
		select {
		case m := <-s.in:
			s.receiveLast(m)
		case <-patience.C:
			return
		case <-lost:
			return
		}
	}
}

func (s *liveSource) receiveLast(m *nats.Msg) {
	switch m.Sub {
	case s.answers:
		s.answered(m)
	case s.room:
		m.Respond([]byte(refusal))
	default:
		s.waiting = append(s.waiting, &waitingMessage{Msg: m})
	}
}

func (s *liveSource) run() {
	defer close(s.stopped)
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		select {
		case m := <-s.in:
			s.receive(m)
		case <-s.g.members.changed:
		case <-again.C:
			s.trust = max(s.trust, 1)
			s.giveUp()
		case <-s.stop:
			return
		}
		s.handOut()
	}
}

func (s *liveSource) receive(m *nats.Msg) {
	room := s.g.members.room() > len(s.waiting)
	switch {
	case m.Sub == s.answers:
		s.answered(m)
		return
	case m.Sub == s.room && (m.Header.Get(headerBroker) == s.b.id || !room && m.Reply != ""):
		m.Respond([]byte(refusal))
		return
	case m.Sub == s.room:
		m.Respond(nil)
	}
	if !room && len(s.waiting) >= s.g.options.MaxWaiting {
		s.b.counts.dropped.Add(1)
		return
	}
	s.waiting = append(s.waiting, &waitingMessage{Msg: m})
}

// answered says what became of a message that another broker was asked to take.
func (s *liveSource) answered(m *nats.Msg) {
	i := slices.IndexFunc(s.waiting, func(one *waitingMessage) bool { return one.answer == m.Subject })
	if i < 0 {
		return
	}
	one, nobody := s.waiting[i], m.Header.Get(headerStatus) != ""
	if !nobody && len(m.Data) == 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.trust += 2
		return
	}
	one.answer = ""
	if one.refused++; nobody || one.refused == maxRefused {
		one.refused, s.trust = 0, 0
	} else {
		s.trust++
	}
}

// giveUp drops messages that another broker may have, who did not say so.
func (s *liveSource) giveUp() {
	s.waiting = slices.DeleteFunc(s.waiting, func(one *waitingMessage) bool {
		if one.answer != "" {
			one.awaited++
		}
		late := one.answer != "" && one.awaited > maxAwaited
		if late {
			s.b.counts.dropped.Add(1)
		}
		return late
	})
}

// handOut gives what waits to members that have room, or asks others. Messages stay in
// order, so that it waits for the answer about the first.
func (s *liveSource) handOut() {
	given := 0
	for ; given < len(s.waiting) && s.waiting[given].answer == ""; given++ {
		if !s.give(s.waiting[given].Msg) {
			break
		}
	}
	s.waiting = slices.Delete(s.waiting, 0, given)
	if s.g.members.room() == 0 {
		s.askOthers()
	}
}

// give reports false if there is no room.
func (s *liveSource) give(m *nats.Msg) bool {
	one := s.message(m)
	if one == nil {
		return true
	}
	for {
		to := s.g.members.pick()
		if to == nil {
			return false
		}
		release := sync.OnceFunc(func() { s.g.members.release(to) })
		if to.take(pubsub.Delivery{Message: one, Attempt: 1, Done: func(bool) { release() }}) {
			return true
		}
		release()
	}
}

// message returns what was published, nil if it is none of a topic.
func (s *liveSource) message(m *nats.Msg) *pubsub.Message {
	subject := m.Subject
	if from := m.Header.Get(headerFrom); from != "" {
		subject = from
	}
	if encoded, ok := strings.CutPrefix(subject, s.b.names.stored); ok {
		return keptFromNATS(encoded, m.Header, m.Data, number(m.Header, headerSequence))
	}
	return fromNATS(strings.TrimPrefix(subject, s.b.names.plain), m.Header, m.Data)
}

// askOthers passes messages on to brokers that have room.
func (s *liveSource) askOthers() {
	for _, one := range s.waiting {
		if s.trust == 0 {
			return
		}
		if one.answer != "" {
			continue
		}
		s.trust--
		s.number++
		one.answer = strings.TrimSuffix(s.answers.Subject, "*") + strconv.FormatUint(s.number, 36)
		one.awaited = 0
		passed := s.passed(one.Msg)
		passed.Reply = one.answer
		if s.b.nc.PublishMsg(passed) != nil {
			one.answer = ""
			s.trust = 0
		}
	}
}

func (s *liveSource) passed(m *nats.Msg) *nats.Msg {
	out := &nats.Msg{Subject: s.b.names.room + s.g.key.id(), Header: nats.Header{headerFrom: {m.Subject}}, Data: m.Data}
	maps.Copy(out.Header, m.Header) // one that was passed on before says where it is from
	out.Header[headerBroker] = []string{s.b.id}
	return out
}
