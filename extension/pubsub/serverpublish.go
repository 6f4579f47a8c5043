package pubsub

import (
	"bytes"
	"context"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Publish publishes a message to all subscribers of a topic and returns when it is
// accepted by the Broker. The value is encoded as Client.Call does it, and may be reused.
// It waits for subscriptions with the policy Block.
func (s *Server) Publish(topic string, v any) error {
	_, err := s.PublishWith(s.ctx, topic, v)
	return err
}

// PublishToOne publishes a message to one of the subscribers of a topic, which goes into
// no history. Where there is none it is lost.
func (s *Server) PublishToOne(topic string, v any) error {
	return s.PublishToOneWith(s.ctx, topic, v)
}

// PublishWith is Publish with a context and options. It returns the position of the
// message if the topic has history.
func (s *Server) PublishWith(ctx context.Context, topic string, v any, opts ...PublishOption) (Position, error) {
	m, err := s.newMessage(topic, v, opts)
	if err == nil {
		err = s.check(m)
	}
	if err != nil {
		return Position{}, err
	}
	return s.publish(ctx, m)
}

// PublishToOneWith is PublishToOne with a context and options.
func (s *Server) PublishToOneWith(ctx context.Context, topic string, v any, opts ...PublishOption) error {
	m, err := s.newMessage(topic, v, opts)
	if err == nil {
		err = s.check(m)
	}
	if err != nil {
		return err
	}
	return s.publishToOne(ctx, m)
}

func (s *Server) newMessage(topic string, v any, opts []PublishOption) (*Message, error) {
	p, err := newPublication(opts)
	if err != nil {
		return nil, err
	}
	data, err := encode(s.Codec, v)
	if err != nil {
		return nil, err
	}
	switch v.(type) {
	case []byte, *[]byte, *bytes.Buffer:
		data = bytes.Clone(data) // the caller may reuse it
	}
	return &Message{Topic: topic, Data: data, Time: time.Now(), Key: p.key, ID: p.id}, nil
}

// deliveryOverhead is by how many bytes the body of a delivery is longer than its topic,
// its filter, its key and its data, at most.
const deliveryOverhead = 128

// check says why a message cannot be published.
func (s *Server) check(m *Message) error {
	if s.ctx.Err() != nil {
		return arpc.ErrServerClosed
	}
	if err := subject.CheckTopic(m.Topic); err != nil {
		return invalid(err)
	}
	if limit := s.settings.maxTopic; len(m.Topic) > limit {
		return topicTooLong(len(m.Topic), limit)
	}
	most := s.Handler.MaxBodyLen() - deliveryOverhead - 2*subject.MaxBytes - len(m.Key)
	if len(m.Data) > most {
		return arpc.Errorf(arpc.CodeResourceExhausted, "pubsub: a message of %d bytes is over the limit of %d (WithMaxBodyLen)", len(m.Data), max(most, 0))
	}
	return nil
}

func topicTooLong(length, limit int) error {
	return arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: a topic of %d bytes is longer than the limit of %d (WithMaxTopicLength)", length, limit)
}

// publish is called with a message that check has nothing against.
func (s *Server) publish(ctx context.Context, m *Message) (Position, error) {
	var room reservation
	if s.blockers.Len() > 0 {
		if err := s.reserve(ctx, m, &room); err != nil {
			return Position{}, err
		}
		defer room.release()
	}
	p, err := s.broker.Publish(ctx, m)
	if err == nil {
		s.counts.published.Add(1)
	}
	return p, err
}

// publishToOne is called with a message that check has nothing against.
func (s *Server) publishToOne(ctx context.Context, m *Message) error {
	err := s.broker.PublishToOne(ctx, m)
	if err == nil {
		s.counts.published.Add(1)
	}
	return err
}

// publishFrom publishes for a client.
func (s *Server) publishFrom(ctx context.Context, from *session, m *Message, toOne bool) (Position, error) {
	err := s.check(m)
	if err == nil {
		err = from.allowed(OpPublish, m.Topic)
	}
	switch {
	case err != nil:
		return Position{}, err
	case toOne:
		return Position{}, s.publishToOne(ctx, m)
	}
	return s.publish(ctx, m)
}
