package arpctest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

func brokerGroupChecks() []brokerCheck {
	kept := keptMessages(plenty)
	return []brokerCheck{
		{"a group without acknowledgement", kept, (*brokerCluster).checkLiveGroups},
		{"a group with acknowledgement", kept, (*brokerCluster).checkAckGroups},
		{"a member leaves", kept, (*brokerCluster).checkLeaves},
		{"a message is given back", kept, (*brokerCluster).checkGivenBack},
		{"a member does not acknowledge in time", kept, (*brokerCluster).checkAckWait},
		{"a group outlives its members", kept, (*brokerCluster).checkOutlives},
		{"a group begins when it is first joined", kept, (*brokerCluster).checkGroupBegins},
		{"a member has so many at a time", kept, (*brokerCluster).checkMaxPending},
		{"members come and go", kept, (*brokerCluster).checkComeAndGo},
		{"options of a group", kept, (*brokerCluster).checkGroupOptions},
	}
}

// longWait is an AckWait that never is over.
const longWait = time.Hour

// brokerMember is a Member that writes down what it takes.
type brokerMember struct {
	// what is done with a delivery, in Take or later. Nil: it is held.
	handle func(d pubsub.Delivery)
	leave  func()

	mu    sync.Mutex
	taken []pubsub.Delivery
	gone  bool
	late  bool // something came after leave had returned
}

func (m *brokerMember) Take(d pubsub.Delivery) {
	m.mu.Lock()
	m.taken = append(m.taken, d)
	m.late = m.late || m.gone
	m.mu.Unlock()
	if m.handle != nil {
		m.handle(d)
	}
}

func (m *brokerMember) has() []pubsub.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken[:len(m.taken):len(m.taken)]
}

func (m *brokerMember) texts() (all []string) {
	for _, d := range m.has() {
		all = append(all, string(d.Data))
	}
	return all
}

// end leaves the group. Nothing may come afterwards.
func (m *brokerMember) end() {
	m.leave()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = true
}

func (m *brokerMember) checkCalls() {
	m.mu.Lock()
	defer m.mu.Unlock()
	holds(!m.late, "a member got a message after leave or Close had returned")
}

// acknowledge is done in Take, acknowledgeLater on another goroutine.
func acknowledge(d pubsub.Delivery)      { d.Done(true) }
func acknowledgeLater(d pubsub.Delivery) { go d.Done(true) }

func (c *brokerCluster) join(node int, filter, group string, o pubsub.GroupOptions, handle func(pubsub.Delivery)) *brokerMember {
	m := &brokerMember{handle: handle}
	leave, err := c.node(node).Join(filter, group, o, m)
	must(fmt.Sprintf("join group %q of %q", group, filter), err)
	m.leave = leave
	return m
}

// untilAll waits until members together have certain texts, each at least once.
func (c *brokerCluster) untilAll(want []string, members ...*brokerMember) {
	slices.Sort(want)
	var missing []string
	c.until(func() bool {
		got := make(map[string]bool)
		for _, m := range members {
			for _, text := range m.texts() {
				got[text] = true
			}
		}
		missing = slices.DeleteFunc(slices.Clone(want), func(text string) bool { return got[text] })
		return len(missing) == 0
	}, "members to have %d messages", len(want))
}

// checkOnce checks that members together have certain texts, each once and the first
// time, and that each member's are in the order of their publishers.
func checkOnce(group string, want []string, members ...*brokerMember) {
	var got []string
	for _, m := range members {
		got = append(got, m.texts()...)
		last := make(map[string]int)
		for _, d := range m.has() {
			var publisher, number int
			fmt.Sscanf(string(d.Data), "%d/%d", &publisher, &number)
			from := fmt.Sprint(publisher, d.Topic)
			holds(number >= last[from], "group %q: a member got message %d of %s behind %d", group, number, from, last[from])
			last[from] = number
			holds(d.Attempt == 1, "group %q: what comes the first time has attempt %d", group, d.Attempt)
		}
	}
	slices.Sort(got)
	holds(slices.Equal(want, got), "group %q: want each of %d messages once, got %d: %q", group, len(want), len(got), got)
}

// numberedTexts is what publishAll publishes to so many topics, sorted.
func numberedTexts(publishers, messages, topics int) (all []string) {
	for publisher := range publishers {
		for i := range messages {
			all = append(all, slices.Repeat([]string{fmt.Sprintf("%d/%d", publisher, i)}, topics)...)
		}
	}
	slices.Sort(all)
	return all
}

func (c *brokerCluster) checkLiveGroups() {
	const publishers, messages = 3, 50
	o := pubsub.GroupOptions{MaxPending: plenty} // so that nothing is passed on to who has room, which may change the order
	for _, kind := range []string{"live", "kept"} {
		filter := kind + ".*"
		w := c.watch(0, filter)
		three := []*brokerMember{c.join(0, filter, "three", o, acknowledge), c.join(1, filter, "three", o, acknowledgeLater), c.join(2, filter, "three", o, acknowledge)}
		one := c.join(1, filter, "one", o, acknowledgeLater)
		same := c.join(2, kind+".a", "one", o, acknowledge) // of another filter, so of another group
		c.publishAll(publishers, messages, kind+".a", kind+".b")

		want := numberedTexts(publishers, messages, 2)
		c.until(func() bool { return len(three[0].has())+len(three[1].has())+len(three[2].has()) >= len(want) }, "%d messages to three members", len(want))
		c.until(func() bool { return len(one.has()) >= len(want) }, "%d messages to one member", len(want))
		c.until(func() bool { return len(same.has()) >= len(want)/2 }, "%d messages to another group", len(want)/2)
		c.until(func() bool { return len(w.got()) >= len(want) }, "%d messages to who watches", len(want))
		checkOnce("three", want, three...)
		checkOnce("one", want, one)
		checkOnce("one, another filter", numberedTexts(publishers, messages, 1), same)
		c.checkWithoutMembers(append(three, one, same), kind+".a")
	}
}

// checkWithoutMembers has all leave: who joins later gets what is published later.
func (c *brokerCluster) checkWithoutMembers(members []*brokerMember, topic string) {
	for _, m := range members {
		m.end()
		m.leave()
	}
	c.publish(0, topic, "lost")
	late := c.join(0, topic, "one", pubsub.GroupOptions{}, acknowledge)
	c.publish(1, topic, "later")
	c.until(func() bool { return len(late.has()) > 0 }, "a message to who has joined again")
	holds(slices.Equal(late.texts(), []string{"later"}), "a group without acknowledgement and members kept messages: %q", late.texts())
	late.end()
	for _, m := range members {
		m.checkCalls()
	}
}

func (c *brokerCluster) checkAckGroups() {
	const publishers, messages = 3, 50
	o := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: 10}
	three := []*brokerMember{c.join(0, "kept.*", "three", o, acknowledge), c.join(1, "kept.*", "three", o, acknowledgeLater), c.join(2, "kept.*", "three", o, acknowledge)}
	one := c.join(1, "kept.*", "one", o, acknowledgeLater)
	literal := c.join(2, "kept.a", "one", o, acknowledge)
	c.publishAll(publishers, messages, "kept.a", "kept.b", "live.a")

	want := numberedTexts(publishers, messages, 2)
	c.until(func() bool { return len(three[0].has())+len(three[1].has())+len(three[2].has()) >= len(want) }, "%d messages to three members", len(want))
	c.until(func() bool { return len(one.has()) >= len(want) }, "%d messages to one member", len(want))
	c.until(func() bool { return len(literal.has()) >= len(want)/2 }, "%d messages to another group", len(want)/2)
	checkOnce("three", want, three...)
	checkOnce("one", want, one)
	checkOnce("one, another filter", numberedTexts(publishers, messages, 1), literal)
	for _, m := range append(three, one, literal) {
		m.end()
		m.checkCalls()
	}
}

func (c *brokerCluster) checkGroupOptions() {
	for _, o := range []pubsub.GroupOptions{{}, {Ack: true, AckWait: longWait}} {
		m := c.join(0, "kept.options", fmt.Sprint(o.Ack), o, acknowledge)
		same := c.join(0, "kept.options", fmt.Sprint(o.Ack), o.WithDefaults(), acknowledge)
		other := o
		other.MaxPending = 7
		_, err := c.nodes[0].Join("kept.options", fmt.Sprint(o.Ack), other, m)
		holds(arpc.CodeOf(err) == arpc.CodeFailedPrecondition, "joining with other options: want an error of CodeFailedPrecondition, got %v", err)
		m.end()
		same.end()
		changed := c.join(0, "kept.options", fmt.Sprint(o.Ack), other, acknowledge)
		c.publish(0, "kept.options", "changed")
		c.until(func() bool { return len(changed.has()) == 1 }, "a group whose options have changed")
		changed.end()
	}
}
