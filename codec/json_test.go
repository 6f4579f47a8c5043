package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec"
)

// both runs the test with each of the JSON codecs: what it shows is true of
// both.
func both(t *testing.T, test func(t *testing.T, c codec.Codec)) {
	for name, c := range map[string]codec.Codec{"JSON": codec.JSON{}, "StdJSON": codec.StdJSON{}} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

type (
	color string

	base struct {
		ID      int64 `json:"id"`
		Created time.Time
	}

	part struct {
		Name  string   `json:"name"`
		Count uint32   `json:"count,omitempty"`
		Price *float64 `json:"price"`
	}

	// order is a type that json-iterator handles in both directions.
	order struct {
		base
		Color   color             `json:"color"`
		Paid    bool              `json:"paid,omitempty"`
		Weight  float32           `json:"weight"`
		Raw     []byte            `json:"raw"`
		Tags    []string          `json:"tags"`
		Notes   map[string]string `json:"notes"`
		Parts   []part            `json:"parts"`
		ByName  map[color]*part   `json:"byName,omitempty"`
		Next    *time.Time        `json:"next"`
		Small   int8
		Timeout time.Duration `json:"timeout"`
		Secret  string        `json:"-"`
	}

	tree struct {
		Value int
		Left  *tree `json:",omitempty"`
		Right *tree `json:",omitempty"`
	}

	celsius float64
)

func (c celsius) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%.1f°C", float64(c)), nil }

func (c *celsius) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%f°C", (*float64)(c))
	return err
}

func sampleOrder() order {
	price := 0.1
	next := time.Date(2031, 7, 1, 12, 0, 0, 5, time.UTC)
	return order{
		base:    base{ID: 1 << 62, Created: next},
		Color:   "dark <blue> & \"red\" \u2028 日本 \x01",
		Paid:    true,
		Weight:  0.1,
		Raw:     []byte{0, 1, 0xff},
		Tags:    []string{"", "a\\b"},
		Notes:   map[string]string{"k": "v", "": "empty"},
		Parts:   []part{{Name: "x", Price: &price}, {Count: math.MaxUint32}},
		ByName:  map[color]*part{"red": {Name: "y"}, "none": nil},
		Next:    &next,
		Small:   -128,
		Timeout: time.Minute,
	}
}

func roundTrip[T any](t *testing.T, c codec.Codec, v T) T {
	t.Helper()
	data, err := c.Marshal(v)
	require.NoError(t, err)
	require.True(t, json.Valid(data), "%s", data)
	var got T
	require.NoError(t, c.Unmarshal(data, &got), "%s", data)
	return got
}

func TestRoundTrip(t *testing.T) {
	both(t, func(t *testing.T, c codec.Codec) {
		requireSame(t, c, sampleOrder())
		requireSame(t, c, order{})
		requireSame(t, c, []order{sampleOrder(), {}})
		requireSame(t, c, map[string]*part{"a": {Name: "b"}})
		requireSame(t, c, struct{ P *part }{&part{Name: "only a pointer"}})
		requireSame(t, c, struct{ M map[string]int }{map[string]int{"only a map": 1}})
		requireSame(t, c, tree{Value: 1, Left: &tree{Value: 2}})
		requireSame(t, c, map[string]celsius{"today": 21.5})
		requireSame(t, c, map[int]string{-1: "x"})
		requireSame(t, c, [2][3]int{{1, 2, 3}, {4, 5, 6}})
		requireSame(t, c, json.RawMessage(`{"a":[1,null]}`))
		requireSame(t, c, json.Number("12345678901234567890.5"))
		requireSame[any](t, c, map[string]any{"a": []any{1.5, "x", nil, true}, "b": map[string]any{}})
		requireSame[any](t, c, nil)
		requireSame(t, c, "text")
		requireSame(t, c, []byte("bytes"))
		requireSame(t, c, struct{}{})
		requireSame(t, c, uint64(math.MaxUint64))
		requireSame(t, c, int64(math.MinInt64))
		requireSame(t, c, int32(math.MinInt32))
		requireSame(t, c, math.MaxFloat64)
		requireSame(t, c, math.SmallestNonzeroFloat64)
		requireSame(t, c, float32(math.MaxFloat32))
		requireSame(t, c, 0.1+0.2)
	})
}

func requireSame[T any](t *testing.T, c codec.Codec, v T) {
	t.Helper()
	require.Equal(t, v, roundTrip(t, c, v))

	viaPointer, err := c.Marshal(&v)
	require.NoError(t, err)
	var got T
	require.NoError(t, json.Unmarshal(viaPointer, &got))
	require.Equal(t, v, got)
}

// Each of these values comes out wrong, and without an error, when json-iterator
// encodes it.
func TestMarshalWhereJSONIteratorLosesData(t *testing.T) {
	type inner struct {
		Label string `json:"Name"`
	}
	type shadowed struct {
		Name string
		inner
	}
	type omitZero struct {
		At time.Time `json:"at,omitzero"`
	}
	type quoted struct {
		N *int `json:"n,string"`
	}
	for name, test := range map[string]struct {
		v    any
		want string
	}{
		"two fields of one name": {shadowed{"outer", inner{"inner"}}, `{"Name":"outer"}`},
		"omitzero":               {omitZero{}, `{}`},
		"quoted null":            {quoted{}, `{"n":null}`},
		"not UTF-8":              {"a\xffb", `"a\ufffdb"`},
		"key that is a text":     {map[celsius]int{1.5: 1}, `{"1.5°C":1}`},
		"name that is no name":   {struct{ ä, Ä int }{1, 2}, `{"Ä":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := codec.JSON{}.Marshal(test.v)
			require.NoError(t, err)
			require.JSONEq(t, test.want, string(got))
		})
	}
}

func TestMarshalErrors(t *testing.T) {
	cyclic := &tree{}
	cyclic.Left = cyclic
	loop := map[string]any{}
	loop["self"] = loop

	both(t, func(t *testing.T, c codec.Codec) {
		for name, v := range map[string]any{
			"channel":               make(chan int),
			"channel in a struct":   struct{ C chan int }{},
			"function":              func() {},
			"function in any":       []any{func() {}},
			"complex":               1i,
			"key of any type":       map[any]int{1: 1},
			"NaN":                   math.NaN(),
			"infinity in a struct":  struct{ F float64 }{math.Inf(1)},
			"NaN of 32 bits":        []float32{float32(math.NaN())},
			"cyclic pointers":       cyclic,
			"cyclic map":            loop,
			"malformed RawMessage":  json.RawMessage("{bad"),
			"RawMessage of two":     map[string]any{"a": json.RawMessage("1 2")},
			"malformed Number":      json.Number("zz"),
			"marshaler of nonsense": nonsense{},
			"marshaler of an error": failing{},
			"marshaler that panics": panicking{},
			"time of year 10000":    struct{ T time.Time }{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			t.Run(name, func(t *testing.T) {
				data, err := c.Marshal(v)
				require.ErrorContains(t, err, "encode JSON: ")
				require.Nil(t, data)
			})
		}
		_, err := c.Marshal([]any{failing{}})
		require.ErrorIs(t, err, errFailing)
		var unsupported *json.UnsupportedValueError
		_, err = c.Marshal(math.NaN())
		require.ErrorAs(t, err, &unsupported)
	})
}

var errFailing = errors.New("this one fails")

type (
	nonsense  struct{}
	failing   struct{}
	panicking struct{}
)

func (nonsense) MarshalJSON() ([]byte, error) { return []byte("{]"), nil }
func (failing) MarshalJSON() ([]byte, error)  { return nil, errFailing }
func (failing) UnmarshalJSON([]byte) error    { return errFailing }
func (panicking) MarshalJSON() ([]byte, error) {
	panic("out of order")
}
func (*panicking) UnmarshalJSON([]byte) error { panic("out of order") }

// Each of these comes out wrong, and without an error, when json-iterator
// decodes it.
func TestUnmarshalWhereJSONIteratorLosesData(t *testing.T) {
	rejected := map[string]struct {
		data string
		v    any
	}{
		"int32 overflow":           {`{"N":5000000000}`, new(struct{ N int32 })},
		"int32 overflow, negative": {`[-5000000000]`, new([]int32)},
		"uint32 overflow":          {`5000000000`, new(uint32)},
		"int64 overflow":           {`{"a":21000000000000000000}`, new(map[string]int64)},
		"int64 overflow at the end": {
			`{"a":` + strings.Repeat(" ", 19) + `-21000000000000000000}`, new(map[string]int64)},
		"uint64 overflow":         {`50000000000000000000`, new(uint64)},
		"null as a number's name": {`{"null":1}`, new(map[int]int)},
		"text as a number":        {`"abc"`, new(json.Number)},
		"zero and garbage":        {"1\x00garbage", new(int)},
		"text of a null":          {`{"today":5}`, new(map[string]celsius)},
	}
	both(t, func(t *testing.T, c codec.Codec) {
		for name, test := range rejected {
			t.Run(name, func(t *testing.T) {
				require.ErrorContains(t, c.Unmarshal([]byte(test.data), test.v), "decode JSON: ")
			})
		}
	})

	both(t, func(t *testing.T, c codec.Codec) {
		preset := part{Name: "kept"}
		require.NoError(t, c.Unmarshal([]byte(`{"name":null,"count":1}`), &preset))
		require.Equal(t, part{Name: "kept", Count: 1}, preset)

		payload := &part{}
		envelope := struct{ Data any }{payload}
		require.NoError(t, c.Unmarshal([]byte(`{"Data":{"name":"x"}}`), &envelope))
		require.Equal(t, part{Name: "x"}, *payload)

		var number int32
		target := any(&number)
		require.Error(t, c.Unmarshal([]byte(`5000000000`), &target))

		array := [3]int{1, 2, 3}
		require.NoError(t, c.Unmarshal([]byte(`[4]`), &array))
		require.Equal(t, [3]int{4}, array)

		var s string
		require.NoError(t, c.Unmarshal([]byte(`"\ud800\ud83d\ude00"`), &s))
		require.Equal(t, "\ufffd😀", s)
		require.NoError(t, c.Unmarshal([]byte("\"a\xffb\""), &s))
		require.Equal(t, "a\ufffdb", s)

		var big struct{ N int }
		require.NoError(t, c.Unmarshal([]byte(`{"other":1e999,"N":1}`), &big))
		require.Equal(t, 1, big.N)

		twice := struct{ A string }{}
		require.NoError(t, c.Unmarshal([]byte(`{"A":"x","A":null}`), &twice))
		require.Equal(t, "x", twice.A)

		var kelvin struct{ Kind, Small, List string }
		require.NoError(t, c.Unmarshal([]byte("{\"\u212aind\":\"k\",\"\u017fmall\":\"s\",\"li\\u017ft\":\"l\"}"), &kelvin))
		require.Equal(t, struct{ Kind, Small, List string }{"k", "s", "l"}, kelvin)

		var folded struct{ Änderung, Größe string }
		require.NoError(t, c.Unmarshal([]byte(`{"Änderung":"a","größe":"b"}`), &folded))
		require.Equal(t, "a", folded.Änderung)
		require.Equal(t, "b", folded.Größe)
	})
}

func TestUnmarshalRejects(t *testing.T) {
	both(t, func(t *testing.T, c codec.Codec) {
		for _, target := range []func() any{
			func() any { return new(any) },
			func() any { return new(map[string]any) },
			func() any { return new(map[string]int) },
			func() any { return new(struct{ A int }) },
			func() any { return new(*struct{ A *int }) },
			func() any { return new(map[string]json.RawMessage) },
			func() any { return new(struct{}) },
		} {
			require.EqualError(t, c.Unmarshal(nil, target()), "decode JSON: the payload is empty")
			require.EqualError(t, c.Unmarshal([]byte{}, target()), "decode JSON: the payload is empty")
			for _, bad := range []string{
				` `, "\n", `{"a":1} x`, `{"a":1}{"a":1}`, `{"a":1},`, `{"a":1}]`, "{\"a\":1}\x00", `{"a":1`, `{"a":`, `{"a"`, `{"`, `{`,
				`{"a":1,}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `nul`, `n`, `nulll`, `}`, `,`, "\x00", "\xef\xbb\xbf{}", `{"a":01}`, `{"a":1.}`, `{"a":-}`,
			} {
				require.ErrorContains(t, c.Unmarshal([]byte(bad), target()), "decode JSON: ", "%q into %T", bad, target())
			}
			for _, good := range []string{"{\"a\":1} \t\r\n", " {}", `null`} {
				require.NoError(t, c.Unmarshal([]byte(good), target()), "%q into %T", good, target())
			}
		}
	})
}

func TestUnmarshalErrors(t *testing.T) {
	both(t, func(t *testing.T, c codec.Codec) {
		var wrongType *json.UnmarshalTypeError
		err := c.Unmarshal([]byte(`{"name":"secret","count":"secret"}`), new(part))
		require.ErrorAs(t, err, &wrongType)
		require.Equal(t, "count", wrongType.Field)
		require.NotContains(t, err.Error(), "secret")

		var syntax *json.SyntaxError
		require.ErrorAs(t, c.Unmarshal([]byte(`{"name":`), new(part)), &syntax)

		var invalid *json.InvalidUnmarshalError
		for _, target := range []any{nil, part{}, (*part)(nil), (*any)(nil), (*chan int)(nil)} {
			require.ErrorAs(t, c.Unmarshal([]byte(`{}`), target), &invalid)
			require.ErrorAs(t, c.Unmarshal([]byte(`null`), target), &invalid)
		}
		require.ErrorIs(t, c.Unmarshal([]byte(`[1]`), &[]failing{}), errFailing)
		require.ErrorContains(t, c.Unmarshal([]byte(`[1]`), &[]panicking{}), "decode JSON: panic: out of order")
		require.Error(t, c.Unmarshal([]byte(`{}`), new(chan int)))
		require.Error(t, c.Unmarshal([]byte(`{}`), new(fmt.Stringer)))
	})
}

// A payload of a megabyte that nests as deep as it can is an error, whether it
// is read or skipped.
func TestUnmarshalDepthBomb(t *testing.T) {
	type list []list
	type dict map[string]dict
	const size = 1 << 20
	arrays := bytes.Repeat([]byte("["), size)
	objects := bytes.Repeat([]byte(`{"a":`), size/5)

	both(t, func(t *testing.T, c codec.Codec) {
		for name, target := range map[string]any{
			"any": new(any), "list": new(list), "dict": new(dict), "tree": new(tree), "raw": new(json.RawMessage),
			"map": new(map[string]any), "strings": new([]string), "struct": new(part), "unmarshaler": new(failing), "time": new(time.Time),
		} {
			t.Run(name, func(t *testing.T) {
				for _, bomb := range [][]byte{arrays, objects} {
					require.Error(t, c.Unmarshal(bomb, target))
					require.Error(t, c.Unmarshal(append([]byte(`{"skipped":`), bomb...), target))
					require.Error(t, c.Unmarshal(append([]byte(`{"Left":`), bomb...), target))
				}
			})
		}
		closed := append(bytes.Repeat([]byte("["), 10_001), bytes.Repeat([]byte("]"), 10_001)...)
		require.Error(t, c.Unmarshal(closed, new(any)))
		require.NoError(t, c.Unmarshal(closed[1:len(closed)-1], new(any)))
	})
}

// encoding/json ends the process on such a list.
func TestMarshalDepthBomb(t *testing.T) {
	list := &tree{}
	for range 10_000_000 {
		list = &tree{Left: list}
	}
	_, err := codec.JSON{}.Marshal(list)
	require.EqualError(t, err, "encode JSON: *codec_test.tree is cyclic, or nests deeper than the limit of 10000")
	_, err = codec.JSON{}.MarshalAppend(nil, []any{list})
	require.ErrorContains(t, err, "nests deeper than the limit of 10000")
}

// Whatever was decoded stays as it is when the payload's buffer is used again.
func TestUnmarshalKeepsNothing(t *testing.T) {
	type all struct {
		S       string            `json:"s"`
		Escaped string            `json:"escaped"`
		B       []byte            `json:"b"`
		L       []string          `json:"l"`
		M       map[string]string `json:"m"`
		P       *string           `json:"p"`
		C       color             `json:"c"`
	}
	const doc = `{"s":"plain","escaped":"a\nb\u0041","b":"aGVsbG8=","l":["x","y"],"m":{"key":"value"},"p":"pointed","c":"red"}`
	both(t, func(t *testing.T, c codec.Codec) {
		for name, target := range map[string]func() any{
			"struct":      func() any { return new(all) },
			"any":         func() any { return new(any) },
			"map":         func() any { return new(map[string]any) },
			"raw":         func() any { return new(json.RawMessage) },
			"raw in map":  func() any { return new(map[string]json.RawMessage) },
			"raw in list": func() any { return new(struct{ L []json.RawMessage }) },
			"number":      func() any { return new(struct{ N, S json.Number }) },
		} {
			t.Run(name, func(t *testing.T) {
				text := doc
				if name == "number" {
					text = `{"N":1.25e10,"S":"3"}`
				}
				data := []byte(text)
				got, want := target(), target()
				require.NoError(t, c.Unmarshal(data, got))
				for i := range data {
					data[i] = '#'
				}
				require.NoError(t, json.Unmarshal([]byte(text), want))
				require.Equal(t, want, got)
			})
		}
	})
}

// What Marshal returned stays as it is when Marshal is called again.
func TestMarshalGivesBytesAway(t *testing.T) {
	both(t, func(t *testing.T, c codec.Codec) {
		for _, size := range []int{1, 100, 1 << 20} {
			v := part{Name: strings.Repeat("x", size)}
			first, err := c.Marshal(v)
			require.NoError(t, err)
			kept := bytes.Clone(first)
			second, err := c.Marshal(part{Name: strings.Repeat("y", size)})
			require.NoError(t, err)
			require.Equal(t, kept, first)
			_ = append(first, "tail"...)
			for i := range first {
				first[i] = '#'
			}
			var got part
			require.NoError(t, c.Unmarshal(second, &got))
			require.Equal(t, strings.Repeat("y", size), got.Name)
		}
	})
}

func TestHTMLIsEscapedByStdJSONOnly(t *testing.T) {
	for _, v := range []any{"<a&b>", []any{"<a&b>"}} {
		data, err := codec.JSON{}.Marshal(v)
		require.NoError(t, err)
		require.Contains(t, string(data), `"<a&b>"`)
		require.NotContains(t, string(data), "\n")

		data, err = codec.StdJSON{}.Marshal(v)
		require.NoError(t, err)
		require.Contains(t, string(data), `"\u003ca\u0026b\u003e"`)
	}
}

// These malformed payloads are the only ones that JSON is known to accept.
func TestMalformedPayloadsAccepted(t *testing.T) {
	for data, want := range map[string]part{
		"{\"name\":\"\\t\x01\"}":       {Name: "\t\x01"},
		`{"price":+1}`:                 {Price: new(1.0)},
		`{"skipped":-01,"name":"x"}`:   {Name: "x"},
		`{"skipped":{"":1,null:2}}`:    {},
		"{\"skipped\":\"\\t\x01\"}":    {},
		"{\"na\x01me\":1}":             {},
		`{"price":-+1,"name":"signs"}`: {Name: "signs", Price: new(-1.0)},
	} {
		var got part
		require.NoError(t, codec.JSON{}.Unmarshal([]byte(data), &got), data)
		require.Equal(t, want, got)
		require.Error(t, codec.StdJSON{}.Unmarshal([]byte(data), &got), data)
	}
}

func TestConcurrentUse(t *testing.T) {
	both(t, func(t *testing.T, c codec.Codec) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 200 {
					want := part{Name: fmt.Sprint(i, " ", j), Count: uint32(j)}
					data, err := c.Marshal(want)
					if err != nil {
						t.Error(err)
						return
					}
					var got part
					if err := c.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
						t.Errorf("got %v, %v, want %v", got, err, want)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
