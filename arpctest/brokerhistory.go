package arpctest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
)

func brokerHistoryChecks() []brokerCheck {
	kept := keptMessages(plenty)
	return []brokerCheck{
		{"positions", kept, (*brokerCluster).checkPositions},
		{"history from every kind of start", kept, (*brokerCluster).checkStarts},
		{"history page by page", kept, (*brokerCluster).checkPages},
		{"history has what was accepted", kept, (*brokerCluster).checkReadsAtOnce},
		{"positions of another epoch", kept, (*brokerCluster).checkEpochs},
		{"topics without history", kept, (*brokerCluster).checkNoHistory},
		{"reading joins with watching", kept, (*brokerCluster).checkJoins},
		{"what is lost while it is read", keptMessages(2), (*brokerCluster).checkLostMeanwhile},
		{"complete within a number of messages", keptMessages(3), (*brokerCluster).checkCompleteMessages},
		{"complete within a number of bytes", keptBytes(100), (*brokerCluster).checkCompleteBytes},
		{"complete within an age", keptFor(300 * time.Millisecond), (*brokerCluster).checkCompleteAge},
	}
}

func (c *brokerCluster) checkPositions() {
	const publishers, messages = 4, 40
	w := c.watch(1, "kept.>")
	epoch := c.head(0).Epoch
	var mu sync.Mutex
	at := make(map[uint64]string) // texts by offsets
	c.atOnce(publishers, func(publisher int) {
		var last uint64
		for i := range messages {
			text := fmt.Sprintf("%d/%d", publisher, i)
			p := c.publish(publisher, fmt.Sprintf("kept.%d", publisher%2), text)
			holds(p.Epoch == epoch, "a message has a position of epoch %q, history has %q", p.Epoch, epoch)
			holds(p.Offset > last, "offset %d follows %d", p.Offset, last)
			last = p.Offset
			mu.Lock()
			at[last] = text
			mu.Unlock()
			live := c.publish(publisher, "live.a", text)
			holds(live == pubsub.Position{}, "a message to a topic without history has position %+v", live)
		}
	})
	holds(len(at) == publishers*messages, "%d messages have %d offsets", publishers*messages, len(at))
	c.until(func() bool { return len(w.got()) >= len(at) }, "%d messages to %q", len(at), w.filter)
	history := c.readAll(2, "kept.>", pubsub.Start{Kind: pubsub.StartAll}, plenty)
	for _, messages := range [][]*pubsub.Message{w.got(), history.Messages} {
		holds(len(messages) == len(at), "want %d messages, got %d", len(at), len(messages))
		for _, m := range messages {
			holds(at[m.Offset] == string(m.Data), "Publish gave offset %d to %q, it arrived with %q", m.Offset, at[m.Offset], m.Data)
		}
	}
}

// published is a message that a check has published.
type published struct {
	pubsub.Position
	topic, text string
	time        time.Time
}

// fill publishes messages to topics in turn, at all nodes in turn, each at another time.
func (c *brokerCluster) fill(messages int, topics ...string) (all []published) {
	for i := range messages {
		one := published{topic: topics[i%len(topics)], text: fmt.Sprint(i), time: time.Now()}
		for len(all) > 0 && !one.time.After(all[len(all)-1].time) {
			one.time = time.Now()
		}
		one.Position = c.publishMessage(i, &pubsub.Message{Topic: one.topic, Data: []byte(one.text), Time: one.time})
		all = append(all, one)
	}
	return all
}

// expect reads at all nodes, all pages, and compares. All topics have history.
func (c *brokerCluster) expect(filter string, from pubsub.Start, complete bool, want ...string) {
	c.expectPage(filter, from, pubsub.Page{Complete: complete, Lost: !complete}, want...)
}

// expectPage compares Lost, Complete and texts.
func (c *brokerCluster) expectPage(filter string, from pubsub.Start, like pubsub.Page, want ...string) {
	for node := range c.nodes {
		for _, limit := range []int{1, 4, plenty} {
			page := c.readAll(node, filter, from, limit)
			got := texts(page.Messages)
			holds(slices.Equal(got, want), "%q from %+v: want %q, got %q", filter, from, want, got)
			holds(page.Complete == like.Complete && page.Lost == like.Lost, "%q from %+v, which is %q: Complete is %v, Lost %v", filter, from, got, page.Complete, page.Lost)
		}
	}
}

func (c *brokerCluster) checkStarts() {
	begin := c.head(0)
	all := c.fill(9, "kept.a", "kept.b.c", "kept.d")
	after := func(p pubsub.Position) pubsub.Start { return pubsub.Start{Kind: pubsub.StartAfter, Position: p} }
	since := func(t time.Time) pubsub.Start { return pubsub.Start{Kind: pubsub.StartSince, Time: t} }
	oldest, last := pubsub.Start{Kind: pubsub.StartAll}, pubsub.Start{Kind: pubsub.StartLast}

	c.expect("kept.>", pubsub.Start{}, true)
	c.expect("kept.>", oldest, true, "0", "1", "2", "3", "4", "5", "6", "7", "8")
	c.expect("kept.*", oldest, true, "0", "2", "3", "5", "6", "8")
	c.expect("kept.b.c", oldest, true, "1", "4", "7")
	c.expect("kept.none", oldest, true)
	c.expect("kept.>", last, true, "6", "7", "8")
	c.expect("kept.*", last, true, "6", "8")
	c.expect("kept.a", last, true, "6")
	c.expect("kept.none", last, true)
	c.expect("kept.*", after(begin), true, "0", "2", "3", "5", "6", "8")
	for i, one := range all {
		behind := make([]string, 0, len(all))
		for _, other := range all[i+1:] {
			behind = append(behind, other.text)
		}
		c.expect("kept.>", after(one.Position), true, behind...)
		c.expect("kept.>", since(one.time), true, append([]string{one.text}, behind...)...)
	}
	c.expect("kept.a", after(all[3].Position), true, "6")
	c.expect("kept.a", after(all[2].Position), true, "3", "6")
	c.expect("kept.a", since(all[2].time), true, "3", "6")
	c.expect("kept.a", since(all[8].time), true)
	c.expect("kept.>", pubsub.Start{Kind: pubsub.StartAll, Position: all[6].Position}, true, "7", "8")
	c.expect("kept.>", pubsub.Start{Kind: pubsub.StartLast, Position: all[6].Position}, true, "7", "8")
	c.expect("kept.>", pubsub.Start{Kind: pubsub.StartSince, Time: all[0].time, Position: all[6].Position}, true, "7", "8")
}

func (c *brokerCluster) checkPages() {
	const messages = 25
	c.fill(messages, "kept.a", "kept.b", "kept.c")
	for _, filter := range []string{"kept.>", "kept.b"} {
		for _, kind := range []pubsub.StartKind{pubsub.StartAll, pubsub.StartSince, pubsub.StartLast, pubsub.StartNew} {
			start := pubsub.Start{Kind: kind}
			whole := c.readAll(0, filter, start, plenty)
			for _, limit := range []int{1, 2, 7, messages, messages + 1} {
				pages := c.readAll(1, filter, start, limit)
				holds(slices.Equal(texts(pages.Messages), texts(whole.Messages)), "%q from %+v in pages of %d: got %q, in one page %q",
					filter, start, limit, texts(pages.Messages), texts(whole.Messages))
			}
			more := c.fill(1, "kept.b")
			behind := pubsub.Start{Kind: pubsub.StartAfter, Position: whole.Next}
			c.expect(filter, behind, true, more[0].text)
		}
	}
}

func (c *brokerCluster) checkReadsAtOnce() {
	start := pubsub.Start{Kind: pubsub.StartAfter, Position: c.head(0)}
	for i := range 30 {
		p := c.publish(i, "kept.now", fmt.Sprint(i))
		page := c.read(i+1, "kept.now", start, 10)
		holds(slices.Equal(texts(page.Messages), []string{fmt.Sprint(i)}), "%d was published and accepted, history has %q", i, texts(page.Messages))
		holds(page.Complete, "nothing is missing, and Complete is false")
		holds(page.Next.Offset >= p.Offset, "the position behind a page, %d, is before its message, %d", page.Next.Offset, p.Offset)
		start.Position = page.Next
	}
}

func (c *brokerCluster) checkEpochs() {
	begin := c.head(0)
	all := c.fill(3, "kept.a", "kept.b")
	end := all[2].Position
	for _, p := range []pubsub.Position{
		{Epoch: "of another", Offset: all[1].Offset},
		{Epoch: "of another"},
		{Epoch: end.Epoch, Offset: end.Offset + 1_000_000},
	} {
		c.expect("kept.>", pubsub.Start{Kind: pubsub.StartAfter, Position: p}, false, "0", "1", "2")
		c.expect("kept.a", pubsub.Start{Kind: pubsub.StartAll, Position: p}, false, "0", "2")
	}
	c.expect("kept.>", pubsub.Start{Kind: pubsub.StartAfter}, false, "0", "1", "2")
	c.expect("kept.>", pubsub.Start{Kind: pubsub.StartAfter, Position: begin}, true, "0", "1", "2")
}

func (c *brokerCluster) checkNoHistory() {
	all := pubsub.Start{Kind: pubsub.StartAll}
	c.publish(0, "live.a", "live")
	c.publish(1, "kept.a", "kept")
	c.expectPage("live.a", all, pubsub.Page{})
	c.expectPage("live.*", all, pubsub.Page{})
	c.expectPage(">", all, pubsub.Page{}, "kept")
	c.expectPage("*.a", all, pubsub.Page{}, "kept")
	c.expect("kept.a", all, true, "kept")
	c.expectPage("live.a", pubsub.Start{}, pubsub.Page{})
	c.expectPage(">", pubsub.Start{Kind: pubsub.StartAfter}, pubsub.Page{Lost: true}, "kept")
}

// checkJoins has watching begin at any time, while others publish: what was read, and
// what comes behind it, is everything, once.
func (c *brokerCluster) checkJoins() {
	const rounds, publishers, messages = 20, 3, 20
	for round := range rounds {
		begin := c.head(round)
		c.atOnce(publishers+1, func(i int) {
			if i == publishers {
				c.checkJoin(round, begin, publishers*messages)
				return
			}
			for n := range messages {
				c.publish(i, fmt.Sprintf("kept.%d", i%2), fmt.Sprintf("%d/%d/%d", round, i, n))
			}
		})
	}
}

func (c *brokerCluster) checkJoin(node int, begin pubsub.Position, messages int) {
	w := c.watch(node, "kept.*")
	from := pubsub.Start{Kind: pubsub.StartAfter, Position: begin}
	var all []*pubsub.Message
	for more := true; more; {
		page := c.read(node, "kept.*", from, 4)
		holds(page.Complete, "nothing is missing, and Complete is false")
		all = append(all, page.Messages...)
		from.Position, more = page.Next, page.More
	}
	seen := 0
	c.until(func() bool {
		for ; seen < len(w.got()); seen++ {
			if m := w.got()[seen]; m.Offset > from.Position.Offset {
				all = append(all, m)
			}
		}
		return len(all) >= messages
	}, "%d messages, read or watched", messages)
	w.end()
	w.checkCalls()
	history := c.readAll(node+1, "kept.*", pubsub.Start{Kind: pubsub.StartAfter, Position: begin}, plenty)
	holds(slices.Equal(texts(all), texts(history.Messages)), "reading, then watching: got %q, history has %q", texts(all), texts(history.Messages))
}
