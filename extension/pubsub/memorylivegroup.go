package pubsub

import "sync/atomic"

// memoryLiveGroup is a queue group without acknowledgement: a Watcher that passes each
// message on to one member.
type memoryLiveGroup struct {
	// Set by newMemoryLiveGroup, never changed.
	b       *MemoryBroker
	options GroupOptions
	watch   *memoryWatch

	turn turn

	// Guarded by turn.mu.
	members memoryMembers
	waiting fifo[*Message]
	bytes   int // waiting
}

// maxWaitingBytes is how many bytes of Data may wait in a group, beside
// GroupOptions.MaxWaiting.
const maxWaitingBytes = 8 << 20

func newMemoryLiveGroup(b *MemoryBroker, key memoryGroupKey, o GroupOptions) (memoryGroup, error) {
	g := &memoryLiveGroup{b: b, options: o, members: memoryMembers{most: o.MaxPending}}
	g.turn.work = g.handOut
	watch, err := b.watch(key.filter, g)
	g.watch = watch
	return g, err
}

func (g *memoryLiveGroup) join(m *memoryMember, o GroupOptions) error {
	if o != g.options {
		return otherOptions(o, g.options)
	}
	g.turn.locked(func() { g.members.add(m) })
	return nil
}

func (g *memoryLiveGroup) leave(m *memoryMember) (others bool) {
	g.turn.locked(func() {
		g.members.remove(m)
		others = len(g.members.all) > 0
	})
	return others
}

func (g *memoryLiveGroup) forget() {
	g.b.unwatch(g.watch)
	g.close()
}

func (g *memoryLiveGroup) close() {
	g.turn.close(func() {
		g.b.counts.dropped.Add(uint64(g.waiting.len()))
		g.members.all, g.waiting = nil, fifo[*Message]{}
	})
}

func (g *memoryLiveGroup) ask() { g.turn.ask() }

// Deliver is that of the group as a Watcher.
func (g *memoryLiveGroup) Deliver(m *Message) {
	g.turn.locked(func() { g.accept(m) })
	g.turn.ask() // members may have made room meanwhile
}

func (g *memoryLiveGroup) accept(m *Message) {
	g.handOut()
	switch member := g.members.pick(nil); {
	case g.waiting.len() == 0 && member != nil:
		g.give(m, member)
	case g.waiting.len() >= g.options.MaxWaiting,
		g.waiting.len() > 0 && g.bytes+len(m.Data) > maxWaitingBytes:
		g.b.counts.dropped.Add(1)
	default:
		g.waiting.push(m)
		g.bytes += len(m.Data)
	}
}

// handOut gives what waits to members that have room.
func (g *memoryLiveGroup) handOut() {
	for g.waiting.len() > 0 {
		member := g.members.pick(nil)
		if member == nil {
			return
		}
		m := g.waiting.pop()
		g.bytes -= len(m.Data)
		g.give(m, member)
	}
}

func (g *memoryLiveGroup) give(m *Message, to *memoryMember) {
	to.pending.Add(1)
	var done atomic.Bool
	to.Take(Delivery{Message: m, Attempt: 1, Done: func(bool) {
		if !done.Swap(true) {
			to.pending.Add(-1)
			g.turn.ask()
		}
	}})
}

// DeliverToOne is for Watchers that have subscribers of their own.
func (g *memoryLiveGroup) DeliverToOne(*Message) bool { return false }

// Size leaves PublishToOne to other Watchers.
func (g *memoryLiveGroup) Size() int { return 0 }

// Interrupted is not called in memory.
func (g *memoryLiveGroup) Interrupted(error) {}

// Resumed is not called in memory.
func (g *memoryLiveGroup) Resumed(bool) {}
