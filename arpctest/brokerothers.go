package arpctest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/arpc-go/arpc/extension/pubsub"
)

func brokerOtherChecks() []brokerCheck {
	kept := keptMessages(plenty)
	return []brokerCheck{
		{"announcements", nil, (*brokerCluster).checkAnnouncements},
		{"closing", kept, (*brokerCluster).checkClose},
		{"everything at once", keptMessages(50), (*brokerCluster).checkAtOnce},
	}
}

// brokerEar writes down what it hears.
type brokerEar struct {
	stop func()

	mu    sync.Mutex
	heard []string
	ended bool
	late  bool
}

func (c *brokerCluster) hear(node int, also func(text string)) *brokerEar {
	ear := new(brokerEar)
	stop, err := c.node(node).Hear(func(data []byte) {
		ear.mu.Lock()
		ear.heard = append(ear.heard, string(data))
		ear.late = ear.late || ear.ended
		ear.mu.Unlock()
		if also != nil {
			also(string(data))
		}
	})
	must("hear", err)
	ear.stop = stop
	return ear
}

func (e *brokerEar) has() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

func (e *brokerEar) end() {
	e.stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
}

func (e *brokerEar) checkCalls() {
	e.mu.Lock()
	defer e.mu.Unlock()
	holds(!e.late, "something was heard after stop or Close had returned")
}

func (c *brokerCluster) announce(node int, text string) {
	must("announce", c.node(node).Announce(c.ctx, []byte(text)))
}

func (c *brokerCluster) checkAnnouncements() {
	const senders, announcements = 4, 40
	var ears []*brokerEar
	for node := range c.nodes {
		ears = append(ears, c.hear(node, nil), c.hear(node, nil))
	}
	stopped := c.hear(0, nil)
	stopped.end()
	stopped.stop()
	answers := c.hear(1, func(text string) {
		if text == "question" {
			c.announce(1, "answer")
		}
	})
	c.atOnce(senders, func(sender int) {
		for i := range announcements {
			c.announce(sender, fmt.Sprintf("%d/%d", sender, i))
		}
	})
	c.announce(0, "question")
	for _, ear := range ears {
		c.until(func() bool { return len(ear.has()) >= senders*announcements+2 }, "announcements")
		checkHeard(ear.has(), senders, announcements)
		ear.end()
	}
	answers.end()
	heard := answers.has()
	holds(slices.Index(heard, "question") < slices.Index(heard, "answer"), "who answered heard the answer before the question")
	stopped.checkCalls()
}

// checkHeard checks that one has heard everything, in order per sender.
func checkHeard(heard []string, senders, announcements int) {
	holds(len(heard) == senders*announcements+2, "want %d announcements, heard %d", senders*announcements+2, len(heard))
	for sender := range senders {
		last := -1
		for i := range announcements {
			at := slices.Index(heard, fmt.Sprintf("%d/%d", sender, i))
			holds(at > last, "announcement %d of sender %d was not heard behind the one before", i, sender)
			last = at
		}
	}
}

func (c *brokerCluster) checkClose() {
	b := c.nodes[0]
	watch, keptWatch := c.watch(0, "live.*"), c.watch(0, "kept.*")
	member := c.join(0, "live.*", "group", pubsub.GroupOptions{}, nil)
	durable := c.join(0, "kept.*", "group", pubsub.GroupOptions{Ack: true, AckWait: longWait}, nil)
	ear := c.hear(0, nil)
	var closed atomic.Bool
	c.atOnce(4, func(i int) {
		if i == 0 {
			defer closed.Store(true)
			c.until(func() bool { return len(watch.got()) > 10 && len(durable.has()) > 10 && len(ear.has()) > 10 }, "something to arrive before closing")
			must("close", b.Close())
			for _, end := range []func(){watch.end, keptWatch.end, member.end, durable.end, ear.end} {
				end()
			}
			return
		}
		for !closed.Load() {
			b.Publish(c.ctx, &pubsub.Message{Topic: "live.a"})
			b.Publish(c.ctx, &pubsub.Message{Topic: "kept.a"})
			b.Announce(c.ctx, []byte("announcement"))
		}
	})
	must("close again", b.Close())
	for _, d := range append(member.has(), durable.has()...) {
		d.Done(true)
	}
	c.checkClosed(b)
	for _, checkCalls := range []func(){watch.checkCalls, keptWatch.checkCalls, member.checkCalls, durable.checkCalls, ear.checkCalls} {
		checkCalls()
	}
	c.checkOthersGoOn(b)
}

func (c *brokerCluster) checkClosed(b pubsub.Broker) {
	_, publish := b.Publish(c.ctx, &pubsub.Message{Topic: "live.a"})
	_, publishKept := b.Publish(c.ctx, &pubsub.Message{Topic: "kept.a"})
	_, watch := b.Watch("live.a", new(brokerWatch))
	_, read := b.Read(c.ctx, "kept.a", pubsub.Start{Kind: pubsub.StartAll}, 1)
	_, join := b.Join("live.a", "group", pubsub.GroupOptions{}, new(brokerMember))
	_, joinAck := b.Join("kept.a", "group", pubsub.GroupOptions{Ack: true}, new(brokerMember))
	_, hear := b.Hear(func([]byte) {})
	for doing, err := range map[string]error{
		"publish": publish, "publish, kept": publishKept, "watch": watch, "read": read, "join": join, "join, acknowledging": joinAck, "hear": hear,
		"publish to one": b.PublishToOne(c.ctx, &pubsub.Message{Topic: "live.a"}),
		"announce":       b.Announce(c.ctx, []byte("data")),
	} {
		holds(errors.Is(err, pubsub.ErrBrokerClosed), "%s after Close: want ErrBrokerClosed, got %v", doing, err)
	}
}

// checkOthersGoOn has the other nodes of a cluster work without one that is closed.
func (c *brokerCluster) checkOthersGoOn(closed pubsub.Broker) {
	rest := *c
	rest.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(b pubsub.Broker) bool { return b == closed })
	if len(rest.nodes) == 0 {
		return
	}
	for _, topic := range []string{"live.rest", "kept.rest"} {
		w := rest.watch(0, topic)
		rest.publish(1, topic, "text")
		rest.until(func() bool { return len(w.got()) > 0 }, "a message to another node")
	}
}

// checkAtOnce is for the race detector: all methods are called at the same time. What
// must hold is that everything ends, and that nobody is called when he must not be.
func (c *brokerCluster) checkAtOnce() {
	const rounds = 15
	acts := []func(i int){
		func(i int) { c.publish(i, fmt.Sprintf("live.%d", i%3), "data") },
		func(i int) { c.publish(i, fmt.Sprintf("kept.%d", i%3), "data") },
		func(i int) { c.publishMessage(i, &pubsub.Message{Topic: "kept.1", ID: fmt.Sprint(i % 20)}) },
		func(i int) { must("publish to one", c.node(i).PublishToOne(c.ctx, &pubsub.Message{Topic: "live.1"})) },
		func(i int) { c.read(i, "kept.*", pubsub.Start{Kind: pubsub.StartKind(i % 5)}, 1+i) },
		c.watchForALittle, c.joinForALittle, c.hearForALittle,
	}
	c.atOnce(2*len(acts), func(i int) {
		for round := range rounds {
			acts[i%len(acts)](i + round)
		}
	})
}

func (c *brokerCluster) watchForALittle(i int) {
	w := c.watch(i, []string{"live.*", "kept.*", ">", "live.1"}[i%4])
	c.publish(i, "live.1", "data")
	w.end()
	c.publish(i, "live.1", "data")
	w.checkCalls()
}

func (c *brokerCluster) joinForALittle(i int) {
	live := c.join(i, "live.*", "group", pubsub.GroupOptions{}, acknowledgeLater)
	ack := pubsub.GroupOptions{Ack: true, AckWait: longWait, MaxPending: 3}
	durable := c.join(i, "kept.*", "group", ack, mixed(i, acknowledge))
	c.publish(i, "live.2", "data")
	c.publish(i, "kept.2", "data")
	live.end()
	durable.end()
	live.checkCalls()
	durable.checkCalls()
}

func (c *brokerCluster) hearForALittle(i int) {
	ear := c.hear(i, nil)
	c.announce(i, "data")
	ear.end()
	ear.checkCalls()
}
