package subject

import "sync/atomic"

// Entry is a filter in a [Matcher], with its value: what Remove needs.
type Entry[T any] struct {
	value T        // never changed
	at    *node[T] // whose bag it is in; nil: removed. Guarded by Matcher.mu.
	index int32    // in bag.rest, or alone. Guarded by Matcher.mu.
}

// alone is the index of the entry in bag.one.
const alone = -1

// bag holds the entries of one filter. It is read at any time without a lock, and
// changed under Matcher.mu. An entry keeps its place as far as a reader can see: who
// reads finds each one that is there all the time exactly once.
type bag[T any] struct {
	one  atomic.Pointer[Entry[T]] // most filters have one entry
	rest atomic.Pointer[list[T]]
}

// list only grows at its end. When that is reached, or when most entries are gone, a
// new one takes its place.
type list[T any] struct {
	entries []atomic.Pointer[Entry[T]] // nil: removed
	n       atomic.Int32               // entries[:n] are used
	live    int32                      // not nil. Guarded by Matcher.mu.
}

const minList = 4

func (b *bag[T]) each(f func(T)) {
	if e := b.one.Load(); e != nil {
		f(e.value)
	}
	l := b.rest.Load()
	if l == nil {
		return
	}
	entries := l.entries[:l.n.Load()]
	for i := range entries {
		if e := entries[i].Load(); e != nil {
			f(e.value)
		}
	}
}

func (b *bag[T]) empty() bool { return b.one.Load() == nil && b.rest.Load() == nil }

func (b *bag[T]) add(e *Entry[T]) {
	l := b.rest.Load()
	switch {
	case b.one.Load() == nil:
		e.index = alone
		b.one.Store(e)
		return
	case l == nil:
		l = &list[T]{entries: make([]atomic.Pointer[Entry[T]], minList)}
		b.rest.Store(l)
	case int(l.n.Load()) == len(l.entries):
		l = l.moved()
		b.rest.Store(l)
	}
	l.add(e)
}

func (b *bag[T]) remove(e *Entry[T]) {
	if e.index == alone {
		b.one.Store(nil)
		return
	}
	l := b.rest.Load()
	l.entries[e.index].Store(nil)
	l.live--
	switch {
	case l.live == 0:
		b.rest.Store(nil)
	case int(l.live) < len(l.entries)/4 && len(l.entries) > minList:
		b.rest.Store(l.moved())
	}
}

func (l *list[T]) add(e *Entry[T]) {
	e.index = l.n.Load()
	l.entries[e.index].Store(e)
	l.live++
	l.n.Store(e.index + 1)
}

// moved returns a list with the same entries and room for as many more.
func (l *list[T]) moved() *list[T] {
	bigger := &list[T]{entries: make([]atomic.Pointer[Entry[T]], max(minList, 2*l.live))}
	for i := range l.entries[:l.n.Load()] {
		if e := l.entries[i].Load(); e != nil {
			bigger.add(e)
		}
	}
	return bigger
}
