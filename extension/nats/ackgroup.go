package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// ackSource is the source of a group with acknowledgement: a durable consumer of
// JetStream, which is asked for as many messages as the members here have room for.
type ackSource struct {
	g        *group
	b        *Broker
	consumer string // empty: no topic of the filter has history

	resets        chan chan struct{} // to run: ask anew; closed when that is done
	stop, stopped chan struct{}

	// Owned by run.
	pull   *pull       // nil: there is no connection
	alive  *time.Timer // runs out when nothing is heard of what was asked for
	unsure bool        // whether the consumer is there

	// Guarded by mu.
	mu  sync.Mutex
	out map[*ackDelivery]struct{} // with members
}

// pull is an inbox for messages.
type pull struct {
	sub     *nats.Subscription
	in      chan *nats.Msg
	gone    chan struct{} // closed when nothing comes any more
	wanted  int           // messages asked for that have not come
	request int           // number
	life    <-chan struct{}
}

const (
	maxPull       = 1 << 10 // messages asked for at a time
	pullExpires   = 30 * time.Second
	pullHeartbeat = time.Second
	pullPatience  = 3 * pullHeartbeat
	pullAgain     = 200 * time.Millisecond // after a failure

	giveBackPause = 100 * time.Millisecond // of a message that was given back more than once
)

func newAckSource(ctx context.Context, g *group) (*ackSource, error) {
	s := &ackSource{
		g:       g,
		b:       g.b,
		resets:  make(chan chan struct{}),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		alive:   time.NewTimer(pullPatience),
		out:     make(map[*ackDelivery]struct{}),
	}
	if !s.b.rules.touches(g.key.filter) {
		close(s.stopped)
		return s, nil
	}
	s.consumer = "g-" + g.key.id()
	if err := s.b.try(ctx, "join", s.ensure); err != nil {
		return nil, err
	}
	go s.run()
	return s, nil
}

// ensure makes the consumer if there is none. It begins behind what there is.
func (s *ackSource) ensure(ctx context.Context) error {
	const mostWaiting = 4096 // brokers
	if _, err := s.b.stream.ensure(ctx); err != nil {
		return err
	}
	_, err := s.b.js.CreateOrUpdateConsumer(ctx, s.b.names.stream, jetstream.ConsumerConfig{
		Durable:           s.consumer,
		FilterSubjects:    []string{s.b.names.kept + encodeFilter(s.g.key.filter)},
		DeliverPolicy:     jetstream.DeliverNewPolicy,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           min(s.g.options.AckWait, s.b.lease),
		MaxAckPending:     -1,
		MaxWaiting:        mostWaiting,
		InactiveThreshold: s.b.idleGroup,
		Metadata:          map[string]string{"arpc-filter": s.g.key.filter, "arpc-group": s.g.key.name}, // for people
	})
	return err
}

func (s *ackSource) add(*member) error { return nil }

// remove gives what the member has to others. Before, it asks anew if more was asked for
// than is wanted now, which would come back to here. What is on its way between the
// servers of a NATS cluster at that moment is lost, and comes again when lease is over.
func (s *ackSource) remove(m *member) {
	done := make(chan struct{})
	select {
	case s.resets <- done:
		<-done
	case <-s.stopped:
	}
	for _, d := range s.with(m) {
		d.end("-NAK")
	}
}

func (s *ackSource) with(m *member) (all []*ackDelivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.out {
		if d.to == m {
			all = append(all, d)
		}
	}
	return all
}

// renew tells JetStream what members have.
func (s *ackSource) renew() {
	if s.g.options.AckWait <= s.b.lease {
		return
	}
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.out))
	s.mu.Unlock()
	for _, d := range all {
		s.say(d.m, "+WPI")
	}
}

func (s *ackSource) close() {
	close(s.stop)
	<-s.stopped
}

func (s *ackSource) run() {
	defer close(s.stopped)
	defer s.reset()
	defer s.alive.Stop()
	renewal := time.NewTicker(s.b.lease / 3)
	defer renewal.Stop()
	for {
		again := s.ask()
		in, life := s.channels()
		select {
		case m := <-in:
			s.receive(m)
		case <-s.g.members.changed:
		case <-s.alive.C:
			s.unsure = true
			s.reset()
		case <-life:
			s.reset()
		case <-renewal.C:
			s.renew()
		case <-again:
		case done := <-s.resets:
			if s.pull != nil && s.pull.wanted > s.g.members.room() {
				s.reset()
			}
			close(done)
		case <-s.stop:
			return
		case <-s.b.done:
			return
		}
	}
}

func (s *ackSource) channels() (in <-chan *nats.Msg, life <-chan struct{}) {
	if s.pull == nil {
		return nil, nil
	}
	return s.pull.in, s.pull.life
}

// ask asks for messages if there is room. If it cannot it returns what says when to try
// again.
func (s *ackSource) ask() (again <-chan time.Time) {
	switch {
	case s.pull == nil && !s.open():
		return time.After(pullAgain)
	case s.pull.wanted > 0:
		return nil
	}
	room := min(s.g.members.room(), maxPull)
	if room == 0 {
		s.alive.Reset(time.Hour)
		return nil
	}
	if !s.pull.send(s, room) {
		s.reset()
		return time.After(pullAgain)
	}
	s.alive.Reset(pullPatience)
	return nil
}

// open makes an inbox. It reports false if that is not possible now.
func (s *ackSource) open() bool {
	life := s.b.gate.lost()
	if life == nil {
		return false
	}
	if s.unsure && s.b.once(s.b.life, attempt, s.ensure) != nil {
		return false
	}
	s.unsure = false
	p := &pull{in: make(chan *nats.Msg, maxPull+1<<6), gone: make(chan struct{}), life: life}
	var err error
	if p.sub, err = s.b.nc.ChanSubscribe(s.b.nc.NewInbox()+".*", p.in); err != nil {
		return false
	}
	gone := sync.OnceFunc(func() { close(p.gone) })
	p.sub.SetClosedHandler(func(string) { gone() })
	s.pull = p
	return true
}

// reply is where what was asked for last comes.
func (p *pull) reply() string {
	return strings.TrimSuffix(p.sub.Subject, "*") + strconv.Itoa(p.request)
}

// send asks for so many messages.
func (p *pull) send(s *ackSource, batch int) bool {
	request, err := json.Marshal(map[string]int64{
		"batch": int64(batch), "expires": int64(pullExpires), "idle_heartbeat": int64(pullHeartbeat),
	})
	if err != nil {
		return false
	}
	p.request++
	p.wanted = batch
	return s.b.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+s.b.names.stream+"."+s.consumer, p.reply(), request) == nil
}

func (s *ackSource) receive(m *nats.Msg) {
	if m.Reply != "" {
		s.pull.wanted--
		s.alive.Reset(pullPatience)
		s.give(m)
		return
	}
	if m.Subject != s.pull.reply() {
		return // about an earlier request
	}
	switch m.Header.Get(headerStatus) {
	case "100": // it is being worked on
		s.alive.Reset(pullPatience)
	case "404", "408": // it is over
		s.pull.wanted = 0
	default:
		s.unsure = true
		s.reset()
	}
}

// reset has nothing come of what was asked for. Of that which has come already members
// get what they have room for.
func (s *ackSource) reset() {
	p := s.pull
	if p == nil {
		return
	}
	s.pull = nil
	if p.sub.Drain() == nil {
		select {
		case <-p.gone:
		case <-p.life:
		}
	}
	p.sub.Unsubscribe() // an error says that it is not subscribed any more
	for len(p.in) > 0 {
		if m := <-p.in; m.Reply != "" {
			s.give(m)
		}
	}
}

// give gives a message to a member, or back if there is none with room.
func (s *ackSource) give(m *nats.Msg) {
	about, err := m.Metadata()
	if err != nil {
		return
	}
	encoded := strings.TrimPrefix(m.Subject, s.b.names.kept)
	one := keptFromNATS(encoded, m.Header, m.Data, about.Sequence.Stream)
	if one == nil {
		s.say(m, "+ACK") // none of a topic
		return
	}
	if one.Time.IsZero() {
		one.Time = about.Timestamp
	}
	to := s.g.members.pick()
	if to == nil {
		s.say(m, "-NAK")
		return
	}
	if about.NumDelivered > 1 {
		s.b.counts.redelivered.Add(1)
	}
	d := &ackDelivery{s: s, m: m, to: to, attempt: int(about.NumDelivered)}
	s.begin(d)
	if !to.take(pubsub.Delivery{Message: one, Attempt: d.attempt, Done: d.done}) {
		d.end("-NAK")
	}
}

// say tells JetStream what became of a message. If that is lost it comes again.
func (s *ackSource) say(m *nats.Msg, what string) { s.b.nc.Publish(m.Reply, []byte(what)) }

func (s *ackSource) begin(d *ackDelivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out[d] = struct{}{}
	d.timer = time.AfterFunc(s.g.options.AckWait, d.expire)
}

// forget reports whether a delivery was with its member.
func (s *ackSource) forget(d *ackDelivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, has := s.out[d]
	delete(s.out, d)
	d.timer.Stop()
	return has
}

// ackDelivery is a message with a member.
type ackDelivery struct {
	s       *ackSource
	m       *nats.Msg
	to      *member
	attempt int
	timer   *time.Timer
	ended   atomic.Bool
}

// done is what the member calls. A message that another has by now is not given back.
func (d *ackDelivery) done(acknowledged bool) {
	switch {
	case acknowledged:
		d.end("+ACK")
	case d.attempt == 1:
		d.end("-NAK")
	default:
		d.end(fmt.Sprintf(`-NAK {"delay": %d}`, giveBackPause))
	}
}

// end is called once with effect.
func (d *ackDelivery) end(what string) {
	if d.ended.Swap(true) {
		return
	}
	has := d.s.forget(d)
	if has || what == "+ACK" {
		d.s.say(d.m, what)
	}
	if has {
		d.s.g.members.release(d.to)
	}
}

// expire says that AckWait is over.
func (d *ackDelivery) expire() {
	if !d.s.forget(d) {
		return
	}
	if d.s.g.options.AckWait > d.s.b.lease { // else JetStream has looked at its clock too
		d.s.say(d.m, "-NAK")
	}
	d.s.g.members.release(d.to)
}
