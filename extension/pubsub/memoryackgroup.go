package pubsub

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// memoryAckGroup is a queue group with acknowledgement. It reads on in history from
// where it is, as far as its members have room.
type memoryAckGroup struct {
	// Set by newMemoryAckGroup, never changed.
	b      *MemoryBroker
	filter string

	unread atomic.Bool // there may be something behind cursor
	turn   turn

	// Guarded by MemoryBroker.mu.
	idleSince time.Time
	idle      *time.Timer // nil: never was without members

	// Guarded by keptLane.mu.
	cursor uint64

	// Guarded by turn.mu.
	options GroupOptions
	members memoryMembers
	open    int                   // messages read and not acknowledged
	ready   fifo[*memoryTask]     // to be delivered again
	later   fifo[*memoryTask]     // the same, by when that may be
	out     list.List             // of *memoryDelivery, with members: by deadline
	timer   *time.Timer           // nil: never needed yet
	timerAt time.Time             // zero: not set
	ended   []memoryDeliveryEnded // scratch of settle

	// Guarded by mu.
	mu      sync.Mutex
	settled []memoryDeliveryEnded
}

// memoryTask is a message on its way to being acknowledged.
type memoryTask struct {
	message      *Message
	attempt      int
	acknowledged bool
	with         *memoryDelivery // nil: with nobody
	last         *memoryMember
	notBefore    time.Time
}

// memoryDelivery is a task with a member.
type memoryDelivery struct {
	task     *memoryTask
	to       *memoryMember
	deadline time.Time
	at       *list.Element // of out; nil: the member has it no more
	done     bool          // guarded by memoryAckGroup.mu
}

type memoryDeliveryEnded struct {
	*memoryDelivery
	acknowledged bool
}

// giveBackPause is how long a message rests that was given back by everybody who is
// there, or more than once.
const giveBackPause = 100 * time.Millisecond

func newMemoryAckGroup(b *MemoryBroker, key memoryGroupKey, o GroupOptions) *memoryAckGroup {
	g := &memoryAckGroup{b: b, filter: key.filter, options: o}
	g.turn.work = g.work
	b.keptLane.mu.Lock()
	defer b.keptLane.mu.Unlock()
	b.kept.addGroup(g)
	return g
}

// addGroup has a group begin behind what there is.
func (h *history) addGroup(g *memoryAckGroup) {
	g.cursor = h.last
	h.groups = append(h.groups, g)
	h.eachOf(g, func(t *keptTopic) { t.groups = append(slices.Clip(t.groups), g) })
}

func (h *history) removeGroup(g *memoryAckGroup) {
	without := func(groups []*memoryAckGroup) []*memoryAckGroup {
		return slices.DeleteFunc(slices.Clone(groups), func(other *memoryAckGroup) bool { return other == g })
	}
	h.groups = without(h.groups)
	h.eachOf(g, func(t *keptTopic) { t.groups = without(t.groups) })
}

// eachOf calls fn with the topics that the filter of g matches.
func (h *history) eachOf(g *memoryAckGroup, fn func(*keptTopic)) {
	if subject.IsLiteral(g.filter) {
		if t := h.topics[g.filter]; t != nil {
			fn(t)
		}
		return
	}
	for name, t := range h.topics {
		if subject.Match(g.filter, name) {
			fn(t)
		}
	}
}

// evicted counts a message that is lost for the group, since it was evicted before
// the group read it.
func (g *memoryAckGroup) evicted(offset uint64) {
	if offset > g.cursor {
		g.b.counts.lost.Add(1)
	}
}

func (g *memoryAckGroup) join(m *memoryMember, o GroupOptions) (err error) {
	g.turn.locked(func() {
		if o != g.options && (len(g.members.all) > 0 || !o.Ack) {
			err = otherOptions(o, g.options)
			return
		}
		g.options, g.members.most = o, o.MaxPending
		g.members.add(m)
	})
	if err == nil && g.idle != nil {
		g.idle.Stop()
		g.idleSince = time.Time{}
	}
	return err
}

func (g *memoryAckGroup) leave(m *memoryMember) (others bool) {
	g.turn.locked(func() {
		g.members.remove(m)
		others = len(g.members.all) > 0
		for e := g.out.Front(); e != nil; {
			d := e.Value.(*memoryDelivery)
			e = e.Next()
			if d.to == m {
				g.takeBack(d)
			}
		}
	})
	return others
}

func (g *memoryAckGroup) forget() {
	g.close()
	g.b.keptLane.mu.Lock()
	defer g.b.keptLane.mu.Unlock()
	g.b.kept.removeGroup(g)
}

func (g *memoryAckGroup) close() {
	g.turn.close(func() {
		g.members.all = nil
		if g.timer != nil {
			g.timer.Stop()
		}
	})
	if g.idle != nil {
		g.idle.Stop()
	}
}

func (g *memoryAckGroup) ask() { g.turn.ask() }

// work does all that there is to do.
func (g *memoryAckGroup) work() {
	now := time.Now()
	g.settle(now)
	for e := g.out.Front(); e != nil && !e.Value.(*memoryDelivery).deadline.After(now); e = g.out.Front() {
		g.takeBack(e.Value.(*memoryDelivery))
	}
	for g.later.len() > 0 && !g.later.at(0).notBefore.After(now) {
		g.ready.push(g.later.pop())
	}
	g.deliverAgain(now)
	g.readOn(now)
	g.setTimer(now)
}

// settle works off what members have said.
func (g *memoryAckGroup) settle(now time.Time) {
	g.mu.Lock()
	g.settled, g.ended = g.ended[:0], g.settled
	g.mu.Unlock()
	for _, d := range g.ended {
		g.end(d.memoryDelivery)
		switch task := d.task; {
		case task.acknowledged:
		case d.acknowledged:
			task.acknowledged = true
			g.open--
		case task.with == d.memoryDelivery:
			g.giveBack(task, now)
		}
	}
	clear(g.ended)
}

// end has the member have room again.
func (g *memoryAckGroup) end(d *memoryDelivery) {
	if d.at != nil {
		g.out.Remove(d.at)
		d.at = nil
		d.to.pending.Add(-1)
	}
}

// takeBack has another member get what one does not acknowledge.
func (g *memoryAckGroup) takeBack(d *memoryDelivery) {
	g.end(d)
	if !d.task.acknowledged && d.task.with == d {
		d.task.with = nil
		g.ready.push(d.task)
	}
}

// giveBack has a task delivered again: at once to another who has not seen it, or
// after a pause.
func (g *memoryAckGroup) giveBack(task *memoryTask, now time.Time) {
	task.with = nil
	if others := len(g.members.all) > 1; task.attempt == 1 && others {
		g.ready.push(task)
		return
	}
	task.notBefore = now.Add(giveBackPause)
	g.later.push(task)
}

func (g *memoryAckGroup) deliverAgain(now time.Time) {
	for g.ready.len() > 0 {
		task := g.ready.at(0)
		if task.acknowledged {
			g.ready.pop()
			continue
		}
		to := g.members.pick(task.last)
		if to == nil {
			return
		}
		g.give(g.ready.pop(), to, now)
	}
}

// readOn delivers what is new.
func (g *memoryAckGroup) readOn(now time.Time) {
	for {
		room := min(g.members.room(), g.members.most*len(g.members.all)-g.open)
		if room <= 0 || !g.unread.Swap(false) {
			return
		}
		page := g.read(room)
		if page.More {
			g.unread.Store(true)
		}
		for _, m := range page.Messages {
			g.open++
			g.give(&memoryTask{message: m}, g.members.pick(nil), now)
		}
	}
}

func (g *memoryAckGroup) read(most int) Page {
	r := newKeptReading(g.filter, Start{Kind: StartAfter}, most)
	r.begun, r.page.Lost = true, true // nobody asks
	for done := false; !done; {
		g.b.keptLane.mu.Lock()
		r.behind = g.cursor
		done = g.b.kept.step(r)
		g.cursor = r.behind
		g.b.keptLane.mu.Unlock()
	}
	return r.page
}

func (g *memoryAckGroup) give(task *memoryTask, to *memoryMember, now time.Time) {
	d := &memoryDelivery{task: task, to: to, deadline: now.Add(g.options.AckWait)}
	d.at = g.out.PushBack(d)
	to.pending.Add(1)
	task.attempt++
	task.with, task.last = d, to
	if task.attempt > 1 {
		g.b.counts.redelivered.Add(1)
	}
	to.Take(Delivery{Message: task.message, Attempt: task.attempt, Done: func(acknowledged bool) { g.done(d, acknowledged) }})
}

// done may be called from Take.
func (g *memoryAckGroup) done(d *memoryDelivery, acknowledged bool) {
	g.mu.Lock()
	first := !d.done
	d.done = true
	if first {
		g.settled = append(g.settled, memoryDeliveryEnded{d, acknowledged})
	}
	g.mu.Unlock()
	if first {
		g.turn.ask()
	}
}

// setTimer has work done when the next deadline passes, or the next pause.
func (g *memoryAckGroup) setTimer(now time.Time) {
	var next time.Time
	if e := g.out.Front(); e != nil {
		next = e.Value.(*memoryDelivery).deadline
	}
	if g.later.len() > 0 && (next.IsZero() || g.later.at(0).notBefore.Before(next)) {
		next = g.later.at(0).notBefore
	}
	if next.IsZero() || !g.timerAt.IsZero() && !next.Before(g.timerAt) {
		return
	}
	g.timerAt = next
	if g.timer == nil {
		g.timer = time.AfterFunc(next.Sub(now), g.timeUp)
	} else {
		g.timer.Reset(next.Sub(now))
	}
}

func (g *memoryAckGroup) timeUp() {
	g.turn.locked(func() { g.timerAt = time.Time{} })
	g.turn.ask()
}
