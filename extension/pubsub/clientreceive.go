package pubsub

import (
	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// onMessage handles a message of a server of version 2.
func (c *Client) onMessage(ctx *arpc.Context) {
	d, err := proto.ParseDelivered(ctx.Body())
	if err != nil {
		c.malformed(err)
		return
	}
	c.mu.Lock()
	s := c.recipient(ctx, &d)
	if s == nil {
		c.mu.Unlock()
		c.stats.late.Add(1)
		return
	}
	it := item{bytes: len(ctx.Body()), counted: true}
	here := false
	if s.isNew(d.Offset) {
		here = s.with.inline && s.queue.begin(&it)
		it.topic = s.topicOf(&d, here)
	}
	c.mu.Unlock()
	if it.topic == nil {
		s.doubles.Add(1)
		s.queue.push(it)
		return
	}
	s.received.Add(1)
	s.bytes.Add(uint64(len(d.Data)))
	if here {
		workHere(&s.queue, it)
	} else {
		s.queue.push(it)
	}
}

// topicOf makes what the callback gets. A borrowed one is the subscription's own, with a
// view of the data. Guarded by client.mu.
func (s *Subscription) topicOf(d *proto.Delivered[[]byte], borrowed bool) (t *Topic) {
	if borrowed {
		t = &s.borrowed
		t.Data = d.Data
	} else {
		t = newTopic(d.Data)
	}
	t.Name, t.Timestamp, t.Offset = s.topicName(d.Topic), d.Time, d.Offset
	t.Key, t.Attempt = string(d.Key), int(d.Attempt)
	t.client, t.epoch = s.client, s.position.Epoch
	if s.settles() && d.Tag != 0 {
		t.Attempt = max(t.Attempt, 1)
		t.delivery = &delivery{sub: s, number: d.Number, tag: d.Tag}
	}
	return t
}

// newTopic returns a Topic with a copy of data. A short one lies beside it.
func newTopic(data []byte) *Topic {
	switch n := len(data); {
	case n == 0:
		return new(Topic)
	case n <= 64:
		t := new(struct {
			Topic
			data [64]byte
		})
		t.Data = append(t.data[:0:n], data...)
		return &t.Topic
	case n <= 128:
		t := new(struct {
			Topic
			data [128]byte
		})
		t.Data = append(t.data[:0:n], data...)
		return &t.Topic
	}
	return &Topic{Data: append([]byte(nil), data...)}
}

// recipient returns the subscription that a message is for, nil if it is over. Guarded
// by mu.
func (c *Client) recipient(ctx *arpc.Context, d *proto.Delivered[[]byte]) *Subscription {
	switch {
	case c.hasLeft(ctx):
		return nil
	case d.Number != 0:
		if s := c.byNumber[d.Number]; s != nil && s.live {
			return s
		}
		return nil
	case len(d.Filter) > 0:
		return c.byFilter[string(d.Filter)]
	}
	return c.byFilter[string(d.Topic)]
}

// hasLeft reports whether a message came over a connection that the client has left for
// another. Guarded by mu.
func (c *Client) hasLeft(ctx *arpc.Context) bool { return c.conn != nil && ctx.Conn() != c.conn }

// isNew reports whether a message was not received before, and notes that it is now.
// A group has what was given back delivered again. Guarded by client.mu.
func (s *Subscription) isNew(offset uint64) bool {
	if offset == 0 || s.with.group != "" {
		return true
	}
	if offset <= s.position.Offset {
		return false
	}
	s.position.Offset = offset
	return true
}

// topicName returns a topic as a text, without an allocation if it is that of the
// message before. Guarded by client.mu.
func (s *Subscription) topicName(topic []byte) string {
	if s.last != string(topic) {
		s.last = string(topic)
	}
	return s.last
}

// onOldMessage handles a message of a server of version 1.
func (c *Client) onOldMessage(ctx *arpc.Context) {
	t, err := proto.ParseTopic(ctx.Body())
	if err != nil {
		c.malformed(err)
		return
	}
	c.mu.Lock()
	s := c.byFilter[string(t.Name)]
	if s == nil || !c.old.Load() || c.hasLeft(ctx) {
		c.mu.Unlock()
		c.stats.late.Add(1)
		return
	}
	if !s.live { // the answer is on its way
		c.started(s, true)
	}
	c.mu.Unlock()
	topic := newTopic(t.Data)
	topic.Name, topic.Timestamp, topic.client = s.filter, t.Time, c
	s.received.Add(1)
	s.bytes.Add(uint64(len(t.Data)))
	s.queue.push(item{topic: topic, bytes: len(ctx.Body()), counted: true})
}

func (c *Client) malformed(err error) {
	c.stats.malformed.Add(1)
	c.logger.Warn("pubsub: a message of the server makes no sense", "cause", err)
}

// onNote handles a note.
func (c *Client) onNote(ctx *arpc.Context) {
	n, err := proto.ParseNoted(ctx.Body())
	if err != nil {
		c.malformed(err)
		return
	}
	c.mu.Lock()
	s := c.byFilter[n.Filter]
	if n.Number != 0 {
		s = c.byNumber[n.Number]
	}
	if s == nil || c.hasLeft(ctx) || !s.live && n.Kind != proto.NoteStarted && n.Kind != proto.NoteEnded {
		c.mu.Unlock()
		c.stats.late.Add(1)
		return
	}
	c.noted(s, &n, len(ctx.Body()))
	c.mu.Unlock()
	if n.Kind == proto.NoteEnded {
		c.failed(s, noteError(&n))
	}
}

// noted does what a note says. Guarded by mu.
func (c *Client) noted(s *Subscription, n *proto.Noted, size int) {
	switch n.Kind {
	case proto.NoteStarted:
		if !s.live {
			c.begun(s, n)
		}
	case proto.NoteGap:
		s.gaps.Add(1)
		s.missed.Add(n.Count)
		s.event(Event{Kind: EventGap, Missed: n.Count})
	case proto.NoteInterrupted:
		s.pause(noteError(n))
	case proto.NoteResumed:
		if n.Epoch != "" && n.Epoch != s.position.Epoch {
			s.position = Position{Epoch: n.Epoch, Offset: n.Offset}
		}
		if !n.Recovered {
			s.unrecovered.Add(1)
		}
		s.paused = false
		s.event(Event{Kind: EventResumed, Recovered: n.Recovered})
	case proto.NoteJoined, proto.NoteLeft:
		kind := EventJoined
		if n.Kind == proto.NoteLeft {
			kind = EventLeft
		}
		s.queue.push(item{event: &Event{Kind: kind, Subscriber: Subscriber(n.Member)}, bytes: size, counted: true})
	case proto.NoteLive:
		s.reached(Position{Epoch: n.Epoch, Offset: n.Offset})
	case proto.NoteEnded:
		c.down(s, noteError(n))
	}
}

// begun notes that a subscription has begun on the server. Guarded by mu.
func (c *Client) begun(s *Subscription, n *proto.Noted) {
	if s.with.group == "" {
		c.byFilter[s.filter] = s
	}
	at := Position{Epoch: n.Epoch, Offset: n.Offset}
	if s.asked.Kind != StartAfter || !n.Recovered {
		s.position = at
	}
	c.started(s, n.Recovered)
	s.noted = true
	c.accept(s)
}

// reached moves the position forward, to one up to which everything has been received.
// Guarded by client.mu.
func (s *Subscription) reached(at Position) {
	if at.Epoch == s.position.Epoch && at.Offset > s.position.Offset {
		s.position.Offset = at.Offset
	}
}

func noteError(n *proto.Noted) error {
	text := n.Text
	if text == "" {
		text = "pubsub: the server does not say why"
	}
	return arpc.NewError(arpc.Code(n.Code), text)
}

// whenDropped learns of messages that were received and could not be handled, since
// too much else was under way. What they were for begins again behind the last one
// that was handled.
func (c *Client) whenDropped(client *arpc.Client, m *arpc.Message) {
	var number uint64
	var filter []byte
	switch m.Method() {
	case proto.Message:
		d, err := proto.ParseDelivered(m.Data())
		if err != nil {
			return
		}
		number, filter = d.Number, d.Filter
		if len(filter) == 0 {
			filter = d.Topic
		}
	case proto.Note:
		n, err := proto.ParseNoted(m.Data())
		if err != nil {
			return
		}
		number, filter = n.Number, []byte(n.Filter)
	case proto.Publish:
		t, err := proto.ParseTopic(m.Data())
		if err != nil {
			return
		}
		filter = t.Name
	default:
		return
	}
	c.beginAgain(number, string(filter))
}

// beginAgain has a subscription opened anew on the same connection. An old server has
// nothing to begin with.
func (c *Client) beginAgain(number uint64, filter string) {
	c.mu.Lock()
	s := c.byFilter[filter]
	if number != 0 {
		s = c.byNumber[number]
	}
	again := false
	switch {
	case s == nil:
	case c.old.Load():
		s.gaps.Add(1)
		s.event(Event{Kind: EventGap})
	case s.state == subOpening:
		s.dropped = true
		c.stopped(s)
		c.interrupted(s, errDropped)
	case s.state == subOpen:
		again = true
		s.loose = append(s.loose, s.number)
		c.down(s, errDropped)
	}
	c.mu.Unlock()
	if again {
		c.failed(s, errDropped)
	}
}

var errDropped = arpc.NewError(arpc.CodeResourceExhausted, "pubsub: a message was dropped, since the connection had too much in hand (arpc.WithMaxInflight)")

// giveBack returns what a subscription has consumed of its window.
func (c *Client) giveBack(s *Subscription) {
	c.mu.Lock()
	number := s.number
	if !s.live || number == 0 || c.old.Load() {
		c.mu.Unlock()
		return
	}
	owed := s.queue.takeOwed()
	c.mu.Unlock()
	record := proto.Consumed{Number: number, Messages: uint64(owed.messages), Bytes: uint64(owed.bytes)}
	if c.NotifyWith(c.life, proto.Credit, record.Append(nil)) == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.number == number { // it was not sent, and the accounts are still the same
		s.queue.owe(owed)
	}
}

// settle tells the server what became of a group's message.
func (c *Client) settle(s *Subscription, r proto.Settled) error {
	c.mu.Lock()
	known := s.number == r.Number
	c.mu.Unlock()
	if !known {
		return errGivenBack
	}
	if err := c.NotifyWith(c.life, proto.Settle, r.Append(nil)); err != nil {
		return err
	}
	if r.Acknowledged {
		c.stats.acknowledged.Add(1)
	} else {
		c.stats.givenBack.Add(1)
	}
	return nil
}
