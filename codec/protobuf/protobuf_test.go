package protobuf_test

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec/protobuf"
	"github.com/arpc-go/arpc/codec/protobuf/internal/testpb"
)

func sample() *testpb.All {
	return &testpb.All{
		Bool: true, Int32: math.MinInt32, Sint64: math.MinInt64, Uint64: math.MaxUint64, Fixed32: math.MaxUint32, Sfixed64: -1,
		Float: 0.1, Double: math.Inf(-1), String_: "日本 \x00 😀", Bytes: []byte{0, 255}, Color: testpb.Color_COLOR_RED,
		Part: &testpb.Part{Name: "part", Count: proto.Int32(0)}, Packed: []int64{1, -1, math.MaxInt64}, Strings: []string{"", "a"},
		Parts:    []*testpb.Part{{}, {Name: "x"}},
		ByName:   map[string]*testpb.Part{"": {}, "a": {Name: "b"}},
		ByNumber: map[int32][]byte{-1: {1}, 5: {}},
		One:      &testpb.All_Other{Other: &testpb.Part{Name: "one"}},
	}
}

// treeOf nests n levels deep.
func treeOf(n int) *testpb.Tree {
	tree := &testpb.Tree{Value: int64(n)}
	for range n - 1 {
		tree = &testpb.Tree{Left: tree}
	}
	return tree
}

// nested is n messages, each in a field of the next one; the numbers of the fields
// take turns.
func nested(n int, fields ...protowire.Number) []byte {
	var reversed []byte // written from the end, because each says how long the rest is
	length := 0
	for i := range n {
		head := protowire.AppendTag(nil, fields[i%len(fields)], protowire.BytesType)
		head = protowire.AppendVarint(head, uint64(length))
		length += len(head)
		slices.Reverse(head)
		reversed = append(reversed, head...)
	}
	slices.Reverse(reversed)
	return reversed
}

func spec(t *testing.T) arpctest.CodecSpec {
	generic, err := structpb.NewStruct(map[string]any{"list": []any{1.5, "x", nil, true, map[string]any{}}})
	require.NoError(t, err)
	packed, err := anypb.New(sample())
	require.NoError(t, err)
	return arpctest.CodecSpec{
		Values: map[string]any{
			"all":         sample(),
			"empty":       &testpb.All{},
			"tree":        &testpb.Tree{Left: treeOf(5), Children: []*testpb.Tree{{}, treeOf(3)}, Forests: map[string]*testpb.Forest{"a": {Trees: []*testpb.Tree{treeOf(2)}}}},
			"oneof":       &testpb.All{One: &testpb.All_Text{}},
			"struct":      generic,
			"any":         packed,
			"timestamp":   timestamppb.New(time.Unix(1, 2)),
			"duration":    durationpb.New(time.Minute),
			"nothing":     &emptypb.Empty{},
			"long string": wrapperspb.String(string(bytes.Repeat([]byte("long"), 20_000))),
			"NaN":         wrapperspb.Double(math.NaN()),
			"not UTF-8":   wrapperspb.String("a\xffb"),
			"int":         5,
			"text":        "text",
			"bytes":       []byte{1},
			"Go struct":   struct{ A int }{1},
			"Go map":      map[string]any{"a": 1},
		},
		Cannot: []string{"not UTF-8", "int", "text", "bytes", "Go struct", "Go map"},
		Equal: func(want, got any) bool {
			return proto.Equal(want.(proto.Message), got.(proto.Message))
		},
	}
}

func TestConformance(t *testing.T) {
	arpctest.Codec(t, protobuf.Codec{}, spec(t))
}

func TestDeterministicConforms(t *testing.T) {
	c := protobuf.New(protobuf.WithDeterministic())
	arpctest.Codec(t, c, spec(t))

	message := &testpb.All{ByNumber: make(map[int32][]byte)}
	for i := range int32(100) {
		message.ByNumber[i] = []byte{byte(i)}
	}
	first, err := c.Marshal(message)
	require.NoError(t, err)
	for range 10 {
		again, err := c.MarshalAppend(nil, message)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
}

// A payload in ten million levels is an error to those types that can hold them.
func TestDeepNesting(t *testing.T) {
	for name, test := range map[string]struct {
		into   proto.Message
		fields []protowire.Number
	}{
		"tree":     {&testpb.Tree{}, []protowire.Number{2}},
		"children": {&testpb.Tree{}, []protowire.Number{3}},
		"map":      {&testpb.Tree{}, []protowire.Number{1, 2, 4}},
		"values":   {&structpb.Value{}, []protowire.Number{1, 6}},
	} {
		require.NoError(t, protobuf.Codec{}.Unmarshal(nested(12, test.fields...), test.into), name)
		payload := nested(10_000_000-10_000_000%len(test.fields), test.fields...)
		require.ErrorContains(t, protobuf.Codec{}.Unmarshal(payload, test.into), "limit of 1000 (WithMaxDepth)", name)
		require.Error(t, protobuf.Codec{}.Unmarshal(payload[:len(payload)/2], test.into), name)
	}
	var groups []byte
	for range 1_000_000 {
		groups = protowire.AppendTag(groups, 100, protowire.StartGroupType)
	}
	for _, into := range []proto.Message{&testpb.Tree{}, &testpb.All{}, &emptypb.Empty{}} {
		require.Error(t, protobuf.Codec{}.Unmarshal(groups, into), "%T", into)
	}
}

func TestLimitNamesItsSetting(t *testing.T) {
	c := protobuf.New(protobuf.WithMaxDepth(10))
	data, err := c.Marshal(treeOf(10))
	require.NoError(t, err)
	require.NoError(t, c.Unmarshal(data, &testpb.Tree{}))

	_, err = c.Marshal(treeOf(11))
	require.EqualError(t, err, "encode protobuf: *testpb.Tree is cyclic, or nests deeper than the limit of 10 (WithMaxDepth)")
	data, err = protobuf.Codec{}.Marshal(treeOf(11))
	require.NoError(t, err)
	require.ErrorContains(t, c.Unmarshal(data, &testpb.Tree{}), "messages nest deeper than the limit of 10 (WithMaxDepth)")
	require.Equal(t, treeOf(11).String(), decoded(t, data).String())
}

func decoded(t *testing.T, data []byte) *testpb.Tree {
	t.Helper()
	tree := &testpb.Tree{}
	require.NoError(t, protobuf.Codec{}.Unmarshal(data, tree))
	return tree
}

func TestCyclesAreErrors(t *testing.T) {
	left := &testpb.Tree{}
	left.Left = left
	children := &testpb.Tree{}
	children.Children = []*testpb.Tree{{}, children}
	forest := &testpb.Forest{}
	forest.Trees = []*testpb.Tree{{Forests: map[string]*testpb.Forest{"self": forest}}}
	generic := structpb.NewListValue(&structpb.ListValue{})
	generic.GetListValue().Values = []*structpb.Value{generic}
	for _, m := range []proto.Message{left, children, forest, generic} {
		for _, c := range []protobuf.Codec{{}, protobuf.New(protobuf.WithDeterministic())} {
			_, err := c.Marshal(m)
			require.ErrorContains(t, err, "is cyclic, or nests deeper than the limit of 1000 (WithMaxDepth)")
		}
	}
}

func TestWhatIsNoMessageIsRefusedClearly(t *testing.T) {
	_, err := protobuf.Codec{}.Marshal(map[string]int{})
	require.EqualError(t, err, "encode protobuf: map[string]int is no proto.Message")
	_, err = protobuf.Codec{}.Marshal(emptypb.Empty{})
	require.EqualError(t, err, "encode protobuf: emptypb.Empty is no proto.Message, a pointer to it is")
	_, err = protobuf.Codec{}.Marshal(nil)
	require.EqualError(t, err, "encode protobuf: <nil> is no proto.Message")
	require.EqualError(t, protobuf.Codec{}.Unmarshal(nil, new(string)), "decode protobuf: *string is no proto.Message")
	require.EqualError(t, protobuf.Codec{}.Unmarshal(nil, (*testpb.All)(nil)), "decode protobuf: the *testpb.All is a nil pointer")
}

func TestNilMessageIsAnEmptyPayload(t *testing.T) {
	for _, m := range []any{(*testpb.All)(nil), (*testpb.Tree)(nil), (*emptypb.Empty)(nil), &testpb.All{}} {
		data, err := protobuf.Codec{}.Marshal(m)
		require.NoError(t, err)
		require.Empty(t, data)
	}
	full := sample()
	require.NoError(t, protobuf.Codec{}.Unmarshal(nil, full))
	require.True(t, proto.Equal(&testpb.All{}, full), "Unmarshal sets, it does not add")
}

func TestUnknownFieldsAreKept(t *testing.T) {
	data := protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 7)
	for _, m := range []proto.Message{&testpb.Part{}, &testpb.Tree{}, &emptypb.Empty{}} {
		require.NoError(t, protobuf.Codec{}.Unmarshal(data, m))
		again, err := protobuf.Codec{}.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, data, again)
	}
}

func TestOptionsThatMakeNoSensePanic(t *testing.T) {
	require.PanicsWithValue(t, "protobuf: WithMaxDepth: must be 1 to 10000: 0", func() { protobuf.New(protobuf.WithMaxDepth(0)) })
	require.Equal(t, protobuf.Codec{}, protobuf.New())
	require.Equal(t, "protobuf", protobuf.Codec{}.Name())
}

// counted tells which of its methods are used.
type counted struct {
	*testpb.Part
	marshaled, unmarshaled *int
}

func (c counted) MarshalToSizedBufferVT(data []byte) (int, error) {
	*c.marshaled++
	return c.Part.MarshalToSizedBufferVT(data)
}

func (c counted) UnmarshalVT(data []byte) error {
	*c.unmarshaled++
	return c.Part.UnmarshalVT(data)
}

func TestMethodsOfVtprotobufAreUsed(t *testing.T) {
	m := counted{&testpb.Part{Name: "x"}, new(int), new(int)}
	data, err := protobuf.Codec{}.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, protobuf.Codec{}.Unmarshal(data, m))
	require.Equal(t, "x", m.Name)
	require.Equal(t, []int{1, 1}, []int{*m.marshaled, *m.unmarshaled})

	_, err = protobuf.New(protobuf.WithDeterministic()).Marshal(m)
	require.NoError(t, err)
	require.Equal(t, 1, *m.marshaled)
}

// A message that changes while it is encoded is an error, not a crash.
type growing struct{ *testpb.Part }

func (growing) SizeVT() int { return 1 }

func TestPanicsOfMethodsAreErrors(t *testing.T) {
	out, err := protobuf.Codec{}.MarshalAppend([]byte("head"), growing{&testpb.Part{Name: "longer than it said"}})
	require.ErrorContains(t, err, "encode protobuf: panic: ")
	require.Equal(t, "head", string(out))
}
