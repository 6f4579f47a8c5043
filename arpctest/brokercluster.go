package arpctest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// brokerCluster is what a brokerCheck works with. Its methods panic with a
// brokerFault if something goes wrong.
type brokerCluster struct {
	nodes    []pubsub.Broker
	ctx      context.Context
	patience time.Duration
}

// node returns one of the Brokers: each as often as the others as i grows.
func (c *brokerCluster) node(i int) pubsub.Broker { return c.nodes[i%len(c.nodes)] }

func must(doing string, err error) {
	if err != nil {
		panic(faultf("%s: %w", doing, err))
	}
}

func holds(ok bool, format string, args ...any) {
	if !ok {
		panic(faultf(format, args...))
	}
}

// until waits for what must happen.
func (c *brokerCluster) until(ok func() bool, format string, args ...any) {
	const pause = 2 * time.Millisecond
	poll := time.NewTicker(pause)
	defer poll.Stop()
	for deadline := time.Now().Add(c.patience); !ok(); <-poll.C {
		holds(time.Now().Before(deadline), "waited "+c.patience.String()+" for "+format, args...)
	}
}

// atOnce calls fn with 0 to n-1, each on a goroutine of its own.
func (c *brokerCluster) atOnce(n int, fn func(i int)) {
	faults := make([]any, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			defer func() { faults[i] = recover() }()
			fn(i)
		})
	}
	all.Wait()
	for _, fault := range faults {
		if fault != nil {
			panic(fault)
		}
	}
}

// publish publishes text at a node.
func (c *brokerCluster) publish(node int, topic, text string) pubsub.Position {
	return c.publishMessage(node, &pubsub.Message{Topic: topic, Data: []byte(text), Time: time.Now()})
}

func (c *brokerCluster) publishMessage(node int, m *pubsub.Message) pubsub.Position {
	p, err := c.node(node).Publish(c.ctx, m)
	must(fmt.Sprintf("publish %q to %s", m.Data, m.Topic), err)
	return p
}

// publishAll has several publishers, each at a node, publish so many messages to each
// topic, whose text is the publisher and a number.
func (c *brokerCluster) publishAll(publishers, messages int, topics ...string) {
	c.atOnce(publishers, func(publisher int) {
		for i := range messages {
			for _, topic := range topics {
				c.publish(publisher, topic, fmt.Sprintf("%d/%d", publisher, i))
			}
		}
	})
}

// read returns one page.
func (c *brokerCluster) read(node int, filter string, from pubsub.Start, limit int) pubsub.Page {
	page, err := c.node(node).Read(c.ctx, filter, from, limit)
	must(fmt.Sprintf("read %q from %+v", filter, from), err)
	holds(len(page.Messages) <= limit, "read %q: got %d messages, asked for %d", filter, len(page.Messages), limit)
	return page
}

// head returns the position behind everything there is.
func (c *brokerCluster) head(node int) pubsub.Position {
	page := c.read(node, "kept.>", pubsub.Start{Kind: pubsub.StartNew}, 1)
	holds(len(page.Messages) == 0, "reading from StartNew returned messages")
	holds(page.Next.Epoch != "", "there is a position without an epoch")
	return page.Next
}

// readAll reads page after page. Complete is what the first says.
func (c *brokerCluster) readAll(node int, filter string, from pubsub.Start, limit int) pubsub.Page {
	all := c.read(node, filter, from, limit)
	last := offsetsGrow(filter, 0, all.Messages)
	for page := all; page.More; {
		holds(len(page.Messages) > 0, "read %q: an empty page says that there is more", filter)
		from.Position = page.Next
		page = c.read(node, filter, from, limit)
		last = offsetsGrow(filter, last, page.Messages)
		all.Messages = append(all.Messages, page.Messages...)
		all.Next, all.More = page.Next, page.More
		holds(page.Complete || !all.Complete, "read %q: nothing was published meanwhile, and a further page is not complete", filter)
	}
	return all
}

// offsetsGrow returns the last offset.
func offsetsGrow(filter string, last uint64, messages []*pubsub.Message) uint64 {
	for _, m := range messages {
		holds(m.Offset > last, "read %q: offset %d comes behind %d", filter, m.Offset, last)
		last = m.Offset
	}
	return last
}

// brokerWatch is a Watcher that writes down what it is told.
type brokerWatch struct {
	filter string
	size   int
	refuse bool // to be the one of DeliverToOne
	stop   func()

	inside             atomic.Int32
	ended              atomic.Bool
	overlapped, tooFar atomic.Bool

	mu       sync.Mutex
	messages []*pubsub.Message
	toOne    []*pubsub.Message
}

// watch watches at a node.
func (c *brokerCluster) watch(node int, filter string) *brokerWatch {
	return c.watchAs(node, &brokerWatch{filter: filter, size: 1})
}

func (c *brokerCluster) watchAs(node int, w *brokerWatch) *brokerWatch {
	stop, err := c.node(node).Watch(w.filter, w)
	must(fmt.Sprintf("watch %q", w.filter), err)
	w.stop = stop
	return w
}

// watchEverywhere watches all filters at all nodes.
func (c *brokerCluster) watchEverywhere(filters ...string) (all []*brokerWatch) {
	for node := range c.nodes {
		for _, filter := range filters {
			all = append(all, c.watch(node, filter))
		}
	}
	return all
}

// enter notes that the watcher is called, leave that it is no more.
func (w *brokerWatch) enter() {
	if w.inside.Add(1) > 1 {
		w.overlapped.Store(true)
	}
	if w.ended.Load() {
		w.tooFar.Store(true)
	}
}

func (w *brokerWatch) leave() { w.inside.Add(-1) }

func (w *brokerWatch) Deliver(m *pubsub.Message) {
	w.enter()
	defer w.leave()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages = append(w.messages, m)
}

func (w *brokerWatch) DeliverToOne(m *pubsub.Message) bool {
	w.enter()
	defer w.leave()
	if w.refuse {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.toOne = append(w.toOne, m)
	return true
}

func (w *brokerWatch) Size() int { return w.size }

func (w *brokerWatch) Interrupted(error) {}

func (w *brokerWatch) Resumed(bool) {}

// end stops watching. Nothing may come afterwards.
func (w *brokerWatch) end() {
	w.stop()
	w.ended.Store(true)
}

// got returns what was delivered so far.
func (w *brokerWatch) got() []*pubsub.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.messages[:len(w.messages):len(w.messages)]
}

func (w *brokerWatch) gotToOne() []*pubsub.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.toOne[:len(w.toOne):len(w.toOne)]
}

// checkCalls looks at how the watcher was called.
func (w *brokerWatch) checkCalls() {
	holds(!w.overlapped.Load(), "the watcher of %q was called while it was called", w.filter)
	holds(!w.tooFar.Load(), "the watcher of %q was called after stop or Close had returned", w.filter)
}

// texts returns the data of messages.
func texts(messages []*pubsub.Message) []string {
	all := make([]string, 0, len(messages))
	for _, m := range messages {
		all = append(all, string(m.Data))
	}
	return all
}
