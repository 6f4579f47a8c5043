package msgpack_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/msgpack"
)

func encode(t *testing.T, v any) string {
	t.Helper()
	data, err := msgpack.Codec{}.Marshal(v)
	require.NoError(t, err)
	return string(data)
}

func decode[T any](t *testing.T, data string) (T, error) {
	t.Helper()
	var v T
	err := msgpack.Codec{}.Unmarshal([]byte(data), &v)
	return v, err
}

func TestOptionsThatMakeNoSensePanic(t *testing.T) {
	require.PanicsWithValue(t, "msgpack: WithMaxDepth: must be 1 to 65535: 0", func() { msgpack.New(msgpack.WithMaxDepth(0)) })
	require.PanicsWithValue(t, "msgpack: WithMaxElements: must be 1 to 2147483647: -1", func() { msgpack.New(msgpack.WithMaxElements(-1)) })
	require.Equal(t, msgpack.Codec{}, msgpack.New())
	require.Equal(t, "msgpack", msgpack.Codec{}.Name())
}

func TestLimitsNameTheirSettings(t *testing.T) {
	c := msgpack.New(msgpack.WithMaxDepth(3), msgpack.WithMaxElements(4))
	var v any
	require.NoError(t, c.Unmarshal([]byte("\x91\x91\x94\x00\x00\x00\x00"), &v))
	require.EqualError(t, c.Unmarshal([]byte("\x91\x91\x91\x90"), &v),
		"decode MessagePack: the payload nests deeper than the limit of 3 (WithMaxDepth)")
	require.EqualError(t, c.Unmarshal([]byte("\x95\x00\x00\x00\x00\x00"), &v),
		"decode MessagePack: 5 elements are over the limit of 4 (WithMaxElements)")
	require.ErrorContains(t, c.Unmarshal([]byte("\x85\xa0\x00\xa1a\x00\xa1b\x00\xa1c\x00\xa1d\x00"), &v), "5 elements are over the limit of 4")

	_, err := c.Marshal([]any{[]any{[]any{1}}})
	require.NoError(t, err)
	_, err = c.Marshal([]any{[]any{[]any{[]any{}}}})
	require.ErrorContains(t, err, "nests deeper than the limit of 3 (WithMaxDepth)")
}

func TestNumbersThatDoNotFitAreErrors(t *testing.T) {
	_, err := decode[int8](t, encode(t, 300))
	require.EqualError(t, err, "decode MessagePack: into int8: 300 does not fit")
	_, err = decode[uint16](t, encode(t, 70000))
	require.ErrorContains(t, err, "70000 does not fit")
	_, err = decode[uint](t, encode(t, -1))
	require.Error(t, err)
	_, err = decode[int64](t, encode(t, uint64(math.MaxUint64)))
	require.Error(t, err)
	_, err = decode[float32](t, encode(t, 1e300))
	require.ErrorContains(t, err, "1e+300 does not fit")
	_, err = decode[int](t, encode(t, 1.5))
	require.Error(t, err)
	_, err = decode[[2]int](t, encode(t, []int{1, 2, 3}))
	require.ErrorContains(t, err, "3 elements do not fit")
	_, err = decode[[2]byte](t, encode(t, []byte{1, 2, 3}))
	require.ErrorContains(t, err, "3 elements do not fit")

	f, err := decode[float64](t, encode(t, 3))
	require.NoError(t, err)
	require.Equal(t, 3.0, f, "JavaScript writes 3.0 as 3")
	f32, err := decode[float32](t, encode(t, 0.1))
	require.NoError(t, err)
	require.Equal(t, float32(0.1), f32)
}

type (
	base struct {
		ID   int
		Name string `msgpack:"name"`
	}
	Exported struct{ E int }
	named    struct{ N int }

	fields struct {
		base
		*Exported
		named      `msgpack:"in"`
		Time       time.Time
		Name       string `json:"name"` // wins over that of base
		Dash       int    `msgpack:"-,"`
		Out        int    `msgpack:"-"`
		JSON       int    `json:"json,omitempty"`
		Msg        int    `msg:"msg" json:"other"`
		Zero       time.Time
		ZeroTime   time.Time `msgpack:",omitzero"`
		unexported int
	}
)

func TestFieldsAreNamedAsInJSON(t *testing.T) {
	v := fields{base: base{1, "inner"}, Exported: &Exported{2}, Name: "outer", Dash: 3, Out: 4, Msg: 5, unexported: 6}
	data := encode(t, v)
	got, err := decode[map[string]any](t, data)
	require.NoError(t, err)
	zero := time.Time{}
	require.Equal(t, map[string]any{
		"ID": int64(1), "E": int64(2), "name": "outer", "-": int64(3), "msg": int64(5), "Time": zero, "Zero": zero,
	}, got)

	back, err := decode[fields](t, data)
	require.NoError(t, err)
	v.base.Name, v.Out, v.unexported = "", 0, 0
	require.Equal(t, v, back)

	none, err := decode[map[string]any](t, encode(t, fields{}))
	require.NoError(t, err)
	require.NotContains(t, none, "E", "there is no embedded struct")
}

func TestFieldsOfTheSameNameAreRefused(t *testing.T) {
	type twice struct {
		A int `msgpack:"x"`
		B int `json:"x"`
	}
	_, err := msgpack.Codec{}.Marshal(twice{})
	require.ErrorContains(t, err, `msgpack_test.twice has two fields with the name "x"`)
	_, err = decode[twice](t, "\x80")
	require.ErrorContains(t, err, `has two fields with the name "x"`)
}

func TestEmbeddedPointerThatIsNotExported(t *testing.T) {
	type outer struct{ *base }
	data := encode(t, outer{&base{1, "x"}})
	_, err := decode[outer](t, data)
	require.ErrorContains(t, err, "an embedded pointer that is not exported")
	empty, err := decode[outer](t, encode(t, outer{}))
	require.NoError(t, err)
	require.Equal(t, outer{}, empty)
}

func TestTimesOfAllYears(t *testing.T) {
	for _, at := range []time.Time{{}, time.Date(12000, 1, 2, 3, 4, 5, 6, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 7, time.UTC), time.Unix(0, 0), time.Unix(-1, 5), time.Unix(1<<34, 1)} {
		got, err := decode[time.Time](t, encode(t, at))
		require.NoError(t, err)
		require.True(t, at.Equal(got), "%v came back as %v", at, got)
		require.Equal(t, time.UTC, got.Location())
	}
}

func TestNamesMatchExactly(t *testing.T) {
	got, err := decode[base](t, encode(t, map[string]any{"id": 1, "ID": 2, "NAME": "x"}))
	require.NoError(t, err)
	require.Equal(t, base{ID: 2}, got)
}

// These types would come out empty.
func TestStructsWithoutExportedFieldsAreRefused(t *testing.T) {
	type hidden struct{ a int }
	_, err := msgpack.Codec{}.Marshal(map[string]any{"h": []hidden{{1}}})
	require.ErrorContains(t, err, "msgpack_test.hidden has no exported fields")
}

func TestNilSetsWhatCanBeNilAndLeavesTheRest(t *testing.T) {
	n := 5
	v := struct {
		Int     int
		Text    string
		At      time.Time
		Pointer *int
		List    []int
		Map     map[string]int
		Any     any
		Struct  base
	}{1, "x", time.Unix(1, 0), &n, []int{1}, map[string]int{"a": 1}, 7, base{1, "y"}}
	want := v
	want.Pointer, want.List, want.Map, want.Any = nil, nil, nil, nil
	nils := make(map[string]any)
	for _, name := range strings.Fields("Int Text At Pointer List Map Any Struct Unknown") {
		nils[name] = nil
	}
	require.NoError(t, msgpack.Codec{}.Unmarshal([]byte(encode(t, nils)), &v))
	require.Equal(t, want, v)
}

func TestDecodingIntoWhatIsThere(t *testing.T) {
	into := base{ID: 1, Name: "kept"}
	envelope := map[string]*base{"a": &into}
	var content any = &into
	require.NoError(t, msgpack.Codec{}.Unmarshal([]byte(encode(t, map[string]any{"ID": 2})), &content))
	require.Equal(t, base{2, "kept"}, into, "an interface that holds a pointer")

	require.NoError(t, msgpack.Codec{}.Unmarshal([]byte(encode(t, map[string]any{"b": nil})), &envelope))
	require.Equal(t, map[string]*base{"a": &into, "b": nil}, envelope, "maps are added to")

	generic := map[string]any{"a": 1}
	require.NoError(t, msgpack.Codec{}.Unmarshal([]byte(encode(t, map[string]any{"b": 2})), &generic))
	require.Equal(t, map[string]any{"a": 1, "b": int64(2)}, generic)
}

var errFailing = errors.New("this one fails")

type (
	failing   struct{ A int }
	panicking struct{ A int }
)

func (failing) MarshalBinary() ([]byte, error)  { return nil, errFailing }
func (*failing) UnmarshalBinary([]byte) error   { return errFailing }
func (panicking) MarshalText() ([]byte, error)  { panic("out of order") }
func (*panicking) UnmarshalText(_ []byte) error { panic("out of order") }

func TestErrorsOfMethods(t *testing.T) {
	_, err := msgpack.Codec{}.Marshal([]failing{{}})
	require.ErrorIs(t, err, errFailing)
	_, err = msgpack.Codec{}.Marshal(&panicking{})
	require.EqualError(t, err, "encode MessagePack: panic: out of order")
	require.ErrorIs(t, msgpack.Codec{}.Unmarshal([]byte("\xc4\x01x"), new(failing)), errFailing)
	require.EqualError(t, msgpack.Codec{}.Unmarshal([]byte("\xa1x"), new(panicking)), "decode MessagePack: panic: out of order")
}

func TestPayloadsThatAreRefused(t *testing.T) {
	for data, want := range map[string]string{
		"":             "decode MessagePack: the payload is empty",
		"\x01\x02\x03": "decode MessagePack: 2 bytes follow the value",
		"\x81\x90\x01": "decode MessagePack: into map[string]any: a key: ",
		"\xd4\x07\x00": "decode MessagePack: ",
	} {
		_, err := decode[any](t, data)
		require.ErrorContains(t, err, want, "%x", data)
	}
	_, err := decode[map[any]int](t, "\x81\x90\x01")
	require.ErrorContains(t, err, "a key that cannot be compared")
	_, err = decode[base](t, "\x81\x01\x01")
	require.ErrorContains(t, err, "into msgpack_test.base")
	_, err = decode[error](t, "\x01")
	require.ErrorContains(t, err, "into error: an interface with methods")
	require.EqualError(t, msgpack.Codec{}.Unmarshal([]byte("\x01"), 5), "decode MessagePack: int is no pointer to decode into, or nil")
}
