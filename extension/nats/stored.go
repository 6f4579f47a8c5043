package nats

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// stored is what handles messages of topics with history. They come as the stream has
// stored them, with their offsets: what has not arrived is seen by the gap, or at the end
// by what the stream says of itself, and read from the stream again. A Watcher is told
// when that is gone.
type stored struct {
	b  *Broker
	in chan *nats.Msg

	woken chan struct{} // the connection has changed

	mu      sync.Mutex
	started bool

	// Owned by run, but before it is started by start.
	epoch      string
	last       uint64 // offset up to which all is delivered
	head       uint64 // that of the stream when it was looked at last
	reconnects uint64 // of the connection, when it was looked at last
	down       bool   // Watchers have been told, and not of the end
	behind     bool   // something is to be read again, which has failed so far
}

func newStored(b *Broker) *stored {
	return &stored{b: b, in: make(chan *nats.Msg, queueLen), woken: make(chan struct{}, 1)}
}

// start returns when messages that are published from now on will be delivered.
func (s *stored) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return nil
	}
	sub, err := s.b.nc.ChanSubscribe(s.b.names.stored+anyRest, s.in)
	if err != nil {
		return err
	}
	if err := s.b.try(ctx, "look at the stream", s.begin); err != nil {
		sub.Unsubscribe()
		return err
	}
	if s.started = s.b.spawn(s.run); !s.started {
		return pubsub.ErrBrokerClosed
	}
	return nil
}

// begin finds out where the stream is, being subscribed.
func (s *stored) begin(ctx context.Context) error {
	if err := s.b.flush(ctx); err != nil {
		return err
	}
	info, err := s.b.stream.ensure(ctx)
	if err != nil {
		return err
	}
	s.epoch, s.last, s.head = s.b.stream.epoch(), info.State.LastSeq, info.State.LastSeq
	s.reconnects = s.b.nc.Stats().Reconnects
	return nil
}

// look has the connection looked at.
func (s *stored) look() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// How often the stream is asked whether all has arrived. It is soon at first, when the
// servers of a cluster do not all know yet that somebody is subscribed.
const (
	firstCheck = 50 * time.Millisecond
	lastCheck  = time.Second
)

func (s *stored) run() {
	every := firstCheck
	check := time.NewTimer(every)
	defer check.Stop()
	for {
		select {
		case m := <-s.in:
			s.take(m)
		case <-s.woken:
			s.connection()
			every = firstCheck
			check.Reset(every)
		case <-check.C:
			s.check()
			every = min(2*every, lastCheck)
			check.Reset(every)
		case <-s.b.done:
			return
		}
	}
}

// take delivers a message, and what is missing before it.
func (s *stored) take(m *nats.Msg) {
	offset := number(m.Header, headerSequence)
	if offset <= s.last || s.behind || s.down {
		return // read from the stream, or going to be
	}
	if offset > s.last+1 && !s.fill(offset-1) {
		return
	}
	s.deliver(keptFromNATS(strings.TrimPrefix(m.Subject, s.b.names.stored), m.Header, m.Data, offset))
	s.last = offset
	s.b.stream.reached(offset)
}

func (s *stored) deliver(m *pubsub.Message) {
	if m != nil {
		s.b.watches.Each(m.Topic, func(w *watch) { w.deliver(m) })
	}
}

// connection sees what has become of the connection.
func (s *stored) connection() {
	reconnects := s.b.nc.Stats().Reconnects
	switch connected := s.b.nc.IsConnected(); {
	case !connected && !s.down:
		s.down = true
		for _, w := range s.b.watching(true) {
			w.interrupt(errOutage)
		}
	case connected && (s.down || reconnects != s.reconnects):
		s.reconnects = reconnects
		s.catchUp()
	}
}

// check sees whether messages are missing behind which none came: those that the stream
// had at the last check.
func (s *stored) check() {
	if !s.b.nc.IsConnected() {
		return
	}
	if s.down || s.behind {
		s.catchUp()
		return
	}
	ctx, cancel := s.attempt()
	defer cancel()
	info, err := s.b.stream.info(ctx, "")
	if err != nil {
		return
	}
	awaited := s.head
	s.head = info.State.LastSeq
	switch {
	case s.b.stream.epoch() != s.epoch || s.head < s.last:
		s.catchUp()
	case s.last < awaited:
		s.fill(awaited)
	}
}

// attempt returns a context for something that NATS is asked.
func (s *stored) attempt() (context.Context, context.CancelFunc) {
	connected, cancel := s.b.gate.while(s.b.life)
	ctx, cancelAttempt := context.WithTimeout(connected, attempt)
	return ctx, func() {
		cancelAttempt()
		cancel()
	}
}

// catchUp reads all that the stream has. If that fails, check tries again.
func (s *stored) catchUp() {
	ctx, cancel := s.attempt()
	defer cancel()
	s.behind = true
	info, err := s.b.stream.ensure(ctx)
	if err != nil {
		return
	}
	s.head = info.State.LastSeq
	switch epoch := s.b.stream.epoch(); {
	case epoch != s.epoch:
		s.missed(s.all)
		s.epoch, s.last = epoch, 0
	case s.head < s.last:
		s.missed(s.all)
		s.last = s.head
	}
	if s.fill(s.head) {
		s.resume()
	}
}

// fill delivers, from the stream, what is missing up to an offset. It reports false if
// that failed.
func (s *stored) fill(upTo uint64) bool {
	for s.behind = true; s.last < upTo; {
		got, err := s.read(upTo)
		if err != nil {
			return false
		}
		for _, m := range got {
			s.deliver(m.message)
			s.last = m.offset
			s.b.counts.fetched.Add(1)
		}
	}
	s.behind = false
	return true
}

// read returns some of what is missing up to an offset. It has Watchers told whether
// that is all that was published, and moves last if it is not.
func (s *stored) read(upTo uint64) ([]storedMessage, error) {
	ctx, cancel := s.attempt()
	defer cancel()
	const most = 1024
	all := s.b.names.kept + anyRest
	got, err := s.b.stream.read(ctx, getRequest{From: s.last + 1, Filter: all, Batch: most}, upTo)
	if err != nil {
		return nil, err
	}
	end := upTo
	if got.more {
		end = min(end, got.messages[len(got.messages)-1].offset)
	}
	got.cut(end)
	if uint64(len(got.messages)) < end-s.last {
		gone, _, err := s.b.stream.lost(ctx, all, mark{behind: s.last})
		if err != nil {
			return nil, err
		}
		s.missed(s.watchesOf(gone))
	}
	s.resume()
	if len(got.messages) == 0 || got.messages[len(got.messages)-1].offset < end {
		got.messages = append(got.messages, storedMessage{offset: end})
	}
	return got.messages, nil
}

// resume tells those who have been told of an outage, and not that they missed
// something, that it is over.
func (s *stored) resume() {
	if !s.down {
		return
	}
	s.down = false
	for _, w := range s.b.watching(true) {
		w.resume(true)
	}
}

var errGone = arpc.NewError(arpc.CodeDataLoss, "nats: messages were gone from history before they arrived")

// missed tells Watchers that messages are lost.
func (s *stored) missed(each func(func(*watch))) {
	each(func(w *watch) { w.miss(errGone) })
}

// all calls fn with all watches of topics with history.
func (s *stored) all(fn func(*watch)) {
	for _, w := range slices.Concat(s.b.watching(true), s.b.watching(false)) {
		if s.b.rules.touches(w.filter) {
			fn(w)
		}
	}
}

// watchesOf returns what calls a function with the watches of what is lost. Where
// nothing is known to be, somebody has removed messages by hand.
func (s *stored) watchesOf(gone lost) func(func(*watch)) {
	if gone.all || len(gone.topics) == 0 {
		return s.all
	}
	found := make(map[*watch]bool)
	for topic := range gone.topics {
		s.b.watches.Each(topic, func(w *watch) { found[w] = true })
	}
	return func(fn func(*watch)) {
		for w := range found {
			fn(w)
		}
	}
}
