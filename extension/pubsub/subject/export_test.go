package subject

import "fmt"

// Held counts the nodes that m holds, those of no use any more included, and checks
// all that is said of them.
func Held[T any](m *Matcher[T]) (nodes int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.root.check(); err != nil {
		return 0, err
	}
	children := make(map[*node[T]]int32) // in use, as counted
	for i := range m.shards {
		n, err := m.heldBy(m.shards[i].Load(), children)
		if err != nil {
			return 0, fmt.Errorf("shard %d: %w", i, err)
		}
		nodes += n
	}
	for n, counted := range children {
		if n.children.Load() != counted {
			return 0, fmt.Errorf("node %q has %d children, and says %d", n.token, counted, n.children.Load())
		}
	}
	if m.count.Load() == 0 && !(m.root.empty() && m.literals.empty()) {
		return 0, fmt.Errorf("there are no filters, and nodes in use")
	}
	return nodes, nil
}

func (m *Matcher[T]) heldBy(t *table[T], children map[*node[T]]int32) (nodes int, err error) {
	if t == nil {
		return 0, nil
	}
	used, live := 0, 0
	for i := range t.slots {
		n := t.slots[i].node.Load()
		if n == nil {
			continue
		}
		used++
		nodes += 1 + n.held()
		if n.empty() {
			continue
		}
		if err := n.check(); err != nil {
			return 0, fmt.Errorf("node %q: %w", n.token, err)
		}
		live++
		children[n.parent]++
		if n.parent.empty() || t.find(n.hash, n.parent, n.token) != n {
			return 0, fmt.Errorf("node %q is lost", n.token)
		}
	}
	switch {
	case used != t.used || live != t.live:
		return 0, fmt.Errorf("there are %d nodes, %d of them in use, and it says %d and %d", used, live, t.used, t.live)
	case live == 0 || t.isStale() || used == len(t.slots):
		return 0, fmt.Errorf("%d nodes in %d slots, %d of them in use", used, len(t.slots), live)
	}
	return nodes, nil
}

// special returns the children that are in no table.
func (n *node[T]) special() (children []*node[T]) {
	for _, child := range []*node[T]{n.star.Load(), n.rest.Load()} {
		if child != nil {
			children = append(children, child)
		}
	}
	return children
}

// held counts what is below n and in no table.
func (n *node[T]) held() (nodes int) {
	for _, child := range n.special() {
		nodes += 1 + child.held()
	}
	return nodes
}

// check looks at the filters that end at n, and at the children that are in no table.
func (n *node[T]) check() error {
	for _, child := range n.special() {
		if err := child.check(); err != nil || child.empty() {
			return fmt.Errorf("a child is of no use, or: %w", err)
		}
	}
	l := n.bag.rest.Load()
	if l == nil {
		return nil
	}
	live := int32(0)
	for i := range l.entries {
		if e := l.entries[i].Load(); e != nil {
			live++
			if e.at != n || e.index != int32(i) {
				return fmt.Errorf("entry %d says it is %d", i, e.index)
			}
		}
	}
	if live != l.live || live == 0 || len(l.entries) > max(minList, 4*int(live)+4) {
		return fmt.Errorf("%d entries in a list for %d, which says %d", live, len(l.entries), l.live)
	}
	return nil
}
