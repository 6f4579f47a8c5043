package codec_test

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec"
)

// record has every kind of field that json-iterator may handle.
type record struct {
	order
	Nested  *struct{ A, B *int16 } `json:"nested"`
	Bytes   map[string][]byte
	Matrix  [][]float64
	Ints    []int
	U8      uint8
	I32     int32
	U32     uint32
	U64     uint64
	U       uint
	Empty   struct{}
	Strings map[string][]string `json:",omitempty"`
}

// envelope holds interfaces, into which decoding is a matter of their content.
type envelope struct {
	Kind string
	Data any
	List []any
}

// FuzzJSONAgainstStd decodes two payloads, one after the other, into the same
// value with JSON and with encoding/json, then encodes the result. JSON must
// accept what encoding/json accepts, with the same result, and beyond that
// nothing but malformed payloads.
func FuzzJSONAgainstStd(f *testing.F) {
	sample, err := json.Marshal(record{order: sampleOrder(), Matrix: [][]float64{{0.1, 1e-7}, nil, {}}})
	require.NoError(f, err)
	for _, seed := range []string{
		string(sample),
		`{"Kind":"x","Data":{"a":[1,2.5,-1e9,null,true,"\ud83d\ude00\u00e9\n"]},"List":[[],{}]}`,
		`{"I32":5000000000,"U64":18446744073709551615,"id":9223372036854775808}`,
		`{"kind":null,"KIND":"y","Matrix":[[1],[]],"nested":{"A":-32768},"Bytes":{"x":"AAEC","y":[1,2]}}`,
		"{\"\u212aind\":\"x\",\"li\u017ft\":[1]}", `{"\u212aind":"x","kind":null,"Ind":"y","Kind":"z","Li\u017Ft":[1]}`, `[1,2,3]`, `"text"`, ` null `, "{}\x00", `{"a":1} x`, `1e400`, `-0`, `{"next":"2031-07-01T12:00:00Z"}`,
		"\"\xff\"", `{"raw":"A\/+="}`, `{"parts":[{"price":1e5,"count":4294967295},null]}`,
	} {
		f.Add([]byte(seed), []byte(seed))
		f.Add([]byte(seed), sample)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		against[any](t, first, second)
		against[record](t, first, second)
		against[envelope](t, first, second)
		against[[]part](t, first, second)
		against[map[color]*part](t, first, second)
		against[tree](t, first, second)
	})
}

func against[T any](t *testing.T, payloads ...[]byte) {
	t.Helper()
	var got, want T
	for _, data := range payloads {
		given := bytes.Clone(data)
		gotErr := codec.JSON{}.Unmarshal(given, &got)
		require.Equal(t, data, given, "Unmarshal changed the payload")
		for i := range given {
			given[i] = '#'
		}
		if err := json.Unmarshal(data, &want); err != nil {
			require.False(t, gotErr == nil && json.Valid(data), "got %+v, want %v for %q", got, err, data)
			return
		}
		require.NoError(t, gotErr, "%q", data)
		requireAlike(t, want, got, data)
	}

	encoded, err := codec.JSON{}.Marshal(&want)
	require.NoError(t, err)
	standard, err := json.Marshal(&want)
	require.NoError(t, err)
	require.JSONEq(t, string(standard), string(encoded))
	appended, err := codec.JSON{}.MarshalAppend([]byte("["), &want)
	require.NoError(t, err)
	require.JSONEq(t, "["+string(standard)+"]", string(appended)+"]")
	var back, standardBack T
	require.NoError(t, codec.JSON{}.Unmarshal(encoded, &back))
	require.NoError(t, json.Unmarshal(standard, &standardBack))
	require.Equal(t, standardBack, back)
}

// requireAlike forgives what JSON documents for float32.
func requireAlike(t *testing.T, want, got any, data []byte) {
	t.Helper()
	w, isRecord := want.(record)
	if g, ok := got.(record); ok && isRecord && closeBy(w.Weight, g.Weight) {
		g.Weight = w.Weight
		got = g
	}
	require.Equal(t, want, got, "%q", data)
}

func closeBy(a, b float32) bool {
	return math.Nextafter32(a, b) == b
}
