package subject

import "sync/atomic"

// table is a piece of the hash table in which a node finds its children. It is read
// at any time without a lock, and changed under Matcher.mu: a slot is filled once and
// then stays as it is. Nodes that are of no use any more stay too, empty as they are,
// until somebody comes back to their name or a new table takes the place of this one.
type table[T any] struct {
	slots []slot[T] // a power of two of them, some of them free

	// Guarded by Matcher.mu.
	used int // slots that are not free
	live int // of them, those with nodes in use
}

type slot[T any] struct {
	hash uint32 // written before node, never changed
	node atomic.Pointer[node[T]]
}

const minSlots = 4

// find returns the child of parent for a token, which may be one that is not in use,
// or nil. Here and elsewhere a nil table is one without slots.
func (t *table[T]) find(hash uint32, parent *node[T], token string) *node[T] {
	if t == nil {
		return nil
	}
	mask := uint32(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		n := t.slots[i].node.Load()
		if n == nil {
			return nil
		}
		if t.slots[i].hash == hash && n.parent == parent && n.token == token {
			return n
		}
	}
}

// isFull reports whether a node more would make searches long.
func (t *table[T]) isFull() bool { return t == nil || t.used >= len(t.slots)/4*3 }

// isStale reports whether most of what it holds is of no use any more.
func (t *table[T]) isStale() bool { return t.used > 2*t.live+minSlots }

// insert adds a node that is not there, and is in use. There is room.
func (t *table[T]) insert(n *node[T]) {
	mask := uint32(len(t.slots) - 1)
	i := n.hash & mask
	for t.slots[i].node.Load() != nil {
		i = (i + 1) & mask
	}
	t.slots[i].hash = n.hash
	t.slots[i].node.Store(n)
	t.used++
	t.live++
}

// moved returns a table of the nodes that are in use, with room for as many more.
func (t *table[T]) moved() *table[T] {
	if t == nil {
		return &table[T]{slots: make([]slot[T], minSlots)}
	}
	size := minSlots
	for size < 2*t.live {
		size *= 2
	}
	fresh := &table[T]{slots: make([]slot[T], size)}
	for i := range t.slots {
		if n := t.slots[i].node.Load(); n != nil && !n.empty() {
			fresh.insert(n)
		}
	}
	return fresh
}
