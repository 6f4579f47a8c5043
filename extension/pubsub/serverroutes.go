package pubsub

import (
	"bytes"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// malformed is the error of a body that cannot be read.
func malformed(err error) error {
	return arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
}

// answer ends a request with bytes or an error. A notification has nobody to be told;
// what fails of it is counted.
func (s *Server) answer(ctx *arpc.Context, body []byte, err error) {
	if err != nil {
		s.counts.refused.Add(1)
		ctx.Error(err)
		return
	}
	ctx.WriteBytes(body)
}

// handleOpen answers ps.open. What it opens sends nothing before the answer.
func (s *Server) handleOpen(ctx *arpc.Context) {
	sub, err := s.open(ctx)
	if err != nil {
		s.answer(ctx, nil, err)
		return
	}
	start := sub.reading.start()
	opened := proto.Opened{Recovered: sub.reading.page.Complete, Epoch: start.Epoch, Offset: start.Offset}
	opened.WindowMessages, opened.WindowBytes = sub.window.messages, sub.window.bytes
	s.answer(ctx, opened.Append(nil), nil)
	sub.begin()
}

func (s *Server) open(ctx *arpc.Context) (*subscription, error) {
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		return nil, err
	}
	o, err := proto.ParseOpening(ctx.Body())
	if err != nil {
		return nil, malformed(err)
	}
	sub, err := sess.newSubscription(&o)
	if err != nil {
		return nil, err
	}
	if err := sess.open(ctx, sub, startOf(&o)); err != nil {
		return nil, err
	}
	return sub, nil
}

func startOf(o *proto.Opening) Start {
	return Start{Kind: StartKind(o.Start), Position: Position{o.Epoch, o.Offset}, Time: time.Unix(0, o.Time)}
}

// found returns the subscription that a request is about, by the number that was parsed
// with err. That it is gone already is no error.
func found(ctx *arpc.Context, number uint64, err error) (*session, *subscription, error) {
	if err != nil {
		return nil, nil, malformed(err)
	}
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		return nil, nil, err
	}
	return sess, sess.numbered(number), nil
}

// handleClose answers ps.close.
func (s *Server) handleClose(ctx *arpc.Context) {
	number, err := proto.ParseNumber(ctx.Body())
	sess, sub, err := found(ctx, number, err)
	if sub != nil {
		sess.close(sub)
	}
	s.answer(ctx, nil, err)
}

// handleCredit gives a subscription room in its window.
func (s *Server) handleCredit(ctx *arpc.Context) {
	c, err := proto.ParseConsumed(ctx.Body())
	_, sub, err := found(ctx, c.Number, err)
	if sub != nil {
		sub.credit(c.Messages, c.Bytes)
	}
	s.answer(ctx, nil, err)
}

// handleSettle ends the delivery of a message to a member of a group.
func (s *Server) handleSettle(ctx *arpc.Context) {
	c, err := proto.ParseSettled(ctx.Body())
	_, sub, err := found(ctx, c.Number, err)
	if sub != nil {
		sub.settle(c.Tag, c.Acknowledged)
	}
	s.answer(ctx, nil, err)
}

// handleSend answers ps.send.
func (s *Server) handleSend(ctx *arpc.Context) {
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		s.answer(ctx, nil, err)
		return
	}
	p, err := proto.ParsePublication(ctx.Body())
	if err != nil {
		s.answer(ctx, nil, malformed(err))
		return
	}
	at, err := s.publishFrom(ctx, sess, messageOf(&p), p.ToOne)
	body := proto.Position[string]{Epoch: at.Epoch, Offset: at.Offset}
	s.answer(ctx, body.Append(nil), err)
}

// messageOf copies a message from the bytes of a request.
func messageOf(p *proto.Publication[[]byte]) *Message {
	m := &Message{Topic: string(p.Topic), Data: bytes.Clone(p.Data), Time: time.Unix(0, p.Time), Key: string(p.Key), ID: string(p.ID)}
	if p.Time == 0 {
		m.Time = time.Now()
	}
	return m
}

// handleWill answers ps.will.
func (s *Server) handleWill(ctx *arpc.Context) {
	s.answer(ctx, nil, s.setWill(ctx))
}

func (s *Server) setWill(ctx *arpc.Context) error {
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		return err
	}
	if len(ctx.Body()) == 0 {
		return sess.setWill(nil, false)
	}
	p, err := proto.ParsePublication(ctx.Body())
	if err != nil {
		return malformed(err)
	}
	m := messageOf(&p)
	if err := s.check(m); err != nil {
		return err
	}
	if limit := s.settings.maxWill; len(m.Data) > limit {
		return arpc.Errorf(arpc.CodeResourceExhausted, "pubsub: a will of %d bytes is over the limit of %d (WithMaxWill)", len(m.Data), limit)
	}
	if err := sess.allowed(OpPublish, m.Topic); err != nil {
		return err
	}
	return sess.setWill(m, p.ToOne)
}

// oldTopic reads the body of a request of the old form. Old clients know topics by
// their names only, so wildcards mean nothing to them.
func oldTopic(ctx *arpc.Context) (*session, *Message, error) {
	sess, err := sessionOf(ctx.Client)
	if err != nil {
		return nil, nil, err
	}
	t, err := proto.ParseTopic(ctx.Body())
	if err != nil {
		return nil, nil, malformed(err)
	}
	m := &Message{Topic: string(t.Name), Data: bytes.Clone(t.Data), Time: time.Unix(0, t.Time)}
	if err := subject.CheckTopic(m.Topic); err != nil {
		return nil, nil, malformed(err)
	}
	return sess, m, nil
}

// handleOldSubscribe answers in_S.
func (s *Server) handleOldSubscribe(ctx *arpc.Context) {
	sess, m, err := oldTopic(ctx)
	if err != nil {
		s.answer(ctx, nil, err)
		return
	}
	sub, err := sess.openOld(ctx, m.Topic)
	s.answer(ctx, nil, err)
	if sub != nil {
		sub.begin()
	}
}

// handleOldUnsubscribe answers in_U.
func (s *Server) handleOldUnsubscribe(ctx *arpc.Context) {
	sess, m, err := oldTopic(ctx)
	if err == nil {
		if sub := sess.old(m.Topic); sub != nil {
			sess.close(sub)
		}
	}
	s.answer(ctx, nil, err)
}

// handleOldPublish answers in_P and in_P1.
func (s *Server) handleOldPublish(ctx *arpc.Context) {
	sess, m, err := oldTopic(ctx)
	if err == nil {
		_, err = s.publishFrom(ctx, sess, m, ctx.Message.Method() == proto.PublishToOne)
	}
	s.answer(ctx, nil, err)
}
