package arpctest

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

type (
	zooInts struct {
		I   int
		I8  int8
		I16 int16
		I32 int32
		I64 int64
		U   uint
		U8  uint8
		U16 uint16
		U32 uint32
		U64 uint64
		D   time.Duration
	}

	zooName string

	zooBase struct {
		ID      int64 `json:"id"`
		Created time.Time
	}

	zooMore struct{ More []string }

	zooEmbedded struct {
		zooBase
		Name zooName `json:"name"`
		zooMore
	}

	zooOmit struct {
		Name  string         `json:"name,omitempty"`
		Count int            `json:"count,omitempty"`
		Tags  []string       `json:"tags,omitempty"`
		Notes map[string]int `json:"notes,omitempty"`
		Next  *zooOmit       `json:"next,omitempty"`
		Left  string         `json:"-"`
		Kept  bool           `json:"kept"`
	}

	zooPointers struct {
		Int    *int
		Text   **string
		Struct *zooBase
		List   []*zooBase
		Map    map[string]*zooOmit
	}

	zooNil struct {
		Bytes   []byte
		Slice   []int
		Map     map[string]int
		Pointer *int
		Any     any
	}

	zooTree struct {
		Value       int
		Left, Right *zooTree
	}

	zooNest []zooNest

	zooKeys struct {
		Ints  map[int]string
		Wide  map[uint64]bool
		Names map[zooName]int
	}

	zooArrays struct {
		Ints  [3]int
		Bytes [4]byte
		None  [0]string
	}

	// zooCelsius has text methods of its own.
	zooCelsius struct{ degrees float64 }
)

// MarshalText returns the temperature with its unit.
func (c zooCelsius) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%v°C", c.degrees), nil }

// UnmarshalText reads what MarshalText returns.
func (c *zooCelsius) UnmarshalText(text []byte) error {
	_, err := fmt.Sscanf(string(text), "%f°C", &c.degrees)
	return err
}

// codecZoo returns the values that Codec tries unless it is given others.
func codecZoo() map[string]any {
	return merged(zooScalars(), zooTexts(), zooContainers(), zooStructs())
}

func merged[V any](parts ...map[string]V) map[string]V {
	all := make(map[string]V)
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}

func zooScalars() map[string]any {
	return map[string]any{
		"bool":           true,
		"int":            -5,
		"least integers": zooInts{math.MinInt, math.MinInt8, math.MinInt16, math.MinInt32, math.MinInt64, 0, 0, 0, 0, 0, math.MinInt64},
		"largest integers": zooInts{math.MaxInt, math.MaxInt8, math.MaxInt16, math.MaxInt32, math.MaxInt64,
			math.MaxUint, math.MaxUint8, math.MaxUint16, math.MaxUint32, math.MaxUint64, math.MaxInt64},
		"integers": []int64{0, 1, -1, 23, 24, -24, -25, -32, -33, 127, 128, 255, 256, 65535, 65536, 1<<31 - 1, -1 << 31, 1 << 32, 1<<53 + 1, -1<<53 - 1},
		"floats": []float64{0, 1, -1, 0.1, 0.1 + 0.2, 1e21, 1e-7, 123456789.123456789, math.MaxFloat64, -math.MaxFloat64,
			math.SmallestNonzeroFloat64, math.Pi, 1 << 53, 1<<63 - 1},
		"floats of 32 bits": []float32{0, 1, 0.1, -0.3, 16777216, math.MaxFloat32, math.SmallestNonzeroFloat32, 3.4028233e38},
		"NaN":               math.NaN(),
		"infinity":          []float64{math.Inf(1), math.Inf(-1)},
		"time":              time.Date(2031, 7, 1, 12, 30, 59, 123456789, time.UTC),
		"time with a zone":  time.Date(2031, 7, 1, 12, 30, 59, 5, time.FixedZone("somewhere", 5*3600+1800)),
		"old time":          time.Date(1901, 2, 3, 4, 5, 6, 7, time.UTC),
		"zero time":         []time.Time{{}},
		"text methods":      []zooCelsius{{21.5}, {-273.15}},
	}
}

func zooTexts() map[string]any {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return map[string]any{
		"text":          "plain",
		"texts":         []string{"", " ", `<a href="x">&</a>\`, "\x00\x01\n\r\t\x7f", "日本語", "😀", "e\u0301", "\u2028\u2029", "\ufffd\ufeff"},
		"long text":     strings.Repeat("ab日", 14_000),
		"not UTF-8":     "a\xffb",
		"bytes":         all,
		"empty bytes":   []byte{},
		"many bytes":    slices.Repeat(all, 260),
		"list of bytes": [][]byte{nil, {}, {0}, all},
	}
}

func zooContainers() map[string]any {
	return map[string]any{
		"any":           map[string]any{"text": "x", "float": 1.5, "bool": true, "nil": nil, "list": []any{"a", []any{}, map[string]any{}}, "": map[string]any{"b": false}},
		"nil in any":    []any{nil},
		"ints in any":   []any{int64(1), int64(-1), int64(1) << 60},
		"bytes in any":  []any{[]byte{1, 2}},
		"time in any":   []any{time.Date(2031, 7, 1, 12, 30, 59, 123456789, time.UTC)},
		"map":           map[string]int{"a": 1, "b": -2, "": 3, "日本": 4},
		"map of maps":   map[string]map[string][]string{"a": {"b": {"c"}}, "d": {}, "e": nil},
		"keys":          zooKeys{map[int]string{1: "a", -70000: "b"}, map[uint64]bool{math.MaxUint64: true}, map[zooName]int{"n": 1}},
		"text keys":     map[zooCelsius]int{{1.5}: 1},
		"matrix":        [][]float64{{1.5, 2.5}, {}, nil},
		"many integers": slices.Repeat([]int{1, 1000, 1_000_000}, 300),
		"arrays":        zooArrays{[3]int{1, 2, 3}, [4]byte{1, 2, 3, 4}, [0]string{}},
		"nested":        zooNest{{}, {{}, {{}}}, {{{{}}}}},
		"deep":          nest(50),
	}
}

func nest(n int) zooNest {
	v := zooNest{}
	for range n {
		v = zooNest{v}
	}
	return v
}

func zooStructs() map[string]any {
	n, text := 5, "pointed to"
	p := &text
	at := time.Date(2031, 7, 1, 0, 0, 0, 0, time.UTC)
	return map[string]any{
		"empty struct":   struct{}{},
		"nil":            zooNil{},
		"empty":          zooNil{[]byte{}, []int{}, map[string]int{}, new(int), nil},
		"embedded":       zooEmbedded{zooBase{7, at}, "name", zooMore{[]string{"a"}}},
		"omitted":        zooOmit{},
		"not omitted":    zooOmit{Name: "x", Count: 1, Tags: []string{"y"}, Notes: map[string]int{"z": 0}, Next: &zooOmit{Kept: true}},
		"pointers":       zooPointers{&n, &p, &zooBase{1, at}, []*zooBase{nil, {2, at}}, map[string]*zooOmit{"nil": nil, "one": {Name: "one"}}},
		"nil pointers":   zooPointers{},
		"tree":           zooTree{1, &zooTree{2, nil, &zooTree{3, nil, nil}}, &zooTree{Value: 4}},
		"list of trees":  []zooTree{{}, {Value: 1, Left: &zooTree{}}},
		"map of structs": map[string]zooBase{"a": {1, at}, "b": {2, at}},
	}
}

// codecEqual is reflect.DeepEqual for which NaN equals NaN, and a time equals
// another of the same instant.
func codecEqual(want, got any) bool {
	return alike(reflect.ValueOf(want), reflect.ValueOf(got))
}

func alike(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() || a.Type() != b.Type() {
		return a.IsValid() == b.IsValid() && !a.IsValid()
	}
	if a.Type() == reflect.TypeFor[time.Time]() && a.CanInterface() && b.CanInterface() {
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	}
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() == b.IsNil() && (a.IsNil() || alike(a.Elem(), b.Elem()))
	case reflect.Slice:
		return a.IsNil() == b.IsNil() && alikeElems(a, b)
	case reflect.Array:
		return alikeElems(a, b)
	case reflect.Map:
		return a.IsNil() == b.IsNil() && alikeMaps(a, b)
	case reflect.Struct:
		for i := range a.NumField() {
			if !alike(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}

func alikeElems(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !alike(a.Index(i), b.Index(i)) {
			return false
		}
	}
	return true
}

func alikeMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	for it := a.MapRange(); it.Next(); {
		if other := b.MapIndex(it.Key()); !other.IsValid() || !alike(it.Value(), other) {
			return false
		}
	}
	return true
}
