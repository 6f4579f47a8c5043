package nats

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// groupKey is what a queue group is known by, in the whole cluster.
type groupKey struct{ filter, name string }

// id is the same for names of NATS.
func (k groupKey) id() string {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(k.filter)) + ":" + k.filter + k.name))
	return hex.EncodeToString(sum[:16])
}

// group is what a queue group has here.
type group struct {
	// Set by enterGroup, never changed.
	b   *Broker
	key groupKey

	users int // members, also those that are not there yet; guarded by Broker.mu

	turn    sync.Mutex // held while members come and go
	options pubsub.GroupOptions
	source  source // nil: there are no members
	unask   func() // has nobody told the options any more; nil: nobody is

	members members
}

// source is where the messages of a group come from.
type source interface {
	add(m *member) error
	remove(m *member)
	// close is called when there are no members, and returns when nothing comes.
	close()
}

// Join says pubsub.Broker. A group without acknowledgement gets its messages at most
// once: what its last member here had, or NATS had on its way when the connection was
// lost, is lost. One with acknowledgement is a durable consumer of JetStream. Messages
// that a member has when its server dies go to others when AckWait is over.
func (b *Broker) Join(filter, name string, o pubsub.GroupOptions, m pubsub.Member) (leave func(), err error) {
	ctx, cancel := b.bounded(b.life)
	defer cancel()
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	if err := subject.CheckFilter(filter); err != nil {
		return nil, arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
	}
	g, err := b.enterGroup(groupKey{filter, name})
	if err != nil {
		return nil, err
	}
	o = o.WithDefaults()
	one := &member{to: m, most: o.MaxPending}
	leave = sync.OnceFunc(func() { g.leave(one) })
	if err = g.join(ctx, o, one); err == nil {
		err = b.settle(ctx)
	}
	if err != nil {
		leave()
		return nil, b.failed(ctx, "join", err)
	}
	return leave, nil
}

func (b *Broker) enterGroup(key groupKey) (*group, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, pubsub.ErrBrokerClosed
	}
	g := b.groups[key]
	if g == nil {
		g = &group{b: b, key: key}
		g.members.changed = make(chan struct{}, 1)
		b.groups[key] = g
	}
	g.users++
	return g, nil
}

func (g *group) join(ctx context.Context, o pubsub.GroupOptions, m *member) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.source == nil {
		if err := g.open(ctx, o); err != nil {
			return err
		}
	}
	if o != g.options {
		return otherOptions(o, g.options)
	}
	g.members.add(m)
	return g.source.add(m)
}

func otherOptions(o, has pubsub.GroupOptions) error {
	return arpc.Errorf(arpc.CodeFailedPrecondition, "nats: the queue group has options %+v, not %+v", has, o)
}

// open begins with the first member here.
func (g *group) open(ctx context.Context, o pubsub.GroupOptions) (err error) {
	if err := g.askOthers(ctx, o); err != nil {
		return err
	}
	answer, err := json.Marshal(o)
	if err != nil {
		return err
	}
	g.options = o
	if o.Ack {
		g.source, err = newAckSource(ctx, g)
	} else {
		g.source, err = newLiveSource(g)
	}
	if err != nil {
		g.source = nil
		return err
	}
	shut := new(atomic.Bool)
	asked, err := g.b.nc.Subscribe(g.b.names.group+g.key.id(), func(m *nats.Msg) {
		if shut.Load() {
			m.Respond(nil)
		} else {
			m.Respond(answer)
		}
	})
	if err != nil {
		return err
	}
	g.unask = func() {
		shut.Store(true)
		asked.Drain() // who asks at this moment gets an answer, and need not wait
	}
	return nil
}

// askOthers returns an error if the group has members elsewhere with other options.
func (g *group) askOthers(ctx context.Context, o pubsub.GroupOptions) error {
	var has pubsub.GroupOptions
	err := g.b.try(ctx, "join", func(ctx context.Context) error {
		m, err := g.b.nc.RequestWithContext(ctx, g.b.names.group+g.key.id(), nil)
		switch {
		case errors.Is(err, nats.ErrNoResponders), err == nil && len(m.Data) == 0:
			has = o
			return nil
		case err != nil:
			return err
		}
		return json.Unmarshal(m.Data, &has)
	})
	if err == nil && has != o {
		return otherOptions(o, has)
	}
	return err
}

// leave returns when the member is not called any more.
func (g *group) leave(m *member) {
	g.turn.Lock()
	defer g.turn.Unlock()
	if others := g.members.remove(m); g.source != nil {
		g.source.remove(m)
		if !others {
			g.shut()
		}
	}
	g.b.exitGroup(g)
}

// shut ends with the last member here.
func (g *group) shut() {
	g.source.close()
	g.source = nil
	if g.unask != nil {
		g.unask()
		g.unask = nil
	}
}

func (b *Broker) exitGroup(g *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(b.groups, g.key)
	}
}

// close has all members leave.
func (g *group) close() {
	g.turn.Lock()
	defer g.turn.Unlock()
	for _, m := range g.members.everyone() {
		g.members.remove(m)
		if g.source != nil {
			g.source.remove(m)
		}
	}
	if g.source != nil {
		g.shut()
	}
}

// member is one of a queue group.
type member struct {
	to   pubsub.Member
	most int // pending

	pending int // guarded by members.mu

	turn sync.Mutex // held while Take is called
	left bool       // guarded by turn
}

// take reports false if the member has left.
func (m *member) take(d pubsub.Delivery) bool {
	m.turn.Lock()
	defer m.turn.Unlock()
	if !m.left {
		m.to.Take(d)
	}
	return !m.left
}

func (m *member) leave() {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.left = true
}

// members are those of a group that are here.
type members struct {
	changed chan struct{} // something is sent when there is more room

	mu   sync.Mutex
	all  []*member
	next int // whose turn it is
}

func (ms *members) add(m *member) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.all = append(ms.all, m)
	ms.signal()
}

func (ms *members) signal() {
	select {
	case ms.changed <- struct{}{}:
	default:
	}
}

// remove returns when the member is not called any more, and reports whether there are
// others.
func (ms *members) remove(m *member) (others bool) {
	m.leave()
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.all = slices.DeleteFunc(ms.all, func(other *member) bool { return other == m })
	return len(ms.all) > 0
}

func (ms *members) everyone() []*member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return slices.Clone(ms.all)
}

// pick returns the next member with room, of which it takes some; nil if there is none.
func (ms *members) pick() *member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for i := range ms.all {
		at := (ms.next + i) % len(ms.all)
		if m := ms.all[at]; m.pending < m.most {
			m.pending++
			ms.next = at + 1
			return m
		}
	}
	return nil
}

// release gives back what pick has taken.
func (ms *members) release(m *member) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.pending--
	ms.signal()
}

// room is how many messages the members can take.
func (ms *members) room() (room int) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		room += max(0, m.most-m.pending)
	}
	return room
}
