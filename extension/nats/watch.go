package nats

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// watch is a Watcher with its filter.
type watch struct {
	filter string
	kept   bool // all topics have history
	entry  *subject.Entry[*watch]
	begins atomic.Uint64 // the mark of plain behind which it gets messages; 0: not known yet

	mu          sync.Mutex     // held while the Watcher is called
	to          pubsub.Watcher // nil: stopped
	interrupted bool
}

func (w *watch) deliver(m *pubsub.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to != nil {
		w.to.Deliver(m)
	}
}

func (w *watch) deliverToOne(m *pubsub.Message) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to != nil && w.to.Size() > 0 && w.to.DeliverToOne(m)
}

func (w *watch) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to == nil {
		return 0
	}
	return max(0, w.to.Size())
}

// interrupt and resume come in turns, whoever calls them how often.
func (w *watch) interrupt(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to != nil && !w.interrupted {
		w.interrupted = true
		w.to.Interrupted(err)
	}
}

func (w *watch) resume(complete bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.to != nil && w.interrupted {
		w.interrupted = false
		w.to.Resumed(complete)
	}
}

// miss says that messages are lost in this place.
func (w *watch) miss(err error) {
	w.interrupt(err)
	w.resume(false)
}

// stop returns when the Watcher is not called any more.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = nil
}

// filter is what is subscribed to for all watches with the same filter.
type filter struct {
	name    string
	watches []*watch // replaced, never changed; guarded by Broker.mu
	users   int      // watches, also those that are not there yet; guarded by Broker.mu

	turn sync.Mutex           // held while it is subscribed to, or not any more
	subs []*nats.Subscription // guarded by turn
}

// Watch says pubsub.Broker.
func (b *Broker) Watch(name string, w pubsub.Watcher) (stop func(), err error) {
	ctx, cancel := b.bounded(b.life)
	defer cancel()
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	if err := subject.CheckFilter(name); err != nil {
		return nil, arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
	}
	one := &watch{filter: name, kept: b.rules.covers(name), to: w}
	f := b.enter(one)
	stop = sync.OnceFunc(func() { b.unwatch(f, one) })
	if err := b.listen(ctx, f); err != nil {
		stop()
		return nil, b.failed(ctx, "watch", err)
	}
	b.plain.begin(one)
	return stop, nil
}

// enter adds a watch to its filter.
func (b *Broker) enter(w *watch) *filter {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.filters[w.filter]
	if f == nil {
		f = &filter{name: w.filter}
		b.filters[w.filter] = f
	}
	f.users++
	f.watches = append(slices.Clip(f.watches), w)
	w.entry, _ = b.watches.Add(w.filter, w) // the filter was checked
	return f
}

// subscriptions returns the subjects that a filter needs.
func (b *Broker) subscriptions(f *filter) []string {
	encoded := encodeFilter(f.name)
	subjects := []string{b.names.one + encoded}
	if !b.rules.covers(f.name) {
		subjects = append(subjects, b.names.plain+encoded)
	}
	return subjects
}

// listen returns when messages published anywhere arrive.
func (b *Broker) listen(ctx context.Context, f *filter) error {
	if err := b.subscribe(f); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if b.stored == nil || !b.rules.touches(f.name) {
		return nil
	}
	return b.stored.start(ctx)
}

func (b *Broker) subscribe(f *filter) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	if len(f.subs) > 0 {
		return nil
	}
	for _, s := range b.subscriptions(f) {
		sub, err := b.plain.subscribe(s)
		if err != nil {
			b.unsubscribe(f)
			return err
		}
		f.subs = append(f.subs, sub)
		b.mu.Lock()
		b.bySub[sub] = f
		b.mu.Unlock()
	}
	return nil
}

// unsubscribe is called with turn held. What has arrived for a subscription and was not
// delivered yet is not: whoever watches next would get it, and miss what follows.
func (b *Broker) unsubscribe(f *filter) {
	unsubscribe(f.subs)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, sub := range f.subs {
		delete(b.bySub, sub)
	}
	f.subs = nil
}

func unsubscribe(subs []*nats.Subscription) {
	for _, s := range subs {
		s.Unsubscribe() // an error says that the connection is closed
	}
}

// unwatch is what stop does. Nobody subscribes to the filter again before it is not
// subscribed to any more: no message comes twice.
func (b *Broker) unwatch(f *filter, w *watch) {
	w.stop()
	f.turn.Lock()
	defer f.turn.Unlock()
	if b.exit(f, w) {
		b.unsubscribe(f)
		b.drop(f)
	}
}

// exit takes a watch out and reports whether it was the last of its filter.
func (b *Broker) exit(f *filter, w *watch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watches.Remove(w.entry)
	f.watches = slices.DeleteFunc(slices.Clone(f.watches), func(other *watch) bool { return other == w })
	f.users--
	return f.users == 0
}

// drop forgets a filter, unless somebody has come meanwhile.
func (b *Broker) drop(f *filter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.users == 0 {
		delete(b.filters, f.name)
	}
}

// watchesOf returns the watches that a subscription is for.
func (b *Broker) watchesOf(sub *nats.Subscription) []*watch {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if f := b.bySub[sub]; f != nil {
		return f.watches
	}
	return nil
}

// watching returns all watches whose topics all have history, or all others.
func (b *Broker) watching(kept bool) (found []*watch) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, f := range b.filters {
		for _, w := range f.watches {
			if w.kept == kept {
				found = append(found, w)
			}
		}
	}
	return found
}
