package subject

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Matcher holds filters, each with a value, and finds the values of those that match
// a topic. The zero Matcher is empty and ready. It must not be copied.
//
// All methods may be called concurrently. Each and Match take no lock and wait for
// nobody, and nobody waits for them. Add and Remove take turns.
//
// Filters without wildcards cost one look-up for a topic, however many there are. The
// others form a tree with a level for each token, in which a topic visits the nodes
// whose tokens match its beginning: each at most once, at a depth of d tokens no more
// than 2 to the power of d, and no more than there are filters. So what a topic costs is
// bounded by what has been subscribed, whatever the topic: at worst, where all filters
// are made for it, by MaxTokens visits for each filter with wildcards. Who lets
// strangers subscribe limits how many filters each of them may have.
type Matcher[T any] struct {
	count atomic.Int64

	mu       sync.Mutex   // held by who changes anything
	seed     maphash.Seed // set by the first Add, never changed
	literals node[T]      // parent of a node for each literal filter, whose token is the whole filter
	root     node[T]      // of the tree of all others
	shards   [256]atomic.Pointer[table[T]]
}

// node stands for a literal filter, or for the first tokens of others. One that is in
// use has entries or children.
type node[T any] struct {
	// Set when it is made, never changed.
	parent *node[T]
	token  string
	hash   uint32 // of the tokens down to here

	children atomic.Int32 // in the table, in use
	star     atomic.Pointer[node[T]]
	rest     atomic.Pointer[node[T]] // for a token ">": has only entries
	bag      bag[T]                  // of the filters that end here
}

func (n *node[T]) empty() bool {
	return n.bag.empty() && n.children.Load() == 0 && n.star.Load() == nil && n.rest.Load() == nil
}

// Len returns how many filters there are, each counted as often as it was added.
func (m *Matcher[T]) Len() int { return int(m.count.Load()) }

// Each calls f with the value of each filter that matches the topic, in no particular
// order, as often as the filter was added. What is added or removed meanwhile may be
// among them or not; all others are, once. f may call all methods of the Matcher.
//
// The topic is not checked: wildcards in it are tokens like others. Each allocates
// nothing and keeps nothing of the topic.
func (m *Matcher[T]) Each(topic string, f func(T)) {
	if n := m.child(&m.literals, topic); n != nil {
		n.bag.each(f)
	}
	m.visit(&m.root, topic, f)
}

// Match appends to dst what Each finds and returns the result. It allocates nothing
// if the capacity of dst is enough.
func (m *Matcher[T]) Match(topic string, dst []T) []T {
	m.Each(topic, func(value T) { dst = append(dst, value) })
	return dst
}

// visit calls f for the filters below n that match the rest of a topic, which has one
// token or more.
func (m *Matcher[T]) visit(n *node[T], topic string, f func(T)) {
	if rest := n.rest.Load(); rest != nil {
		rest.bag.each(f)
	}
	token, topic, more := strings.Cut(topic, separator)
	if star := n.star.Load(); star != nil {
		m.goOn(star, topic, more, f)
	}
	if child := m.child(n, token); child != nil {
		m.goOn(child, topic, more, f)
	}
}

func (m *Matcher[T]) goOn(n *node[T], topic string, more bool, f func(T)) {
	if more {
		m.visit(n, topic, f)
	} else {
		n.bag.each(f)
	}
}

// child returns the child of n for a token of a topic, or nil.
func (m *Matcher[T]) child(n *node[T], token string) *node[T] {
	if n.children.Load() == 0 {
		return nil
	}
	hash := m.hash(n, token)
	return m.shard(hash).Load().find(hash, n, token)
}

func (m *Matcher[T]) hash(parent *node[T], token string) uint32 {
	const golden = 0x9e3779b97f4a7c15
	return uint32((maphash.String(m.seed, token) + uint64(parent.hash)*golden) >> 32)
}

func (m *Matcher[T]) shard(hash uint32) *atomic.Pointer[table[T]] { return &m.shards[hash>>24] }

// Add adds a filter with its value, and returns what Remove needs. The same filter may
// be added any number of times. The error is that of CheckFilter. Add keeps nothing of
// filter.
//
// It takes a step for each token of a filter with wildcards, and one for others. In
// between somebody pays for growth, in proportion to what the filter, or a 256th of
// the Matcher, holds already.
func (m *Matcher[T]) Add(filter string, value T) (*Entry[T], error) {
	if err := CheckFilter(filter); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root.hash == 0 {
		m.seed = maphash.MakeSeed()
		m.root.hash = 1
	}
	e := &Entry[T]{value: value, at: m.place(filter)}
	e.at.bag.add(e)
	m.count.Add(1)
	return e, nil
}

// place returns the node of a filter, which it makes if need be.
func (m *Matcher[T]) place(filter string) *node[T] {
	if IsLiteral(filter) {
		return m.ensure(&m.literals, filter)
	}
	n := &m.root
	for token := range strings.SplitSeq(filter, separator) {
		switch token {
		case anyToken:
			n = ensureAt(&n.star, n, m.hash(n, token))
		case anyRest:
			n = ensureAt(&n.rest, n, 0)
		default:
			n = m.ensure(n, token)
		}
	}
	return n
}

func ensureAt[T any](at *atomic.Pointer[node[T]], parent *node[T], hash uint32) *node[T] {
	if at.Load() == nil {
		at.Store(&node[T]{parent: parent, hash: hash})
	}
	return at.Load()
}

// ensure returns the child of n for a token, in use.
func (m *Matcher[T]) ensure(n *node[T], token string) *node[T] {
	hash := m.hash(n, token)
	shard := m.shard(hash)
	t := shard.Load()
	child := t.find(hash, n, token)
	if child != nil && !child.empty() {
		return child
	}
	n.children.Add(1) // n is in use from here on: a new table takes it along
	if child != nil {
		t.live++
		return child
	}
	if t.isFull() {
		t = t.moved()
		shard.Store(t)
	}
	child = &node[T]{parent: n, token: strings.Clone(token), hash: hash}
	t.insert(child)
	return child
}

// Remove takes a filter out again and reports whether it was there. An entry of
// another Matcher, a removed one and nil are not. Its cost is that of Add. The
// entry keeps its value: forget it.
func (m *Matcher[T]) Remove(e *Entry[T]) bool {
	if e == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := e.at
	if n == nil || !m.owns(n) {
		return false
	}
	e.at = nil
	n.bag.remove(e)
	m.prune(n)
	m.count.Add(-1)
	return true
}

func (m *Matcher[T]) owns(n *node[T]) bool {
	for n.parent != nil {
		n = n.parent
	}
	return n == &m.root || n == &m.literals
}

// prune gives up n if it is of no use any more, and then those above it.
func (m *Matcher[T]) prune(n *node[T]) {
	top := n
	for ; top.parent != nil && top.empty(); top = top.parent {
		m.detach(top)
	}
	for ; n != top; n = n.parent { // not before all are detached: a new table takes along what is in use
		m.tidy(n.hash)
	}
}

func (m *Matcher[T]) detach(n *node[T]) {
	switch n {
	case n.parent.star.Load():
		n.parent.star.Store(nil)
	case n.parent.rest.Load():
		n.parent.rest.Store(nil)
	default:
		n.parent.children.Add(-1)
		m.shard(n.hash).Load().live--
	}
}

// tidy gives back what a table for nodes with this hash does not need.
func (m *Matcher[T]) tidy(hash uint32) {
	shard := m.shard(hash)
	t := shard.Load()
	switch {
	case t == nil:
	case t.live == 0:
		shard.Store(nil)
	case t.isStale():
		shard.Store(t.moved())
	}
}
