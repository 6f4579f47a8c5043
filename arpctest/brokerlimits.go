package arpctest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arpc-go/arpc/extension/pubsub"
)

func (c *brokerCluster) checkCompleteMessages() {
	begin := c.head(0)
	all := c.fill(4, "kept.a", "kept.b") // 0 and 2, 1 and 3
	all = append(all, c.fill(3, "kept.a")...)
	last := all[6]
	after := func(p pubsub.Position) pubsub.Start { return pubsub.Start{Kind: pubsub.StartAfter, Position: p} }
	since := func(i int) pubsub.Start { return pubsub.Start{Kind: pubsub.StartSince, Time: all[i].time} }
	oldest, newest := pubsub.Start{Kind: pubsub.StartAll}, pubsub.Start{Kind: pubsub.StartLast}

	// Of a 0 and 2 are gone, and the last three, which are called 0 to 2, there.
	c.expect("kept.a", after(begin), false, "0", "1", "2")
	c.expect("kept.a", after(all[0].Position), false, "0", "1", "2")
	c.expect("kept.a", after(all[1].Position), false, "0", "1", "2")
	c.expect("kept.a", after(all[2].Position), true, "0", "1", "2")
	c.expect("kept.a", after(all[4].Position), true, "1", "2")
	c.expect("kept.a", after(last.Position), true)
	c.expect("kept.a", oldest, false, "0", "1", "2")
	c.expect("kept.a", since(2), false, "0", "1", "2")
	c.expect("kept.a", since(3), true, "0", "1", "2")
	c.expect("kept.a", newest, true, "2")
	// What one topic has lost is nothing to others, but to filters that match both.
	c.expect("kept.b", after(begin), true, "1", "3")
	c.expect("kept.b", oldest, true, "1", "3")
	c.expect("kept.>", after(begin), false, "1", "3", "0", "1", "2")
	c.expect("kept.>", after(all[1].Position), false, "3", "0", "1", "2")
	c.expect("kept.>", after(all[2].Position), true, "3", "0", "1", "2")
	c.expect("kept.>", oldest, false, "1", "3", "0", "1", "2")
	c.expect("kept.>", newest, true, "3", "2")
	// Where some topics have no history, what was kept counts.
	c.expectPage(">", after(all[1].Position), pubsub.Page{Lost: true}, "3", "0", "1", "2")
	c.expectPage(">", after(all[2].Position), pubsub.Page{}, "3", "0", "1", "2")
}

// checkLostMeanwhile reads message by message, while others publish and history is
// short: each page says what is missing between the one before and itself.
func (c *brokerCluster) checkLostMeanwhile() {
	const messages = 60
	for i, filter := range []string{"kept.0", ">"} {
		topic := "kept." + fmt.Sprint(i)
		begin := c.head(0)
		c.atOnce(2, func(who int) {
			if who == 0 {
				for n := range messages {
					c.publish(0, topic, fmt.Sprint(n))
				}
				return
			}
			c.readOneByOne(filter, pubsub.Start{Kind: pubsub.StartAfter, Position: begin}, messages)
		})
	}
}

func (c *brokerCluster) readOneByOne(filter string, from pubsub.Start, messages int) {
	next := 0
	c.until(func() bool {
		page := c.read(next, filter, from, 1)
		from.Position = page.Next
		holds(!page.Complete || !page.Lost, "a page is complete and has lost something")
		for _, text := range texts(page.Messages) {
			holds(page.Lost || text == fmt.Sprint(next), "%q: message %s came where %d should, and Lost is false", filter, text, next)
			fmt.Sscan(text, &next)
			next++
		}
		return next == messages
	}, "%d messages of %q", messages, filter)
}

func (c *brokerCluster) checkCompleteBytes() {
	begin := c.head(0)
	publish := func(sign string, bytes int) pubsub.Position {
		return c.publish(0, "kept.a", strings.Repeat(sign, bytes))
	}
	text := func(sign string) string { return strings.Repeat(sign, 40) }
	after := func(p pubsub.Position) pubsub.Start { return pubsub.Start{Kind: pubsub.StartAfter, Position: p} }

	publish("a", 40)
	c.expect("kept.a", after(begin), true, text("a"))
	b := publish("b", 40)
	c.expect("kept.a", after(begin), true, text("a"), text("b"))
	d := publish("c", 40)
	publish("d", 40)
	c.expect("kept.a", after(begin), false, text("c"), text("d"))
	c.expect("kept.a", after(b), true, text("c"), text("d"))
	c.expect("kept.a", after(d), true, text("d"))
}

// checkCompleteAge waits until all messages are too old. Until then Complete may not
// be said of what is not.
func (c *brokerCluster) checkCompleteAge() {
	begin := c.head(0)
	w := c.watch(0, "kept.age")
	var last pubsub.Position
	for i := range 5 {
		last = c.publish(i, "kept.age", fmt.Sprint(i))
	}
	want := []string{"0", "1", "2", "3", "4"}
	from := pubsub.Start{Kind: pubsub.StartAfter, Position: begin}
	for node := range c.nodes {
		c.until(func() bool {
			page := c.read(node, "kept.age", from, plenty)
			left := texts(page.Messages)
			holds(isPieceOf(left, want), "what is left is not a piece of %q, but %q", want, left)
			holds(!page.Complete || len(left) == len(want), "messages are over their age and gone, and Complete is true")
			return len(left) == 0 && !page.Complete
		}, "messages to be over their age, and reading from before not to be complete")
		c.expect("kept.age", pubsub.Start{Kind: pubsub.StartAfter, Position: last}, true)
		c.expect("kept.age", pubsub.Start{Kind: pubsub.StartLast}, false)
	}
	c.until(func() bool { return len(w.got()) == len(want) }, "those who watched then")
}

// isPieceOf reports whether a list is what another has in some place, without a gap. More
// cannot be said of messages that go one after the other while they are read.
func isPieceOf(piece, all []string) bool {
	if len(piece) == 0 {
		return true
	}
	at := slices.Index(all, piece[0])
	return at >= 0 && at+len(piece) <= len(all) && slices.Equal(piece, all[at:at+len(piece)])
}
