package encodable_test

import (
	"encoding"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/internal/encodable"
)

type (
	list struct {
		Value int
		Next  *list
	}
	dict   map[string]dict
	slices []slices
	hidden struct {
		parent *hidden
		Left   *hidden `wire:"-"`
		Other  *hidden `wire:"other" json:"-"`
	}
	content  struct{ Data any }
	embedded struct{ fmt.Stringer }
	inner    interface{ any }
	unseen   struct{ inner }
	self     struct{ Self *self }
	flat     struct {
		At   time.Time
		Name string
		Tags []map[string][]int
	}
	pointers *pointers
	wide     struct{ A, B, C struct{ D, E, F []any } }
	hollow   struct{ a, b int }
	own      struct{ a, b int }
	loop     struct{ Loop *loop }
)

func (own) MarshalBinary() ([]byte, error)   { return nil, nil }
func (*loop) MarshalBinary() ([]byte, error) { return nil, nil }
func (*self) MarshalText() ([]byte, error)   { return nil, nil }

func newChecker() *encodable.Checker {
	return &encodable.Checker{
		Tags:    []string{"wire", "json"},
		Opaque:  []reflect.Type{reflect.TypeFor[encoding.TextMarshaler]()},
		Own:     []reflect.Type{reflect.TypeFor[encoding.BinaryMarshaler]()},
		Setting: " (WithMaxDepth)",
	}
}

// chain has n structs.
func chain(n int) *list {
	l := &list{}
	for range n - 1 {
		l = &list{Next: l}
	}
	return l
}

func anys(n int) any {
	var v any = "leaf"
	for range n {
		v = []any{v}
	}
	return v
}

func TestDepthIsCountedInContainers(t *testing.T) {
	c := newChecker()
	for name, deep := range map[string]func(n int) any{
		"list": func(n int) any { return chain(n) },
		"any":  anys,
		"dict": func(n int) any {
			d := dict{}
			for range n - 1 {
				d = dict{"": d}
			}
			return d
		},
		"slices":  func(n int) any { return content{anys(n - 1)} },
		"content": func(n int) any { return map[string]any{"a": anys(n - 1)} },
		"keys":    func(n int) any { return map[any]int{chain2(n - 1): 1} },
	} {
		require.NoError(t, c.Check(deep(10), 10), name)
		require.Error(t, c.Check(deep(11), 10), name)
	}
}

// chain2 is a chain that can be a map's key.
func chain2(n int) any {
	var v any = 1
	for range n {
		v = content{v}
	}
	return v
}

func TestCyclesAreTooDeep(t *testing.T) {
	l := chain(3)
	l.Next.Next = l
	d := dict{}
	d["self"] = d
	s := slices{nil}
	s[0] = s
	anything := map[string]any{}
	anything["self"] = []any{anything}
	c := &content{}
	c.Data = c
	p := new(pointers)
	*p = p
	h := &hidden{}
	h.Other = h
	o := &loop{}
	o.Loop = o
	u := &unseen{}
	u.inner = u
	w := &wide{}
	w.B.E = []any{w}
	var i any
	i = &i
	for name, v := range map[string]any{
		"interface": i, "own": o, "list": l, "dict": d, "slices": s, "any": anything, "content": c, "pointers": p,
		"first tag counts": h, "embedded interface": u, "wide": w,
	} {
		err := newChecker().Check(v, 1000)
		require.ErrorContains(t, err, "cyclic, or nests deeper than the limit of 1000 (WithMaxDepth)", name)
	}
}

func TestWhatIsNotEncodedMayBeCyclic(t *testing.T) {
	h := &hidden{}
	h.parent, h.Left = h, h
	require.NoError(t, newChecker().Check(h, 10))
	s := &self{}
	s.Self = s
	require.NoError(t, newChecker().Check(s, 10), "it encodes itself")
	require.NoError(t, newChecker().Check([]any{s, embedded{}, content{}, time.Now(), flat{}, &flat{}, nil, (*list)(nil)}, 10))
	require.NoError(t, newChecker().Check(nil, 0))
}

func TestStructsThatWouldBeEmptyAreRefused(t *testing.T) {
	for name, v := range map[string]any{
		"itself": hollow{}, "pointer": &hollow{}, "nil pointer": (*hollow)(nil), "field": struct{ H *hollow }{}, "embedded": struct{ hollow }{},
		"elements": []map[string]hollow{}, "keys": map[hollow]int{}, "content": content{hollow{}}, "generic": []any{map[string]any{"a": hollow{1, 2}}},
		"in a recursive type": struct {
			L *list
			H hollow
		}{L: &list{}},
	} {
		require.ErrorContains(t, newChecker().Check(v, 10), "encodable_test.hollow has no exported fields", name)
	}
	for _, v := range []any{struct{}{}, struct {
		H hollow `json:"-"`
	}{}, self{}, own{1, 2}, []struct{}{}} {
		require.NoError(t, newChecker().Check(v, 10), "%T", v)
	}
}

func TestStructsThatAreEmptyMayBeAllowed(t *testing.T) {
	c := &encodable.Checker{Hollow: true}
	require.NoError(t, c.Check([]any{hollow{1, 2}}, 10))
}

func TestAllocFlatTypesCostNothing(t *testing.T) {
	c := newChecker()
	v, generic := &flat{}, map[string]any{"a": []any{1.5, "x", nil}}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = c.Check(v, 10) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = c.Check(generic, 10) }))
}

func BenchmarkCheck(b *testing.B) {
	c := newChecker()
	for name, v := range map[string]any{
		"flat": &flat{}, "list": chain(10), "any": map[string]any{"a": []any{1.5, "x", nil}, "b": map[string]any{"c": true}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Check(v, 1000)
			}
		})
	}
}
