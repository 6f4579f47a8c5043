package pubsub

import (
	"errors"
	"reflect"
	"runtime"
	"slices"
)

// workOff runs callbacks until there is nothing to do. It is the whole life of a
// goroutine, by which insideCallback knows them. done is what a goroutine before it has
// begun, whose callback has ended it.
func workOff(q *inbox, done *item) {
	it, over := new(item), false
	defer func() {
		if !over {
			go workOff(q, it)
		}
	}()
	over = q.workOn(it, done)
}

// workHere is workOff on the goroutine that has received it, for callbacks that run
// there (WithInline). begin has returned true for it.
func workHere(q *inbox, it item) {
	q.here = it
	over := false
	defer func() {
		if !over {
			go workOff(q, &item{bytes: it.bytes, counted: true})
		}
	}()
	q.sub.handle(&q.here)
	q.sub.borrowed = Topic{}
	over = q.workOn(&q.here, &q.here)
}

// workOn runs callbacks until there is nothing to do, and returns true then. it has what
// they run for; done is what was run before, nil for nothing.
func (q *inbox) workOn(it, done *item) bool {
	for {
		next, due, ok := q.take(done)
		if due {
			q.sub.client.giveBack(q.sub)
		}
		if !ok {
			return true
		}
		*it = next
		done = it
		q.sub.handle(it)
	}
}

// insideCallback reports whether a callback called the function that asks.
func insideCallback() bool {
	outermost := [...]uintptr{entryOf(workOff), entryOf(workHere)}
	pcs := make([]uintptr, 128)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var frame runtime.Frame
			if frame, more = frames.Next(); slices.Contains(outermost[:], frame.Entry) {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

func entryOf(fn any) uintptr { return runtime.FuncForPC(reflect.ValueOf(fn).Pointer()).Entry() }

// handle does what an item of the queue says.
func (s *Subscription) handle(it *item) {
	switch {
	case it.event != nil:
		s.tell(it.event)
	case it.topic != nil:
		s.call(it.topic)
	}
}

// call runs the callback. It may panic, or end the goroutine.
func (s *Subscription) call(t *Topic) {
	returned := false
	defer func() {
		if returned {
			if !s.with.manualAck {
				s.settleUnsettled(t, true)
			}
			return
		}
		s.client.panicked(s, recover())
		s.settleUnsettled(t, false)
	}()
	if fn := s.client.onPublish.Load(); fn != nil {
		(*fn)(t)
	} else {
		(*s.fn.Load())(t)
	}
	returned = true
}

// settleUnsettled settles a message that the program has not.
func (s *Subscription) settleUnsettled(t *Topic, acknowledged bool) {
	if t.delivery != nil {
		if err := t.settle(acknowledged); err != nil && !errors.Is(err, errSettled) {
			s.client.logger.Debug("pubsub: a message will come again", "filter", s.filter, "cause", err)
		}
	}
}

// tell runs the function of OnEvent. It may panic, or end the goroutine.
func (s *Subscription) tell(e *Event) {
	returned := false
	defer func() {
		if !returned {
			s.client.panicked(s, recover())
		}
		if e.Kind == EventEnded {
			s.over(e.Err)
		}
	}()
	if s.with.onEvent != nil {
		s.with.onEvent(*e)
	}
	returned = true
}

// event puts an event behind what has come.
func (s *Subscription) event(e Event) {
	if s.with.onEvent != nil {
		s.queue.push(item{event: &e})
	}
}

// panicked notes that a callback has not returned; p is nil if it has ended its
// goroutine.
func (c *Client) panicked(s *Subscription, p any) {
	c.stats.panics.Add(1)
	c.logger.Error("pubsub: a callback panicked or ended its goroutine", "filter", s.filter, "panic", p)
}
