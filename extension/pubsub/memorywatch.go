package pubsub

import (
	"math/rand/v2"
	"sync"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// lane is a lock under which messages go out one after the other.
type lane struct {
	mu      sync.Mutex
	current *Message
	each    func(*memoryWatch) // delivers current: made once, so that nothing is allocated
	found   []*memoryWatch     // for deliverToOne
}

func (l *lane) init() {
	l.each = func(w *memoryWatch) { w.deliver(l.current) }
}

// deliver has all who watch its topic told of m.
func (l *lane) deliver(watches *subject.Matcher[*memoryWatch], m *Message) {
	l.current = m
	watches.Each(m.Topic, l.each)
	l.current = nil
}

// deliverToOne has m delivered to one subscriber of all who watch its topic, if there
// is any: each is as likely as the others.
func (l *lane) deliverToOne(watches *subject.Matcher[*memoryWatch], m *Message) {
	l.found = watches.Match(m.Topic, l.found[:0])
	defer func() { clear(l.found) }()
	total := 0
	for _, w := range l.found {
		total += w.size()
	}
	if total == 0 {
		return
	}
	n := rand.IntN(total)
	first := 0
	for ; first < len(l.found)-1; first++ {
		if n -= l.found[first].size(); n < 0 {
			break
		}
	}
	for i := range l.found {
		if l.found[(first+i)%len(l.found)].deliverToOne(m) {
			return
		}
	}
}

// memoryWatch is a Watcher with its filter.
type memoryWatch struct {
	entry *subject.Entry[*memoryWatch] // guarded by MemoryBroker.mu

	mu      sync.Mutex // held while watcher is called
	watcher Watcher    // nil: stopped
}

func (w *memoryWatch) deliver(m *Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watcher != nil {
		w.watcher.Deliver(m)
	}
}

func (w *memoryWatch) deliverToOne(m *Message) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watcher != nil && w.watcher.Size() > 0 && w.watcher.DeliverToOne(m)
}

func (w *memoryWatch) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watcher == nil {
		return 0
	}
	return max(0, w.watcher.Size())
}

// stop returns when the Watcher is not called any more.
func (w *memoryWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watcher = nil
}

// Watch says Broker.
func (b *MemoryBroker) Watch(filter string, w Watcher) (stop func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	watch, err := b.watch(filter, w)
	if err != nil {
		return nil, err
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.unwatch(watch)
	}, nil
}

// watch is called with mu held, as unwatch is.
func (b *MemoryBroker) watch(filter string, w Watcher) (*memoryWatch, error) {
	if b.closed.Load() {
		return nil, ErrBrokerClosed
	}
	watch := &memoryWatch{watcher: w}
	entry, err := b.watches.Add(filter, watch)
	if err != nil {
		return nil, invalid(err)
	}
	watch.entry = entry
	b.watched[watch] = struct{}{}
	return watch, nil
}

func (b *MemoryBroker) unwatch(w *memoryWatch) {
	b.watches.Remove(w.entry)
	w.entry = nil
	delete(b.watched, w)
	w.stop()
}
