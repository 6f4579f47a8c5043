package arpctest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// some publishes messages called name/0, name/1 and so on, and returns their texts.
func (c *brokerCluster) some(name string, messages int, topic string) (all []string) {
	for i := range messages {
		all = append(all, fmt.Sprintf("%s/%d", name, i))
		c.publish(i, topic, all[i])
	}
	return all
}

func (c *brokerCluster) checkLeaves() {
	o := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: 100}
	leaves := c.join(0, "kept.leave", "group", o, nil)
	first := c.some("first", 10, "kept.leave")
	c.untilAll(first, leaves)
	stays := c.join(1, "kept.leave", "group", o, acknowledge)
	second := c.some("second", 20, "kept.leave")
	c.untilAll(second, leaves, stays)
	leaves.end()
	held := leaves.texts()
	c.untilAll(slices.Concat(first, held), stays)
	for _, d := range stays.has() {
		again := slices.Contains(held, string(d.Data))
		holds(again == (d.Attempt > 1), "%q came with attempt %d; that another had it is %v", d.Data, d.Attempt, again)
	}
	holds(len(stays.has()) == len(first)+len(second), "want each of %d messages once, got %q", len(first)+len(second), stays.texts())
	for _, d := range leaves.has() {
		d.Done(true) // too late, and harmless
	}
	c.untilAll(c.some("third", 1, "kept.leave"), stays)
	stays.end()
	leaves.checkCalls()
	stays.checkCalls()
}

func (c *brokerCluster) checkGivenBack() {
	o := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: 3}
	const times = 3
	alone := c.join(0, "kept.back", "group", o, func(d pubsub.Delivery) { d.Done(d.Attempt >= times) })
	want := c.some("alone", 5, "kept.back")
	c.until(func() bool { return len(alone.has()) >= times*len(want) }, "messages that were given back")
	attempts := make(map[string]int)
	for _, d := range alone.has() {
		attempts[string(d.Data)]++
		holds(d.Attempt == attempts[string(d.Data)], "%q came the %dth time with attempt %d", d.Data, attempts[string(d.Data)], d.Attempt)
	}
	alone.end()

	never := c.join(0, "kept.back", "group", o, func(d pubsub.Delivery) { go d.Done(false) })
	other := c.join(1, "kept.back", "group", o, acknowledgeLater)
	want = c.some("two", 20, "kept.back")
	c.untilAll(want, other)
	never.end()
	other.end()
	holds(len(other.has()) == len(want), "want each of %d messages acknowledged once, got %q", len(want), other.texts())
}

func (c *brokerCluster) checkAckWait() {
	o := pubsub.GroupOptions{Ack: true, AckWait: 200 * time.Millisecond, MaxPending: 100}
	silent := c.join(0, "kept.wait", "group", o, nil)
	want := c.some("alone", 3, "kept.wait")
	c.until(func() bool {
		return slices.ContainsFunc(silent.has(), func(d pubsub.Delivery) bool { return d.Attempt == 2 })
	}, "a message that was not acknowledged in time")
	other := c.join(1, "kept.wait", "group", o, acknowledge)
	c.untilAll(want, other)
	for _, d := range other.has() {
		holds(d.Attempt > 1, "%q came to the second member with attempt %d", d.Data, d.Attempt)
	}
	silent.end()
	other.end()
}

func (c *brokerCluster) checkOutlives() {
	o := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: 100}
	holder := c.join(0, "kept.outlive", "group", o, nil)
	held := c.some("held", 3, "kept.outlive")
	c.untilAll(held, holder)
	holder.end()
	holder.checkCalls()
	missed := c.some("missed", 5, "kept.outlive")
	later := c.join(1, "kept.outlive", "group", o, acknowledge)
	want := slices.Concat(held, missed)
	c.untilAll(slices.Clone(want), later)
	holds(len(later.has()) == len(want), "want each of %q once, got %q", want, later.texts())
	for _, d := range later.has() {
		again := slices.Contains(held, string(d.Data))
		holds(again == (d.Attempt > 1), "%q came with attempt %d; that another had it is %v", d.Data, d.Attempt, again)
	}
	later.end()
	again := c.join(2, "kept.outlive", "group", o, acknowledge)
	c.untilAll(c.some("new", 1, "kept.outlive"), again)
	holds(len(again.has()) == 1, "what was acknowledged came again: %q", again.texts())
	again.end()
}

func (c *brokerCluster) checkGroupBegins() {
	c.some("before", 3, "kept.begin")
	m := c.join(0, "kept.*", "group", pubsub.GroupOptions{Ack: true, AckWait: longWait}, acknowledge)
	want := c.some("after", 3, "kept.begin")
	c.untilAll(slices.Clone(want), m)
	holds(slices.Equal(m.texts(), want), "want what was published after joining, %q, got %q", want, m.texts())
	m.end()
}

func (c *brokerCluster) checkMaxPending() {
	const most, messages = 2, 20
	o := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: most}
	full := c.join(0, "kept.pending", "group", o, nil)
	want := c.some("some", messages, "kept.pending")
	c.until(func() bool { return len(full.has()) >= most }, "a member to have %d messages", most)
	other := c.join(1, "kept.pending", "group", o, acknowledge)
	c.until(func() bool { return len(other.has()) >= messages-most }, "another member to get the rest")
	for done := range messages {
		if len(full.has())+len(other.has()) == messages && done >= len(full.has()) {
			break
		}
		holds(len(full.has()) <= done+most, "a member that may have %d messages at a time has %d", most, len(full.has())-done)
		c.until(func() bool { return len(full.has()) > done }, "a member to get as many as it has acknowledged")
		full.has()[done].Done(true)
	}
	c.untilAll(want, full, other)
	holds(len(full.has())+len(other.has()) == messages, "want each of %d messages once, got %q and %q", messages, full.texts(), other.texts())
	full.end()
	other.end()
}

// checkComeAndGo has members come, take some messages, treat each in another way and
// leave with what they have. In the end all messages have been acknowledged.
func (c *brokerCluster) checkComeAndGo() {
	const messages, members, stays = 150, 4, 12
	o := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: 5}
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	done := func(d pubsub.Delivery) {
		mu.Lock()
		acknowledged[string(d.Data)] = true
		mu.Unlock()
		d.Done(true)
	}
	var published atomic.Bool
	first := c.join(0, "kept.>", "group", o, nil) // so that the group is there
	c.atOnce(members+1, func(i int) {
		if i == members {
			defer published.Store(true)
			c.some("some", messages, "kept.go")
			return
		}
		for stay := range stays {
			m := c.join(i, "kept.>", "group", o, mixed(i+stay, done))
			c.until(func() bool { return len(m.has()) > stay%4 || published.Load() }, "messages to a member that came")
			m.end()
			m.checkCalls()
		}
	})
	first.end()
	last := c.join(1, "kept.>", "group", o, done)
	c.until(func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged) == messages
	}, "%d messages to be acknowledged", messages)
	last.end()
}

// mixed returns what a member does with its messages, by turns.
func mixed(begin int, done func(pubsub.Delivery)) func(pubsub.Delivery) {
	n := begin
	return func(d pubsub.Delivery) {
		n++
		switch n % 4 {
		case 0:
			done(d)
		case 1:
			go done(d)
		case 2:
			go d.Done(false)
		}
	}
}
