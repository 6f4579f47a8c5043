package pubsub

import (
	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// sieve is a Broker that knows what nobody wants.
type sieve interface {
	// Unwanted reports whether a message to a topic, without an ID, would be delivered
	// to nobody and kept nowhere.
	Unwanted(topic string) bool
}

// Unwanted reports whether nobody watches a topic and nothing of it is kept. It costs
// less than publishing.
func (b *MemoryBroker) Unwanted(topic string) bool {
	return !b.closed.Load() && b.kept.ruleFor(topic) == nil && !b.watches.Any(topic)
}

// handleBatch takes many messages that nobody waits for. Each is checked and published
// as if it had come alone.
func (s *Server) handleBatch(ctx *arpc.Context) {
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		s.counts.refused.Add(1)
		return
	}
	unwanted := uint64(0)
	for rest := ctx.Body(); len(rest) > 0; {
		var p proto.Publication[[]byte]
		if p, rest, err = proto.NextOfBatch(rest); err == nil && s.ignores(sess, &p) {
			unwanted++
			continue
		}
		if err == nil {
			_, err = s.publishFrom(ctx, sess, messageOf(&p), p.ToOne)
		}
		if err != nil {
			s.counts.refused.Add(1)
		}
	}
	s.counts.published.Add(unwanted)
}

// ignores reports whether a message may be published and is of no interest to anybody:
// then it has been published. Its topic is looked at with nothing allocated.
func (s *Server) ignores(sess *session, p *proto.Publication[[]byte]) bool {
	if s.sieve == nil || len(p.ID) > 0 || s.ctx.Err() != nil {
		return false
	}
	if sess.lastTopic != string(p.Topic) {
		sess.lastTopic = string(p.Topic)
		sess.lastSound = subject.CheckTopic(sess.lastTopic) == nil && len(sess.lastTopic) <= s.settings.maxTopic
	}
	return sess.lastSound && s.sieve.Unwanted(sess.lastTopic) && sess.allowed(OpPublish, sess.lastTopic) == nil
}
