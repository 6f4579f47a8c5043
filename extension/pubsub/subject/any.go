package subject

import "strings"

// Any reports whether a filter matches the topic. It is Each that ends at the first.
func (m *Matcher[T]) Any(topic string) bool {
	if n := m.child(&m.literals, topic); n != nil && !n.bag.empty() {
		return true
	}
	return m.anyBelow(&m.root, topic)
}

// anyBelow is visit that ends at the first.
func (m *Matcher[T]) anyBelow(n *node[T], topic string) bool {
	if n.children.Load() == 0 && n.star.Load() == nil && n.rest.Load() == nil {
		return false
	}
	if rest := n.rest.Load(); rest != nil && !rest.bag.empty() {
		return true
	}
	token, topic, more := strings.Cut(topic, separator)
	if star := n.star.Load(); star != nil && m.anyAt(star, topic, more) {
		return true
	}
	child := m.child(n, token)
	return child != nil && m.anyAt(child, topic, more)
}

func (m *Matcher[T]) anyAt(n *node[T], topic string, more bool) bool {
	if more {
		return m.anyBelow(n, topic)
	}
	return !n.bag.empty()
}
