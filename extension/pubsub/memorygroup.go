package pubsub

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

type memoryGroupKey struct{ filter, name string }

// memoryGroup is a queue group: a memoryLiveGroup, or a memoryAckGroup. Its methods are
// called with MemoryBroker.mu held, but for ask.
type memoryGroup interface {
	// join adds a member, who gets nothing before ask.
	join(m *memoryMember, o GroupOptions) error
	// leave returns when the member is not called any more, and reports whether the
	// group has others.
	leave(m *memoryMember) (others bool)
	// forget returns when nothing refers to the group any more.
	forget()
	// close returns when nobody is called any more.
	close()
	ask()
}

// memoryMember is a member of a queue group.
type memoryMember struct {
	Member
	pending atomic.Int64
	left    bool // guarded by MemoryBroker.mu
}

// memoryMembers are the members of a queue group, guarded by its turn.
type memoryMembers struct {
	all  []*memoryMember
	next int // whose turn it is
	most int // pending of each
}

func (ms *memoryMembers) add(m *memoryMember) { ms.all = append(ms.all, m) }

func (ms *memoryMembers) remove(m *memoryMember) {
	ms.all = slices.DeleteFunc(ms.all, func(other *memoryMember) bool { return other == m })
}

// pick returns the next member with room, last only if there is no other; or nil.
func (ms *memoryMembers) pick(last *memoryMember) *memoryMember {
	var picked *memoryMember
	for i := range ms.all {
		at := (ms.next + i) % len(ms.all)
		m := ms.all[at]
		if m.pending.Load() >= int64(ms.most) {
			continue
		}
		picked = m
		if m != last {
			ms.next = at + 1
			break
		}
	}
	return picked
}

// room is how many messages the members can take.
func (ms *memoryMembers) room() int {
	room := 0
	for _, m := range ms.all {
		room += max(0, ms.most-int(m.pending.Load()))
	}
	return room
}

// Join says Broker.
func (b *MemoryBroker) Join(filter, group string, o GroupOptions, m Member) (leave func(), err error) {
	if err := subject.CheckFilter(filter); err != nil {
		return nil, invalid(err)
	}
	member := &memoryMember{Member: m}
	key := memoryGroupKey{filter, group}
	g, err := b.join(key, o.WithDefaults(), member)
	if err != nil {
		return nil, err
	}
	g.ask()
	return func() { b.leave(key, g, member) }, nil
}

func (b *MemoryBroker) join(key memoryGroupKey, o GroupOptions, m *memoryMember) (memoryGroup, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, ErrBrokerClosed
	}
	g := b.groups[key]
	switch {
	case g != nil:
	case o.Ack:
		g = newMemoryAckGroup(b, key, o)
	default:
		var err error
		if g, err = newMemoryLiveGroup(b, key, o); err != nil {
			return nil, err
		}
	}
	b.groups[key] = g
	return g, g.join(m, o)
}

func (b *MemoryBroker) leave(key memoryGroupKey, g memoryGroup, m *memoryMember) {
	b.mu.Lock()
	if m.left || b.closed.Load() {
		b.mu.Unlock()
		return
	}
	m.left = true
	if others := g.leave(m); !others {
		b.leftAlone(key, g)
	}
	b.mu.Unlock()
	g.ask()
}

// leftAlone has a group without members forgotten, at once or later.
func (b *MemoryBroker) leftAlone(key memoryGroupKey, g memoryGroup) {
	durable, ok := g.(*memoryAckGroup)
	if !ok {
		b.forgetGroup(key, g)
		return
	}
	since := time.Now()
	durable.idleSince = since
	durable.idle = time.AfterFunc(b.idleGroup, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if durable.idleSince.Equal(since) && !b.closed.Load() {
			b.forgetGroup(key, g)
		}
	})
}

func (b *MemoryBroker) forgetGroup(key memoryGroupKey, g memoryGroup) {
	g.forget()
	delete(b.groups, key)
}

// otherOptions is the error of one who joins with o.
func otherOptions(o, has GroupOptions) error {
	return arpc.Errorf(arpc.CodeFailedPrecondition, "pubsub: the queue group has options %+v, not %+v", has, o)
}
