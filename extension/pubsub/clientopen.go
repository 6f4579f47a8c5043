package pubsub

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

const (
	// openers is how many subscriptions a client opens again at a time, after it has
	// lost its connection.
	openers = 32
	// openTimeout is how long a server may take to answer one of these.
	openTimeout = 15 * time.Second
	// The wait before attempt n to open one again that failed is random between 0 and
	// the smaller of reopenMax and reopenBase times 2 to the n.
	reopenBase = 100 * time.Millisecond
	reopenMax  = 10 * time.Second
)

// errAgain is the error of an answer that came over a connection that is lost.
var errAgain = arpc.NewError(arpc.CodeUnavailable, "pubsub: the connection was lost while the subscription began")

// openFirst opens a subscription for the first time, over as many connections as that
// takes.
func (c *Client) openFirst(ctx context.Context, s *Subscription) error {
	for attempt := 0; ; attempt++ {
		err := c.awaitConnection(ctx)
		if err == nil {
			err = c.open(ctx, s)
		}
		if isLoss(err) {
			attempt = 0
		}
		if err != nil && ctx.Err() == nil && isPassing(err) && sleep(ctx, backOff(attempt)) == nil {
			continue
		}
		if err != nil {
			c.giveUp(s, err)
		}
		return err
	}
}

// isPassing reports whether the connection is to blame for an error, or a subscription
// of before that the server is about to forget: the client has no other one like it.
func isPassing(err error) bool {
	switch arpc.CodeOf(err) {
	case arpc.CodeUnavailable:
		return !errors.Is(err, arpc.ErrClosed)
	case arpc.CodeAlreadyExists:
		return arpc.IsRemote(err)
	}
	return false
}

// giveUp ends a subscription that could not be opened for the first time.
func (c *Client) giveUp(s *Subscription, err error) {
	c.mu.Lock()
	first := c.forget(s)
	c.mu.Unlock()
	if first {
		s.queue.stop(nil)
		c.dropRemote(s)
		s.over(err)
	}
}

// awaitConnection waits until there is a connection that can be used.
func (c *Client) awaitConnection(ctx context.Context) error {
	for {
		c.mu.Lock()
		switch {
		case c.closed:
			c.mu.Unlock()
			return arpc.ErrClosed
		case c.connected:
			c.mu.Unlock()
			return ctx.Err()
		}
		changed := c.awaited()
		c.watch()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// backOff returns how long to wait before an attempt that follows so many.
func backOff(attempt int) time.Duration {
	limit := reopenMax
	if attempt < 10 {
		limit = min(limit, reopenBase<<attempt)
	}
	return rand.N(limit + 1)
}

// open asks the server once for a subscription.
func (c *Client) open(ctx context.Context, s *Subscription) error {
	ctx = arpc.ContextWithWaitForReady(ctx, false)
	numbers, old := c.takeNumbers(s), c.old.Load()
	for _, number := range numbers {
		if !old { // whose subscriptions have no numbers
			c.dropNumber(s, number)
		}
	}
	o, generation, err := c.begin(s, old)
	if err != nil {
		return err
	}
	if old {
		err = c.askOld(ctx, s)
		return c.answered(s, o.Number, generation, new(proto.Opened), err)
	}
	opened, err := c.ask(ctx, o)
	return c.answered(s, o.Number, generation, &opened, err)
}

func (c *Client) ask(ctx context.Context, o *proto.Opening) (opened proto.Opened, err error) {
	var answer []byte
	if err = c.CallWith(ctx, proto.Open, o.Append(nil), &answer); err != nil {
		return opened, err
	}
	if opened, err = proto.ParseOpened(answer); err != nil {
		return opened, arpc.Errorf(arpc.CodeInternal, "pubsub: the answer makes no sense: %w", err)
	}
	return opened, nil
}

func (c *Client) askOld(ctx context.Context, s *Subscription) error {
	if err := s.oldKnows(); err != nil {
		return err
	}
	return c.CallWith(ctx, proto.Subscribe, oldBody(s.filter, nil), nil)
}

// begin gives a subscription a number under which the server is asked for it.
func (c *Client) begin(s *Subscription, old bool) (o *proto.Opening, generation uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.claimed, s.dropped, s.again = false, false, s.accepted
	if s.state == subOver {
		return nil, 0, arpc.ErrClosed
	}
	c.numbers++
	s.state, s.number = subOpening, c.numbers
	c.byNumber[s.number] = s
	if old {
		c.byFilter[s.filter] = s // messages may come before the answer
	}
	s.asked = s.start()
	return s.opening(), c.generation, nil
}

// start is where a subscription is to begin now. Guarded by client.mu.
func (s *Subscription) start() Start {
	switch {
	case s.accepted && s.position.Epoch != "" && s.with.group == "":
		return Start{Kind: StartAfter, Position: s.position}
	case !s.noted: // nothing has come
		return s.with.start
	}
	return Start{Kind: StartNew}
}

func (s *Subscription) opening() *proto.Opening {
	w, left := &s.with, s.queue.remaining()
	o := &proto.Opening{
		Number: s.number, Filter: s.filter, Group: w.group,
		WindowMessages: left.messages, WindowBytes: left.bytes,
		Policy: int(w.policy), QueueMessages: w.queueMessages, QueueBytes: w.queueBytes,
		Start: int(s.asked.Kind), Epoch: s.asked.Position.Epoch, Offset: s.asked.Position.Offset,
		Events: w.presence, MemberID: w.memberID, MemberInfo: w.memberInfo,
	}
	if g := &w.groupOptions; g.Ack {
		o.Ack, o.AckWait, o.MaxPending = true, g.AckWait, g.MaxPending
	}
	if s.asked.Kind == StartSince {
		o.Time = s.asked.Time.UnixNano()
	}
	return o
}

// answered notes what came of asking for a subscription.
func (c *Client) answered(s *Subscription, number, generation uint64, o *proto.Opened, err error) error {
	c.mu.Lock()
	switch {
	case s.state == subOver:
		c.mu.Unlock()
		if err == nil {
			c.dropNumber(s, number)
		}
		return arpc.ErrClosed
	case err == nil && generation != c.generation:
		err = errAgain
	case err == nil && s.dropped:
		err = errDropped
	}
	defer c.mu.Unlock()
	if err != nil {
		if !arpc.SafeToRetry(err) && !refused(err) {
			s.loose = append(s.loose, number)
		}
		c.down(s, err)
		return err
	}
	s.state, s.since = subOpen, time.Now()
	s.queue.cut(o.WindowMessages, o.WindowBytes)
	if !s.noted && s.with.start.Kind == StartNew {
		s.position = Position{Epoch: o.Epoch, Offset: o.Offset}
	}
	if c.byFilter[s.filter] == s && !s.live { // an old server sends no notes
		c.started(s, true)
	}
	c.accept(s)
	return nil
}

// refused reports whether the server has said that it does not know a subscription.
func refused(err error) bool {
	return arpc.IsRemote(err) && arpc.CodeOf(err) != arpc.CodeAlreadyExists
}

// accept notes that the server has accepted a subscription. Guarded by mu.
func (c *Client) accept(s *Subscription) {
	if !s.accepted {
		s.accepted = true
		close(s.ready)
	}
}

// started notes that messages come from here on. Guarded by mu.
func (c *Client) started(s *Subscription, recovered bool) {
	if s.again && !recovers(s) {
		recovered = false
	}
	if !recovered {
		s.unrecovered.Add(1)
	}
	s.live, s.paused = true, false
	s.event(Event{Kind: EventStarted, Recovered: recovered})
}

// recovers reports whether the server can know what a subscription that begins again
// has missed.
func recovers(s *Subscription) bool {
	switch {
	case s.with.group != "":
		return s.settles()
	case s.asked.Kind == StartNew, s.asked.Kind == StartLast:
		return false
	}
	return true
}

// down notes that the server does not know a subscription. Guarded by mu.
func (c *Client) down(s *Subscription, err error) {
	c.stopped(s)
	delete(c.byNumber, s.number)
	if s.state == subOpen && time.Since(s.since) > reopenMax {
		s.attempts = 0
	}
	s.state, s.number = subDown, 0
	c.interrupted(s, err)
}

// interrupted notes that nothing comes any more for a while. Guarded by mu.
func (c *Client) interrupted(s *Subscription, err error) {
	if s.live {
		s.live = false
		s.pause(err)
	}
}

// pause tells that nothing comes, once until it goes on. Guarded by client.mu.
func (s *Subscription) pause(err error) {
	if !s.paused {
		s.paused = true
		s.event(Event{Kind: EventInterrupted, Err: err})
	}
}

// openAgain has subscriptions opened that were, as many at a time as there are openers.
// Guarded by mu.
func (c *Client) openAgain(all ...*Subscription) {
	c.due = append(c.due, all...)
	for range min(openers, len(c.due)) - c.workers {
		c.workers++
		go c.opener()
	}
}

func (c *Client) opener() {
	for s := c.nextDue(); s != nil; s = c.nextDue() {
		ctx, cancel := context.WithTimeout(c.life, openTimeout)
		err := c.open(ctx, s)
		cancel()
		if err != nil {
			c.failed(s, err)
		}
	}
}

// nextDue returns a subscription to be opened again, nil if there is none.
func (c *Client) nextDue() *Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.connected && len(c.due) > 0 {
		s := c.due[0]
		c.due = c.due[1:]
		if s.isDue() {
			s.claimed = true
			return s
		}
	}
	c.due = nil // a connection to come has all of them opened
	c.workers--
	return nil
}

// isDue reports whether nobody is about to open a subscription again. Guarded by
// client.mu.
func (s *Subscription) isDue() bool { return s.state == subDown && s.accepted && !s.claimed }

// failed deals with a subscription that could not be opened again, or that the server
// has ended because of err.
func (c *Client) failed(s *Subscription, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.state != subDown {
		return
	}
	if isFinal(err) {
		c.forget(s)
		s.queue.pushLast(item{event: &Event{Kind: EventEnded, Err: err}}, true)
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(backOff(s.attempts), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.state == subDown && c.connected {
			c.openAgain(s)
		}
	})
	if !isLoss(err) {
		s.attempts++
	}
}

// isLoss reports whether the connection was lost, or was none.
func isLoss(err error) bool {
	return err != nil && arpc.CodeOf(err) == arpc.CodeUnavailable && !arpc.IsRemote(err)
}

// isFinal reports whether trying again does not mend an error.
func isFinal(err error) bool {
	switch arpc.CodeOf(err) {
	case arpc.CodeInvalidArgument, arpc.CodeNotFound, arpc.CodePermissionDenied, arpc.CodeFailedPrecondition,
		arpc.CodeOutOfRange, arpc.CodeUnimplemented, arpc.CodeUnauthenticated:
		return true
	}
	return false
}
