package pubsub

import (
	"context"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Publish publishes a value to all who have subscribed to topic, and returns when the
// server has accepted it. Strings and byte slices travel raw, the codec does the rest.
// The value may be reused when Publish returns.
func (c *Client) Publish(topic string, v any, timeout time.Duration) error {
	return c.publishTimeout("Publish", false, topic, v, timeout)
}

// PublishToOne publishes a value to one of those who have subscribed to topic. It is
// kept in no history: where nobody has subscribed it is lost.
func (c *Client) PublishToOne(topic string, v any, timeout time.Duration) error {
	return c.publishTimeout("PublishToOne", true, topic, v, timeout)
}

func (c *Client) publishTimeout(what string, toOne bool, topic string, v any, timeout time.Duration) error {
	ctx, cancel, err := withTimeout(what, timeout)
	if err != nil {
		return err
	}
	defer cancel()
	_, err = c.publish(ctx, toOne, topic, v, nil)
	return err
}

// PublishWith is Publish until ctx ends, and returns where in the history the message
// is, the zero Position if the topic has none. "Accepted" is what the server's Broker
// says it is. After an error for which arpc.SafeToRetry does not hold the message may
// have been published; WithMessageID makes it safe to publish it again all the same.
//
// Messages that one goroutine publishes one after the other to one topic arrive in
// that order, with NoAck too. A server may be told to have publishers wait for slow
// subscribers: see Block; then, and where the server has reached a limit, the error
// has CodeResourceExhausted and nothing was published.
func (c *Client) PublishWith(ctx context.Context, topic string, v any, opts ...PublishOption) (Position, error) {
	return c.publish(ctx, false, topic, v, opts)
}

// PublishToOneWith is PublishToOne until ctx ends.
func (c *Client) PublishToOneWith(ctx context.Context, topic string, v any, opts ...PublishOption) error {
	_, err := c.publish(ctx, true, topic, v, opts)
	return err
}

// bodies has memory that publications are made in.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxBody is the capacity in bytes of what goes back to bodies.
const maxBody = 64 << 10

func (c *Client) publish(ctx context.Context, toOne bool, topic string, v any, opts []PublishOption) (Position, error) {
	p, err := newPublication(opts)
	if err == nil {
		err = badTopic(subject.CheckTopic(topic))
	}
	if err != nil {
		return Position{}, err
	}
	data, err := encode(c.Codec, v)
	if err != nil {
		return Position{}, err
	}
	if c.old.Load() {
		return Position{}, c.publishOld(ctx, toOne, topic, data, p)
	}
	record := proto.Publication[string]{ToOne: toOne, Topic: topic, Key: p.key, ID: p.id, Time: time.Now().UnixNano(), Data: data}
	if p.noAck && c.outbox.takes(&record) {
		return Position{}, c.outbox.post(ctx, &record)
	}
	if err := c.outbox.drain(ctx); err != nil {
		return Position{}, err
	}
	return c.sendRecord(ctx, &record, p)
}

func (c *Client) sendRecord(ctx context.Context, record *proto.Publication[string], p publication) (Position, error) {
	buf := bodies.Get().(*[]byte)
	*buf = record.Append((*buf)[:0])
	at, err := c.send(ctx, *buf, p)
	if cap(*buf) <= maxBody {
		bodies.Put(buf)
	}
	if err == nil {
		c.stats.published.Add(1)
	}
	return at, err
}

// badTopic makes what package subject says an error of a request that was not sent.
func badTopic(err error) error {
	if err == nil {
		return nil
	}
	return arpc.Unsent(arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: %w", err))
}

func (c *Client) send(ctx context.Context, body []byte, p publication) (Position, error) {
	if p.noAck {
		return Position{}, c.NotifyWith(ctx, proto.Send, body)
	}
	if p.id != "" {
		ctx = arpc.ContextWithIdempotent(ctx)
	}
	var answer []byte
	if err := c.CallWith(ctx, proto.Send, body, &answer); err != nil {
		return Position{}, err
	}
	at, err := proto.ParsePosition(answer)
	if err != nil {
		return Position{}, arpc.Errorf(arpc.CodeInternal, "pubsub: published, but the answer makes no sense: %w", err)
	}
	return Position{Epoch: c.sameEpoch(at.Epoch), Offset: at.Offset}, nil
}

// sameEpoch returns an epoch as a text, without an allocation if it is the last one.
func (c *Client) sameEpoch(epoch []byte) string {
	if last := c.epoch.Load(); last != nil && *last == string(epoch) {
		return *last
	}
	text := string(epoch)
	c.epoch.Store(&text)
	return text
}

func (c *Client) publishOld(ctx context.Context, toOne bool, topic string, data []byte, p publication) error {
	switch {
	case p.key != "":
		return errOldServer("WithKey")
	case p.id != "":
		return errOldServer("WithMessageID")
	}
	method := proto.Publish
	if toOne {
		method = proto.PublishToOne
	}
	body := oldBody(topic, data)
	err := error(nil)
	if p.noAck {
		err = c.NotifyWith(ctx, method, body)
	} else {
		err = c.CallWith(ctx, method, body, nil)
	}
	if err == nil {
		c.stats.published.Add(1)
	}
	return err
}

func oldBody(name string, data []byte) []byte {
	t := proto.Topic[string]{Data: data, Name: name, Time: time.Now().UnixNano()}
	return t.Append(nil)
}

// Presence returns who is subscribed, with WithMember, to what topic is published to.
func (c *Client) Presence(ctx context.Context, topic string) ([]Subscriber, error) {
	if err := badTopic(subject.CheckTopic(topic)); err != nil {
		return nil, err
	}
	if c.old.Load() {
		return nil, errOldServer("Presence")
	}
	var answer []byte
	if err := c.CallWith(ctx, proto.Presence, topic, &answer); err != nil {
		return nil, err
	}
	members, err := proto.ParseMembers(answer)
	if err != nil {
		return nil, arpc.Errorf(arpc.CodeInternal, "pubsub: the answer makes no sense: %w", err)
	}
	subscribers := make([]Subscriber, len(members))
	for i, m := range members {
		subscribers[i] = Subscriber(m)
	}
	return subscribers, nil
}

// SetWill has the server publish a value to topic when it loses this client: when a
// connection ends without Stop or Shutdown, and so also before the client comes back.
// It takes the place of the will before, and is set again on each connection. An
// empty topic takes it back. It returns when the server knows.
func (c *Client) SetWill(ctx context.Context, topic string, v any) error {
	if c.old.Load() {
		return errOldServer("SetWill")
	}
	if topic == "" {
		return c.setWill(ctx, nil)
	}
	if err := badTopic(subject.CheckTopic(topic)); err != nil {
		return err
	}
	data, err := encode(c.Codec, v)
	if err != nil {
		return err
	}
	record := proto.Publication[string]{Topic: topic, Time: time.Now().UnixNano(), Data: data}
	return c.setWill(ctx, record.Append(nil))
}

func (c *Client) setWill(ctx context.Context, will []byte) error {
	c.mu.Lock()
	before := c.will
	c.will = will // a connection that comes meanwhile begins with it
	c.mu.Unlock()
	err := c.CallWith(ctx, proto.Will, will, nil)
	if err != nil {
		c.mu.Lock()
		c.will = before
		c.mu.Unlock()
	}
	return err
}

// takeBackWill tells the server that the client leaves in order. If that fails the
// connection is lost, and the will is published.
func (c *Client) takeBackWill(ctx context.Context) {
	c.mu.Lock()
	will := c.will
	c.mu.Unlock()
	if will != nil {
		c.setWill(ctx, nil)
	}
}
