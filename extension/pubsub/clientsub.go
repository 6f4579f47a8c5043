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

// Defaults of WithWindow.
const (
	defaultWindowMessages = 1024
	defaultWindowBytes    = 1 << 20
)

// Subscription is what a client has subscribed to. It lives until Unsubscribe, until
// the server ends it for a reason that trying again does not mend, or until its client
// is closed: losing the connection does not end it. Its methods may be called from any
// goroutine.
type Subscription struct {
	// Set by newSubscription, never changed.
	client *Client
	filter string
	with   subscribing
	seq    bool // an iterator takes its messages

	fn    atomic.Pointer[func(*Topic)]
	queue inbox

	borrowed Topic // that a callback has where it was received; owned by workHere

	received, bytes, doubles, missed, gaps, unrecovered atomic.Uint64

	ready chan struct{} // closed when the server has accepted it for the first time, or it is over
	done  chan struct{} // closed when it is over and its last event was told
	end   sync.Once

	// Guarded by client.mu.
	state    subState
	number   uint64    // under which the server knows it, or is asked to; 0: none
	loose    []uint64  // under which it may know it, since there was no clear answer
	accepted bool      // it was once
	noted    bool      // it has started once
	live     bool      // messages come
	paused   bool      // it was told that nothing comes, and not that it goes on
	claimed  bool      // it is about to be opened again
	dropped  bool      // something that came for it could not be handled, before the answer
	since    time.Time // when it was opened
	asked    Start     // of the last time it was opened
	again    bool      // it was accepted before that
	position Position  // behind which it goes on
	last     string    // topic of the last message
	err      error     // why it is over
	attempts int       // to open it again that have failed, since it was open for long
	timer    *time.Timer
}

// subState says how far a subscription is on the connection there is.
type subState int

const (
	subDown    subState = iota // the server does not know it
	subOpening                 // it is asked
	subOpen                    // it has accepted
	subOver                    // for good
)

// SubscribeWith calls fn with each message to a topic that filter matches, and returns
// when the server has accepted the subscription. It waits for a connection, if there
// is none, until ctx ends; fn may have been called by then. ctx says nothing about the
// time afterwards.
//
// fn runs for one message after the other, in their order; those of different
// subscriptions run at the same time, on goroutines that last no longer than there are
// messages. It may take its time: what it is behind with waits in the window, then on
// the server, see WithWindow and WithPolicy; nothing else waits for it. It may use the
// client, to subscribe, unsubscribe and publish too. A panic of it is logged and
// counted, and does not end the subscription.
//
// After the connection was lost the subscription begins again behind the last message
// that was received: see EventStarted for whether something was missed.
//
// A client has one subscription for each filter and group: a second is refused with
// CodeAlreadyExists.
func (c *Client) SubscribeWith(ctx context.Context, filter string, fn func(*Topic), opts ...SubscribeOption) (*Subscription, error) {
	if fn == nil {
		return nil, arpc.Unsent(arpc.NewError(arpc.CodeInvalidArgument, "pubsub: SubscribeWith: the callback is nil"))
	}
	s, err := newSubscription(c, filter, fn, opts)
	if err != nil {
		return nil, err
	}
	if _, err := c.add(s, false); err != nil {
		return nil, err
	}
	if err := c.openFirst(ctx, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Subscribe calls fn with each message to topic, or to those that a filter matches: see
// SubscribeWith. If there is such a subscription already fn takes the place of its
// callback.
func (c *Client) Subscribe(topic string, fn func(*Topic), timeout time.Duration) error {
	ctx, cancel, err := withTimeout("Subscribe", timeout)
	if err != nil {
		return err
	}
	defer cancel()
	if fn == nil {
		return arpc.Unsent(arpc.NewError(arpc.CodeInvalidArgument, "pubsub: Subscribe: the callback is nil"))
	}
	s, err := newSubscription(c, topic, fn, nil)
	if err != nil {
		return err
	}
	there, err := c.add(s, true)
	switch {
	case err != nil:
		return err
	case there == s:
		return c.openFirst(ctx, s)
	}
	if there.seq {
		return errThere
	}
	there.fn.Store(&fn)
	select {
	case <-there.ready:
		return there.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unsubscribe ends the subscription to a topic or filter without a group. It is
// Subscription.Unsubscribe for those that were made with Subscribe. If there is none
// the error has CodeNotFound.
func (c *Client) Unsubscribe(topic string, timeout time.Duration) error {
	ctx, cancel, err := withTimeout("Unsubscribe", timeout)
	if err != nil {
		return err
	}
	defer cancel()
	c.mu.Lock()
	s := c.subs[subscriptionKey{filter: topic}]
	c.mu.Unlock()
	if s == nil {
		return arpc.Unsent(arpc.NewError(arpc.CodeNotFound, "pubsub: there is no such subscription"))
	}
	return s.Unsubscribe(ctx)
}

func newSubscription(c *Client, filter string, fn func(*Topic), opts []SubscribeOption) (*Subscription, error) {
	s := &Subscription{client: c, filter: filter, ready: make(chan struct{}), done: make(chan struct{}), last: filter}
	s.with = subscribing{windowMessages: defaultWindowMessages, windowBytes: defaultWindowBytes}
	for _, opt := range opts {
		opt(&s.with)
	}
	if err := s.with.check(filter); err != nil {
		return nil, err
	}
	s.position = s.with.start.Position
	if fn != nil {
		s.fn.Store(&fn)
	}
	s.seq = fn == nil
	if s.with.inline && (s.seq || s.with.manualAck) {
		return nil, arpc.Unsent(arpc.NewError(arpc.CodeInvalidArgument, "pubsub: WithInline is for callbacks that are done with a message when they return (SubscribeSeq, WithManualAck)"))
	}
	s.queue.init(s, room{s.with.windowMessages, s.with.windowBytes}, s.seq)
	return s, nil
}

func (w *subscribing) check(filter string) error {
	wrong := func(format string, args ...any) error {
		return arpc.Unsent(arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: "+format, args...))
	}
	switch {
	case subject.CheckFilter(filter) != nil:
		return badTopic(subject.CheckFilter(filter))
	case len(w.group) > proto.MaxGroupLen:
		return tooLong("group", len(w.group), proto.MaxGroupLen, "WithGroup")
	case w.group == "" && (w.groupOptions.Ack || w.manualAck):
		return wrong("a group needs a name (WithGroupAck, WithManualAck)")
	case w.windowMessages < 1 || w.windowBytes < 1:
		return wrong("a window of %d messages and %d bytes has no room (WithWindow)", w.windowMessages, w.windowBytes)
	case w.queueMessages < 0 || w.queueBytes < 0:
		return wrong("a queue of %d messages and %d bytes makes no sense (WithQueue)", w.queueMessages, w.queueBytes)
	case policyNames[w.policy] == "":
		return wrong("there is no policy %d (WithPolicy)", w.policy)
	case len(w.memberID) > proto.MaxIDLen:
		return tooLong("member's id", len(w.memberID), proto.MaxIDLen, "WithMember")
	case len(w.memberInfo) > proto.MaxInfoLen:
		return tooLong("member's info", len(w.memberInfo), proto.MaxInfoLen, "WithMember")
	case w.start.Kind < StartNew || w.start.Kind > StartAll:
		return wrong("there is no start of kind %d (WithStart)", w.start.Kind)
	case w.group != "" && w.start.Kind != StartNew:
		return wrong("a group begins with new messages (WithStart)")
	}
	return nil
}

// oldKnows says what a server of version 1 cannot do of what is asked for.
func (s *Subscription) oldKnows() error {
	w := &s.with
	switch {
	case !subject.IsLiteral(s.filter):
		return errOldServer("a filter with wildcards")
	case w.group != "":
		return errOldServer("WithGroup")
	case w.policy != 0:
		return errOldServer("WithPolicy")
	case w.queueMessages != 0 || w.queueBytes != 0:
		return errOldServer("WithQueue")
	case w.start.Kind != StartNew:
		return errOldServer("WithStart")
	case w.presence:
		return errOldServer("WithPresence")
	case w.memberID != "" || len(w.memberInfo) > 0:
		return errOldServer("WithMember")
	}
	return nil
}

var errThere = arpc.Unsent(arpc.NewError(arpc.CodeAlreadyExists, "pubsub: the client has subscribed to this filter already"))

// add makes s a subscription of the client. If there is one like it that one is
// returned, or an error.
func (c *Client) add(s *Subscription, orThere bool) (*Subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := s.key()
	there := c.subs[key]
	switch {
	case c.closed:
		return nil, arpc.Unsent(arpc.ErrClosed)
	case there != nil && orThere:
		return there, nil
	case there != nil:
		return nil, errThere
	}
	c.subs[key] = s
	return s, nil
}

func (s *Subscription) key() subscriptionKey { return subscriptionKey{s.filter, s.with.group} }

// settles reports whether its messages are acknowledged.
func (s *Subscription) settles() bool { return s.with.groupOptions.Ack }

// Filter returns what was subscribed to.
func (s *Subscription) Filter() string { return s.filter }

// Group returns the queue group, empty if there is none.
func (s *Subscription) Group() string { return s.with.group }

// Done is closed when the subscription is over and its last event was told.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err returns why the subscription is over: arpc.ErrClosed after Unsubscribe and after
// the client was closed; nil while it is not.
func (s *Subscription) Err() error {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.err
}

// Position returns the place in the history behind which the subscription goes on after
// its connection was lost. What waits for the callback is before it: for another
// process Topic.Position says more. It is zero while there is no history.
func (s *Subscription) Position() Position {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.position
}

// Unsubscribe ends the subscription, and drops what waits for the callback; a group
// with acknowledgement gives it to other members. It returns when the server has
// forgotten it, or ctx ends. Called from outside of callbacks it waits first for the
// one that runs: then there is none any more. Called from a callback, of this
// subscription or another, it does not wait: the callback does not begin again.
// A second Unsubscribe does nothing more.
func (s *Subscription) Unsubscribe(ctx context.Context) error {
	c := s.client
	c.mu.Lock()
	first := c.forget(s)
	c.mu.Unlock()
	inside := insideCallback()
	if first && inside && s.settles() { // the callback's message is to be settled first
		s.queue.stop(func() { c.dropRemote(s) })
		s.over(arpc.ErrClosed)
		return nil
	}
	resting := s.queue.stop(nil)
	s.over(arpc.ErrClosed)
	if !inside {
		if err := waitFor(ctx, []<-chan struct{}{resting}); err != nil {
			c.dropRemote(s)
			return err
		}
	}
	if !first {
		return nil
	}
	return c.closeRemote(ctx, s)
}
