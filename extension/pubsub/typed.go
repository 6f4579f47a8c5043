package pubsub

import (
	"context"
	"iter"
)

// Publisher is what typed topics are published by: a *Client or a *Server.
type Publisher interface {
	PublishWith(ctx context.Context, topic string, v any, opts ...PublishOption) (Position, error)
	PublishToOneWith(ctx context.Context, topic string, v any, opts ...PublishOption) error
}

// Source is what typed topics are subscribed at: a *Client or a *Server.
type Source interface {
	SubscribeWith(ctx context.Context, filter string, fn func(*Topic), opts ...SubscribeOption) (*Subscription, error)
}

// TypedTopic is a topic whose messages are Ts. Both ends share it, so that neither can
// mistake the type: it is a name, and may be copied and used at the same time. Its name
// may be a filter with wildcards, to which nothing can be published.
//
// Strings and byte slices travel raw, and types made of them by the codec. A nil pointer
// stands for the zero value, and so does a message without data.
type TypedTopic[T any] struct {
	name string
}

// NewTopic returns the topic with a name of 1 to 1024 bytes. It registers nothing.
func NewTopic[T any](name string) TypedTopic[T] { return TypedTopic[T]{name: name} }

// Name returns the name.
func (t TypedTopic[T]) Name() string { return t.name }

// Publish publishes a value, as Client.PublishWith does.
func (t TypedTopic[T]) Publish(ctx context.Context, by Publisher, v *T, opts ...PublishOption) (Position, error) {
	return by.PublishWith(ctx, t.name, orZero(v), opts...)
}

// PublishToOne publishes a value to one subscriber, as Client.PublishToOneWith does.
func (t TypedTopic[T]) PublishToOne(ctx context.Context, by Publisher, v *T, opts ...PublishOption) error {
	return by.PublishToOneWith(ctx, t.name, orZero(v), opts...)
}

// Subscribe calls fn with each value, and the message that it came in, as
// Client.SubscribeWith does. Both are fn's to keep. A message that cannot be decoded is
// logged, counted and left out; one of a group with acknowledgement is given back.
func (t TypedTopic[T]) Subscribe(ctx context.Context, at Source, fn func(v *T, topic *Topic), opts ...SubscribeOption) (*Subscription, error) {
	if fn == nil {
		return at.SubscribeWith(ctx, t.name, nil, opts...)
	}
	return at.SubscribeWith(ctx, t.name, func(topic *Topic) {
		if v := bindTyped[T](topic); v != nil {
			fn(v, topic)
		}
	}, opts...)
}

// SubscribeSeq subscribes for a loop, as Client.SubscribeSeq does. What Subscribe says
// of messages that cannot be decoded holds.
func (t TypedTopic[T]) SubscribeSeq(ctx context.Context, at *Client, opts ...SubscribeOption) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for topic, err := range at.SubscribeSeq(ctx, t.name, opts...) {
			if err != nil {
				yield(nil, err)
				return
			}
			if v := bindTyped[T](topic); v != nil && !yield(v, nil) {
				return
			}
		}
	}
}

// bindTyped returns the value of a message, nil if it cannot be decoded.
func bindTyped[T any](topic *Topic) *T {
	v := new(T)
	if len(topic.Data) == 0 {
		return v
	}
	if err := topic.Bind(v); err != nil {
		topic.undecodable(err)
		return nil
	}
	return v
}

// undecodable deals with a message that is not of the type it should be.
func (t *Topic) undecodable(err error) {
	if t.client != nil {
		t.client.stats.undecodable.Add(1)
		t.client.logger.Error("pubsub: a message cannot be decoded", "topic", t.Name, "cause", err)
	}
	if t.delivery != nil {
		t.Nak() // its error says that the message was given back already
	}
}

// orZero returns v, or a zero value in the place of nil.
func orZero[T any](v *T) *T {
	if v == nil {
		return new(T)
	}
	return v
}

var (
	_ Publisher = (*Client)(nil)
	_ Source    = (*Client)(nil)
)
