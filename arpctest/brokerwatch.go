package arpctest

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

func brokerWatchChecks() []brokerCheck {
	kept := keptMessages(plenty)
	return []brokerCheck{
		{"everybody gets every message once and in order", kept, (*brokerCluster).checkEveryone},
		{"a message arrives as it was published", kept, (*brokerCluster).checkFields},
		{"filters", kept, (*brokerCluster).checkFilters},
		{"watching starts and stops while others publish", kept, (*brokerCluster).checkStops},
		{"one to one", kept, (*brokerCluster).checkToOne},
		{"doubles", kept, (*brokerCluster).checkDoubles},
		{"refused", kept, (*brokerCluster).checkRefused},
		{"contexts", kept, (*brokerCluster).checkContexts},
	}
}

func (c *brokerCluster) checkEveryone() {
	const publishers, messages = 4, 60
	topics := []string{"live.a", "live.b", "kept.a", "kept.b"}
	literal := c.watchEverywhere(topics...)
	wild := c.watchEverywhere("live.*", "kept.>")
	c.publishAll(publishers, messages, topics...)
	for _, w := range literal {
		c.checkReceived(w, publishers*messages)
	}
	for _, w := range wild {
		c.checkReceived(w, 2*publishers*messages)
	}
}

// checkReceived waits until a watcher has so many messages of publishAll, and checks
// that they are in order and that there are no others.
func (c *brokerCluster) checkReceived(w *brokerWatch, want int) {
	c.until(func() bool { return len(w.got()) >= want }, "%d messages to %q, got %v", want, w.filter, counted{w})
	c.inOrder(w)
	holds(len(w.got()) == want, "%q: want %d messages, got %d", w.filter, want, len(w.got()))
	w.end()
	w.checkCalls()
}

// counted is how many messages a watcher has, when it is printed.
type counted struct{ w *brokerWatch }

func (n counted) String() string { return fmt.Sprint(len(n.w.got())) }

// inOrder checks that the messages of each publisher and topic have the numbers from 0
// on, and that offsets grow.
func (c *brokerCluster) inOrder(w *brokerWatch) {
	type source struct{ publisher, topic string }
	next := make(map[source]int)
	var offset uint64
	for _, m := range w.got() {
		var publisher, number int
		_, err := fmt.Sscanf(string(m.Data), "%d/%d", &publisher, &number)
		must("scan "+string(m.Data), err)
		from := source{fmt.Sprint(publisher), m.Topic}
		holds(next[from] == number, "%q: of %+v came message %d where %d should come", w.filter, from, number, next[from])
		next[from]++
		if m.Offset != 0 {
			holds(m.Offset > offset, "%q: offset %d came behind %d", w.filter, m.Offset, offset)
			offset = m.Offset
		}
	}
}

func (c *brokerCluster) checkFields() {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	large := make([]byte, 200<<10)
	for i := range large {
		large[i] = byte(i * i >> 3)
	}
	date := time.Date(2031, 7, 1, 12, 30, 59, 123456789, time.FixedZone("", 3600))
	for i, m := range []pubsub.Message{
		{Data: all, Time: date, Key: "key", ID: "id"},
		{Data: large, Time: date.AddDate(-40, 0, 0)},
		{Data: nil, Time: date, Key: "a key\x00 of any bytes\xff", ID: "an ID\r\n of any: bytes\xff"},
	} {
		for _, topic := range []string{"kept.fields", "live.fields", "live.with spaces/and\r\nsigns.ä\xff", "kept..empty."} {
			m.Topic = topic
			c.checkArrives(i, m)
		}
	}
}

func (c *brokerCluster) checkArrives(node int, m pubsub.Message) {
	watches := c.watchEverywhere(m.Topic)
	given := m
	p := c.publishMessage(node, &given)
	holds(given.Offset == 0, "Publish has changed the message it was given")
	m.Offset = p.Offset
	for _, w := range watches {
		c.until(func() bool { return len(w.got()) > 0 }, "a message to %q", m.Topic)
		checkSame(&m, w.got()[0])
		w.end()
	}
	if p.Offset != 0 {
		page := c.read(node+1, m.Topic, pubsub.Start{Kind: pubsub.StartLast}, 1)
		holds(len(page.Messages) == 1, "read %q: want its last message", m.Topic)
		checkSame(&m, page.Messages[0])
	}
}

func checkSame(want, got *pubsub.Message) {
	same := want.Topic == got.Topic && string(want.Data) == string(got.Data) && want.Time.Equal(got.Time) &&
		want.Offset == got.Offset && want.Key == got.Key && want.ID == got.ID
	if !same {
		panic(faultf("published %s, got %s", shown(*want), shown(*got)))
	}
}

func (c *brokerCluster) checkFilters() {
	topics := []string{"live", "live.a", "live.a.b", "live.x.b", "live..b", "live.a.b.c", "live.chat room/1", "kept.a", "kept.a.b", "kept.a.b.c", "kept.", "a*b.c>d"}
	filters := append(slices.Clone(topics), ">", "*", "*.a", "live.*", "live.>", "live.*.b", "*.*.b", "*.a.>", "kept.>", "kept.*", "a*b.*", "nothing.*")
	watches := make([]*brokerWatch, len(filters))
	for i, filter := range filters {
		watches[i] = c.watch(i, filter)
	}
	const rounds = 3
	for round := range rounds {
		for _, topic := range topics {
			c.publish(round, topic, topic)
		}
	}
	for _, w := range watches {
		var want []string
		for _, topic := range topics {
			if subject.Match(w.filter, topic) {
				want = append(want, slices.Repeat([]string{topic}, rounds)...)
			}
		}
		c.until(func() bool { return len(w.got()) >= len(want) }, "%d messages to %q", len(want), w.filter)
		got := texts(w.got())
		slices.Sort(want)
		slices.Sort(got)
		holds(slices.Equal(want, got), "%q: want %q, got %q", w.filter, want, got)
	}
}

func (c *brokerCluster) checkStops() {
	for _, topic := range []string{"live.stop", "kept.stop"} {
		stay := c.watch(1, topic)
		const watchers = 3
		done := make(chan struct{}, watchers)
		var begun atomic.Int64 // messages whose publishing has begun
		total := 0
		c.atOnce(1+watchers, func(i int) {
			if i > 0 {
				defer func() { done <- struct{}{} }()
				for range 8 {
					c.checkWatchesFromNow(i, topic, &begun)
				}
				return
			}
			for ; len(done) < watchers; total++ {
				begun.Store(int64(total))
				c.publish(0, topic, fmt.Sprintf("0/%d", total))
			}
		})
		c.until(func() bool { return len(stay.got()) >= total }, "%d messages to %q", total, topic)
		c.inOrder(stay)
		stay.end()
		stay.checkCalls()
	}
}

// checkWatchesFromNow watches for a few messages of one publisher, who counts them.
func (c *brokerCluster) checkWatchesFromNow(node int, topic string, begun *atomic.Int64) {
	w := c.watch(node, topic)
	since := int(begun.Load()) + 1 // that one and all that follow must come
	const some = 5
	c.until(func() bool {
		got := w.got()
		return len(got) > 0 && numberOf(got[len(got)-1]) >= since+some
	}, "messages to %q from %d on", topic, since)
	w.end()
	w.stop()
	got := w.got()
	first := numberOf(got[0])
	holds(first <= since, "%q: the first message after Watch returned is %d, want %d", topic, first, since)
	for i, m := range got {
		holds(numberOf(m) == first+i, "%q: message %d is missing or comes twice, got %q", topic, first+i, m.Data)
	}
	w.checkCalls()
}

func numberOf(m *pubsub.Message) (number int) {
	_, err := fmt.Sscanf(string(m.Data), "0/%d", &number)
	must("scan "+string(m.Data), err)
	return number
}
