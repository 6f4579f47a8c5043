package pubsub

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// session is what the server has of one connection, from its connected hook to its
// disconnected hook.
type session struct {
	// Set by connected, never changed.
	server *Server
	client *arpc.Client
	local  bool // of this process: see Server.dialLocal

	pump pump

	ending       sync.Mutex // held while subscriptions end, so that who comes second waits
	authFailures atomic.Int32
	queued       atomic.Int64 // bytes in the queues of all subscriptions

	// Owned by handleBatch, which runs one at a time for a connection.
	lastTopic string
	lastSound bool // it may be published to

	// Guarded by mu, under which no other lock is taken.
	mu        sync.Mutex
	ended     bool
	leaving   bool // nothing more is opened
	authTimer *time.Timer
	byNumber  map[uint64]*subscription
	byFilter  map[filterKey]*subscription
	will      *Message
	willToOne bool
}

// filterKey is what a connection has one subscription for.
type filterKey struct {
	filter, group string
	old           bool
}

// sessionKey is where a client has its session.
type sessionKey struct{}

// sessionOf returns the session of a client of a server.
func sessionOf(c *arpc.Client) (*session, error) {
	if sess, ok := c.Get(sessionKey{}); ok {
		return sess.(*session), nil
	}
	return nil, arpc.NewError(arpc.CodeFailedPrecondition, "pubsub: the connection is none of a pub/sub server")
}

// connected is the connected hook, which runs before anything of the peer is handled.
func (s *Server) connected(c *arpc.Client) {
	sess := &session{server: s, client: c, local: s.isLocal(c.Conn())}
	sess.pump.session = sess
	c.Set(sessionKey{}, sess)
	if sess.local {
		c.Set(letInKey{}, true)
	}
	s.mu.Lock()
	s.sessions[sess] = struct{}{}
	s.mu.Unlock()
	if !s.letIn(c) {
		sess.limitAuth()
	}
}

// disconnected is the disconnected hook.
func (s *Server) disconnected(c *arpc.Client) {
	if sess, err := sessionOf(c); err == nil {
		sess.end()
	}
}

// end ends all subscriptions and has the will published. It may be called again.
func (s *session) end() {
	s.stopAuthTimer()
	s.mu.Lock()
	will, toOne := s.will, s.willToOne
	s.ended, s.will = true, nil
	s.mu.Unlock()
	s.endAll(nil)
	s.server.mu.Lock()
	delete(s.server.sessions, s)
	leaving := s.server.leaving
	s.server.mu.Unlock()
	if will != nil && !leaving {
		s.server.start(func() { s.server.execute(will, toOne) })
	}
}

// endAll ends all subscriptions, because of an error that the peer is told, or nil.
// Nothing is opened afterwards.
func (s *session) endAll(because error) {
	s.ending.Lock()
	defer s.ending.Unlock()
	s.mu.Lock()
	all := s.byFilter
	s.leaving, s.byFilter, s.byNumber = true, nil, nil
	s.mu.Unlock()
	for _, sub := range all {
		sub.end(because)
	}
}

// execute publishes a will.
func (s *Server) execute(will *Message, toOne bool) {
	will.Time = time.Now()
	var err error
	if toOne {
		err = s.publishToOne(s.ctx, will)
	} else {
		_, err = s.publish(s.ctx, will)
	}
	if err != nil {
		s.counts.refused.Add(1)
		s.logger.Warn("pubsub: a will was not published", "topic", will.Topic, "cause", err)
		return
	}
	s.counts.wills.Add(1)
}

func (s *session) setWill(m *Message, toOne bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errGone
	}
	s.will, s.willToOne = m, toOne
	return nil
}

var errGone = arpc.NewError(arpc.CodeUnavailable, "pubsub: the connection has ended")

// newSubscription makes what an opening asks for, or says why it cannot be had.
func (s *session) newSubscription(o *proto.Opening) (*subscription, error) {
	if err := s.checkOpening(o); err != nil {
		return nil, err
	}
	set := &s.server.settings
	sub := &subscription{
		session: s, client: s.client, server: s.server,
		number: o.Number, filter: o.Filter, group: o.Group, policy: Policy(o.Policy),
		window: bounds{min(o.WindowMessages, set.maxWindow.messages), min(o.WindowBytes, set.maxWindow.bytes)},
		limit:  bounds{o.QueueMessages, o.QueueBytes}.atMost(set.maxQueue, set.queue),
		events: o.Events,
	}
	if o.MemberID != "" {
		sub.shown = &Subscriber{ID: o.MemberID, Info: o.MemberInfo, Client: identityText(s.client), Filter: o.Filter}
	}
	if o.Group != "" {
		options := GroupOptions{Ack: o.Ack, AckWait: o.AckWait, MaxPending: min(o.MaxPending, set.maxWindow.messages)}
		sub.makeMember(options.WithDefaults())
	}
	sub.makeQueue()
	return sub, nil
}

// checkOpening says what of an opening cannot be.
func (s *session) checkOpening(o *proto.Opening) error {
	set := &s.server.settings
	if err := subject.CheckFilter(o.Filter); err != nil {
		return malformed(err)
	}
	switch {
	case len(o.Filter) > set.maxTopic:
		return topicTooLong(len(o.Filter), set.maxTopic)
	case o.Policy > int(Disconnect):
		return arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: there is no policy %d", o.Policy)
	case o.Start > int(StartAll):
		return arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: there is no start %d", o.Start)
	case o.Group != "" && o.Start != int(StartNew):
		return arpc.NewError(arpc.CodeInvalidArgument, "pubsub: a queue group begins where it was left, or with new messages, and has no start")
	case o.Group == "" && o.Ack:
		return arpc.NewError(arpc.CodeInvalidArgument, "pubsub: only messages of a queue group are acknowledged")
	case len(o.MemberInfo) > set.maxInfo:
		return arpc.Errorf(arpc.CodeResourceExhausted, "pubsub: info of %d bytes is over the limit of %d (WithMaxMemberInfo)", len(o.MemberInfo), set.maxInfo)
	}
	err := s.allowed(OpSubscribe, o.Filter)
	if err == nil && o.Events {
		err = s.allowed(OpPresence, o.Filter)
	}
	return err
}

// open attaches a subscription, so that everything that is published from then on
// reaches it.
func (s *session) open(ctx context.Context, sub *subscription, from Start) error {
	if err := s.add(sub); err != nil {
		return err
	}
	err := sub.attach(ctx, from)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.close(sub)
		return err
	}
	s.server.presence.joined(sub) // before the answer, so that who has it misses nobody
	return nil
}

func (s *session) add(sub *subscription) error {
	limit := s.server.settings.maxSubscriptions
	key := sub.key()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return errGone
	case s.leaving:
		return errLeaving
	case s.byFilter[key] != nil:
		return arpc.NewError(arpc.CodeAlreadyExists, "pubsub: the connection has this subscription already")
	case s.byNumber[sub.number] != nil:
		return arpc.Errorf(arpc.CodeAlreadyExists, "pubsub: the connection has a subscription %d already", sub.number)
	case len(s.byFilter) >= limit:
		return arpc.Errorf(arpc.CodeResourceExhausted, "pubsub: the connection has %d subscriptions, the limit (WithMaxSubscriptions)", limit)
	}
	if s.byFilter == nil {
		s.byFilter, s.byNumber = make(map[filterKey]*subscription), make(map[uint64]*subscription)
	}
	s.byFilter[key] = sub
	if !sub.old {
		s.byNumber[sub.number] = sub
	}
	return nil
}

// openOld opens a subscription of the old form. It returns nil if there is one already,
// which is no error.
func (s *session) openOld(ctx context.Context, topic string) (*subscription, error) {
	if s.old(topic) != nil {
		return nil, nil
	}
	if limit := s.server.settings.maxTopic; len(topic) > limit {
		return nil, topicTooLong(len(topic), limit)
	}
	if err := s.allowed(OpSubscribe, topic); err != nil {
		return nil, err
	}
	sub := &subscription{
		session: s, client: s.client, server: s.server,
		filter: topic, old: true, policy: DropOldest, limit: s.server.settings.queue,
	}
	sub.makeQueue()
	if err := s.open(ctx, sub, Start{}); err != nil {
		return nil, err
	}
	return sub, nil
}

// old returns the subscription of the old form to a topic, nil if there is none.
func (s *session) old(topic string) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byFilter[filterKey{filter: topic, old: true}]
}

// numbered returns a subscription by its number, nil if there is none.
func (s *session) numbered(number uint64) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byNumber[number]
}

// close ends a subscription.
func (s *session) close(sub *subscription) {
	s.forget(sub)
	sub.end(nil)
}

func (s *session) forget(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byFilter[sub.key()] == sub {
		delete(s.byFilter, sub.key())
	}
	if s.byNumber[sub.number] == sub {
		delete(s.byNumber, sub.number)
	}
}
