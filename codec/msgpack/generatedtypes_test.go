package msgpack_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec/msgpack"
)

func sampleOrder() generatedOrder {
	return generatedOrder{
		ID: 1 << 40, Name: "the quick brown fox", Tags: []string{"a", "bb", "ccc"},
		Notes: map[string]string{"key": "value"}, Price: 3.25, Raw: []byte{0, 1, 255},
	}
}

func TestGeneratedTypesConform(t *testing.T) {
	s := spec()
	order := sampleOrder()
	s.Values = map[string]any{
		"value":     order,
		"pointer":   &order,
		"list":      generatedList{order, order},
		"slice":     []generatedOrder{order},
		"pointers":  []*generatedOrder{&order, nil},
		"map":       map[string]generatedOrder{"a": order},
		"in a type": struct{ A, B *generatedOrder }{A: &order},
		"any":       []any{"x"},
		"tree":      generatedTree{Value: 1, Left: &generatedTree{Value: 2}},
	}
	arpctest.Codec(t, msgpack.Codec{}, s)
}

// Generated methods recurse without a limit, and make what a length says.
func TestGeneratedTypesAreProtected(t *testing.T) {
	tree := &generatedTree{}
	tree.Left = tree
	_, err := msgpack.Codec{}.Marshal(tree)
	require.ErrorContains(t, err, "cyclic, or nests deeper than the limit of 1000 (WithMaxDepth)")

	deep := append(bytes.Repeat([]byte("\x81\xa4left"), 10_000_000), 0xc0)
	require.ErrorContains(t, msgpack.Codec{}.Unmarshal(deep, tree), "nests deeper than the limit of 1000 (WithMaxDepth)")

	var list generatedList
	require.Error(t, msgpack.Codec{}.Unmarshal([]byte("\xdd\xff\xff\xff\xff"), &list))
	require.Empty(t, list)
}

// A type with generated methods and one without read what the other has written.
func TestGeneratedAndReflectedTypesAgree(t *testing.T) {
	type reflected struct {
		ID    int64             `msg:"id"`
		Name  string            `msg:"name"`
		Tags  []string          `msg:"tags"`
		Notes map[string]string `msg:"notes"`
		Price float64           `msg:"price"`
		Raw   []byte            `msg:"raw"`
	}
	order := sampleOrder()
	byMethods, err := msgpack.Codec{}.Marshal(order)
	require.NoError(t, err)
	byReflection, err := msgpack.Codec{}.Marshal(reflected(order))
	require.NoError(t, err)
	require.Equal(t, byMethods, byReflection)

	var r reflected
	require.NoError(t, msgpack.Codec{}.Unmarshal(byMethods, &r))
	var g generatedOrder
	require.NoError(t, msgpack.Codec{}.Unmarshal(byReflection, &g))
	require.Equal(t, order, g)
	require.Equal(t, reflected(order), r)
}
