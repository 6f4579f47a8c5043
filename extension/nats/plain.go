package nats

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// plain is what handles messages of topics without history, and those for one. All
// subscriptions share a channel: what comes before an outage and what comes behind it
// is known by its place in there.
type plain struct {
	b  *Broker
	in chan *nats.Msg // an event is a message whose Subject is one of those below

	onward chan *nats.Msg // messages for one that found nobody here

	mu    sync.Mutex // held while a mark is sent
	marks uint64

	// Owned by run.
	outage bool   // no connection, as far as the events say
	passed uint64 // marks
	found  []*watch
}

// Events. They are sent where they happen, so that they are between the right messages:
// eventDial when the messages of the last connection are in the channel, and before those
// of the next, which say themselves that the outage is over.
const (
	eventDown = "down"
	eventDial = "dial"
	eventUp   = "up"
	eventLost = "lost" // the channel overflowed
	eventMark = "mark"
)

const (
	// queueLen is how many messages may wait to be delivered. That of nats.go is more:
	// it counts for each subscription.
	queueLen  = 64 << 10
	onwardLen = 1 << 10
	maxHops   = 200   // of brokers that have nobody, which is rare
	oneQueue  = "one" // all who take messages for one are in one queue group of NATS
)

func newPlain(b *Broker) *plain {
	return &plain{b: b, in: make(chan *nats.Msg, queueLen), onward: make(chan *nats.Msg, onwardLen)}
}

// subscribe has messages for a subject handled.
func (p *plain) subscribe(subject string) (*nats.Subscription, error) {
	if strings.HasPrefix(subject, p.b.names.one) {
		return p.b.nc.ChanQueueSubscribe(subject, oneQueue, p.in)
	}
	return p.b.nc.ChanSubscribe(subject, p.in)
}

// tell sends an event. The connection may be locked meanwhile: nothing that run does
// may wait for it.
func (p *plain) tell(event string) { p.send(&nats.Msg{Subject: event}) }

// begin has a watch get messages from now on. What came before is not delivered: in a
// cluster of NATS it has gaps, while some servers know of the subscription and others do
// not yet, or still know of an earlier one.
func (p *plain) begin(w *watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marks++
	w.begins.Store(p.marks)
	p.tell(eventMark)
}

func (p *plain) tellLost(sub *nats.Subscription) {
	p.send(&nats.Msg{Subject: eventLost, Sub: sub})
}

func (p *plain) send(event *nats.Msg) {
	select {
	case p.in <- event:
	case <-p.b.done:
	}
}

// run handles messages and events until the Broker is closed.
func (p *plain) run() {
	for {
		select {
		case m := <-p.in:
			if !p.event(m) {
				p.message(m)
			}
		case <-p.b.done:
			return
		}
	}
}

// event reports whether m is one.
func (p *plain) event(m *nats.Msg) bool {
	switch m.Subject {
	case eventDown:
		if !p.outage {
			p.outage = true
			p.interrupt()
		}
	case eventDial:
		p.outage = true
		p.interrupt()
	case eventUp:
		p.outage = false
		for _, w := range p.b.watching(false) {
			w.resume(false)
		}
	case eventMark:
		p.passed++
	case eventLost:
		for _, w := range p.b.watchesOf(m.Sub) {
			w.miss(errOverflow)
		}
	default:
		return false
	}
	return true
}

var (
	errOutage   = arpc.NewError(arpc.CodeUnavailable, "nats: no connection to NATS")
	errOverflow = arpc.NewError(arpc.CodeResourceExhausted, "nats: messages came faster than they could be delivered")
)

func (p *plain) interrupt() {
	for _, w := range p.b.watching(false) {
		w.interrupt(errOutage)
	}
}

func (p *plain) message(m *nats.Msg) {
	if topic, ok := strings.CutPrefix(m.Subject, p.b.names.one); ok {
		p.toOne(m, topic)
		return
	}
	one := fromNATS(m.Subject[len(p.b.names.plain):], m.Header, m.Data)
	if one == nil {
		return
	}
	for _, w := range p.b.watchesOf(m.Sub) {
		if begins := w.begins.Load(); begins != 0 && begins <= p.passed {
			w.resume(false) // what comes is from behind the outage, and nobody knows what did not
			w.deliver(one)
		}
	}
}

// toOne has a message delivered to one of all subscribers here, each of which is as
// likely as the others, or elsewhere if there is none.
func (p *plain) toOne(m *nats.Msg, topic string) {
	one := fromNATS(topic, m.Header, m.Data)
	if one == nil || p.deliverToOne(one) {
		return
	}
	select {
	case p.onward <- m:
	default: // so many find nobody: they are lost
	}
}

func (p *plain) deliverToOne(m *pubsub.Message) bool {
	p.found = p.b.watches.Match(m.Topic, p.found[:0])
	defer func() { clear(p.found) }()
	total := 0
	for _, w := range p.found {
		total += w.size()
	}
	if total == 0 {
		return false
	}
	first := 0
	for n := rand.IntN(total); first < len(p.found)-1; first++ {
		if n -= p.found[first].size(); n < 0 {
			break
		}
	}
	for i := range p.found {
		if p.found[(first+i)%len(p.found)].deliverToOne(m) {
			return true
		}
	}
	return false
}

// sendOnward has another broker, or this one again, look for somebody.
func (p *plain) sendOnward() {
	for {
		select {
		case m := <-p.onward:
			hops := number(m.Header, headerHops) + 1
			if hops > maxHops {
				continue
			}
			next := &nats.Msg{Subject: m.Subject, Header: nats.Header{}, Data: m.Data}
			maps.Copy(next.Header, m.Header)
			next.Header[headerHops] = []string{strconv.FormatUint(hops, 10)}
			p.b.nc.PublishMsg(next) // at most once: without a connection it is lost
		case <-p.b.done:
			return
		}
	}
}
