package arpctest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

func (c *brokerCluster) checkToOne() {
	const messages = 200
	for _, topic := range []string{"live.one", "kept.one"} {
		must("publish to one where nobody watches", c.nodes[0].PublishToOne(c.ctx, &pubsub.Message{Topic: "nobody." + topic}))
		var watches []*brokerWatch
		for i := range 2 * len(c.nodes) {
			watches = append(watches, c.watchAs(i, &brokerWatch{filter: topic, size: 1 + i%3}))
			watches = append(watches, c.watchAs(i, &brokerWatch{filter: "*.one", size: 0}))
		}
		for i := range messages {
			must("publish to one", c.node(i).PublishToOne(c.ctx, &pubsub.Message{Topic: topic, Data: fmt.Append(nil, i), Time: time.Now()}))
		}
		c.checkOneGot(watches, messages)
		page := c.read(0, topic, pubsub.Start{Kind: pubsub.StartAll}, messages)
		holds(len(page.Messages) == 0, "%q: what went to one is in history", topic)
	}
	c.checkRefusedByOne()
}

func (c *brokerCluster) checkOneGot(watches []*brokerWatch, messages int) {
	var got []string
	c.until(func() bool {
		got = nil
		for _, w := range watches {
			got = append(got, texts(w.gotToOne())...)
		}
		return len(got) >= messages
	}, "%d messages to one", messages)
	slices.Sort(got)
	once := slices.Compact(slices.Clone(got))
	holds(len(got) == messages && len(once) == messages, "%d messages to one reached %d, want each once: %q", messages, len(got), got)
	for _, w := range watches {
		holds(len(w.got()) == 0, "what was for one was delivered to all")
		holds(w.size == 0 || len(w.gotToOne()) > 0, "of %d messages to one a watcher got none, though it has subscribers", messages)
		holds(w.size > 0 || len(w.gotToOne()) == 0, "a watcher without subscribers got what was for one")
		for _, m := range w.gotToOne() {
			holds(m.Offset == 0, "what was for one has an offset")
		}
		w.end()
		w.checkCalls()
	}
}

// checkRefusedByOne has another watcher at the same node get what one refuses.
func (c *brokerCluster) checkRefusedByOne() {
	c.watchAs(0, &brokerWatch{filter: "live.refused", size: 1000, refuse: true})
	w := c.watch(0, "live.*")
	const messages = 20
	for i := range messages {
		must("publish to one", c.nodes[0].PublishToOne(c.ctx, &pubsub.Message{Topic: "live.refused", Data: fmt.Append(nil, i)}))
	}
	c.until(func() bool { return len(w.gotToOne()) >= messages }, "what another has refused")
}

func (c *brokerCluster) checkDoubles() {
	watches := c.watchEverywhere("kept.>")
	live := c.watchEverywhere("live.id")
	send := func(node int, topic, id, text string) pubsub.Position {
		return c.publishMessage(node, &pubsub.Message{Topic: topic, ID: id, Data: []byte(text)})
	}
	first := send(0, "kept.id", "one", "first")
	holds(send(1, "kept.id", "one", "double") == first, "a double has another position than the first")
	send(2, "kept.other", "one", "other topic")
	send(0, "kept.id", "two", "second")
	send(0, "kept.id", "", "without")
	send(1, "kept.id", "", "without")
	send(0, "live.id", "one", "first")
	send(0, "live.id", "one", "double")
	positions := make([]pubsub.Position, 16)
	c.atOnce(len(positions), func(i int) { positions[i] = send(i, "kept.id", "at once", "at once") })
	holds(len(slices.Compact(positions)) == 1, "doubles have different positions: %v", positions)
	send(0, "kept.id", "", "end")
	send(0, "live.id", "", "end")

	want := []string{"first", "other topic", "second", "without", "without", "at once", "end"}
	for _, w := range watches {
		c.until(func() bool { return slices.Contains(texts(w.got()), "end") }, "the end of %q", w.filter)
		holds(slices.Equal(texts(w.got()), want), "%q: want %q, got %q", w.filter, want, texts(w.got()))
	}
	for _, w := range live {
		c.until(func() bool { return slices.Contains(texts(w.got()), "end") }, "the end of %q", w.filter)
		holds(slices.Equal(texts(w.got()), []string{"first", "end"}), "%q: got %q", w.filter, texts(w.got()))
	}
	got := texts(c.readAll(0, "kept.>", pubsub.Start{Kind: pubsub.StartAll}, 100).Messages)
	holds(slices.Equal(got, want), "history: want %q, got %q", want, got)
}

func (c *brokerCluster) checkRefused() {
	b := c.nodes[0]
	refused := func(doing, name string, err error) {
		holds(arpc.CodeOf(err) == arpc.CodeInvalidArgument, "%s %q: want an error of CodeInvalidArgument, got %v", doing, name, err)
	}
	w := c.watch(0, ">")
	for _, topic := range []string{"", "live.*", "live.>", ">", string(make([]byte, subject.MaxBytes+1))} {
		_, err := b.Publish(c.ctx, &pubsub.Message{Topic: topic})
		refused("publish", topic, err)
		refused("publish to one", topic, b.PublishToOne(c.ctx, &pubsub.Message{Topic: topic}))
	}
	for _, filter := range []string{"", "live.>.b", string(make([]byte, subject.MaxBytes+1))} {
		_, err := b.Watch(filter, w)
		refused("watch", filter, err)
		_, err = b.Join(filter, "group", pubsub.GroupOptions{}, new(brokerMember))
		refused("join", filter, err)
		_, err = b.Join(filter, "group", pubsub.GroupOptions{Ack: true}, new(brokerMember))
		refused("join", filter, err)
		_, err = b.Read(c.ctx, filter, pubsub.Start{Kind: pubsub.StartAll}, 1)
		refused("read", filter, err)
	}
	_, err := b.Read(c.ctx, "kept.>", pubsub.Start{Kind: pubsub.StartAll}, 0)
	refused("read none of", "kept.>", err)
	c.publish(0, "live.end", "end")
	c.until(func() bool { return len(w.got()) > 0 }, "the end")
	holds(string(w.got()[0].Data) == "end" && len(w.gotToOne()) == 0, "what was refused was delivered")
}

func (c *brokerCluster) checkContexts() {
	b := c.nodes[0]
	w := c.watch(0, ">")
	ended, cancel := context.WithCancel(c.ctx)
	cancel()
	_, publish := b.Publish(ended, &pubsub.Message{Topic: "live.ended"})
	_, publishKept := b.Publish(ended, &pubsub.Message{Topic: "kept.ended"})
	_, read := b.Read(ended, "kept.>", pubsub.Start{Kind: pubsub.StartAll}, 1)
	for doing, err := range map[string]error{
		"publish":           publish,
		"publish, kept":     publishKept,
		"publish to one":    b.PublishToOne(ended, &pubsub.Message{Topic: "live.ended"}),
		"announce":          b.Announce(ended, []byte("data")),
		"read from history": read,
	} {
		holds(errors.Is(err, context.Canceled), "%s with a context that has ended: got %v", doing, err)
	}
	c.publish(0, "live.end", "end")
	c.publish(0, "kept.end", "end")
	c.until(func() bool { return len(w.got()) >= 2 }, "the end")
	holds(slices.Equal(texts(w.got()), []string{"end", "end"}) && len(w.gotToOne()) == 0, "something was done though the context had ended")
}
