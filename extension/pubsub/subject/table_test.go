package subject

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Nodes of the same hash, and those of one name below several parents, are told apart.
func TestTableWhereHashesCollide(t *testing.T) {
	type key struct{ parent, token, hash int }
	parents, tokens := make([]node[int], 4), []string{"", "a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		table, model := (*table[int])(nil), make(map[key]*node[int])
		t.Repeat(map[string]func(*rapid.T){
			"find and insert": func(t *rapid.T) {
				k := key{rapid.IntRange(0, 3).Draw(t, "parent"), rapid.IntRange(0, 3).Draw(t, "token"), rapid.IntRange(0, 2).Draw(t, "hash")}
				parent, token := &parents[k.parent], tokens[k.token]
				n := table.find(uint32(k.hash), parent, token)
				require.Same(t, model[k], n)
				if n != nil {
					return
				}
				if table.isFull() {
					table = table.moved()
				}
				n = &node[int]{parent: parent, token: token, hash: uint32(k.hash)}
				n.bag.add(new(Entry[int]))
				table.insert(n)
				model[k] = n
				require.Equal(t, len(model), table.live)
			},
		})
	})
}
