package cbor_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/cbor"
)

type record struct {
	ID      int32             `cbor:"id"`
	Name    string            `json:"name"`
	Raw     []byte            `cbor:"raw,omitempty"`
	Tags    []string          `cbor:"tags"`
	Notes   map[string]uint8  `cbor:"notes"`
	Ints    map[int16]*record `cbor:"ints"`
	At      time.Time         `cbor:"at"`
	Big     *big.Int          `cbor:"big"`
	Score   float32           `cbor:"score"`
	Array   [3]int8           `cbor:"array"`
	Any     any               `cbor:"any"`
	Numbers []float64         `cbor:"numbers"`
}

// seeds are what encoders do not write, or rarely.
var seeds = []string{
	"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "\xf9\x00\x01", "\xf9\xfc\x00", "\xfa\x7f\x80\x00\x00",
	"\x9f\x01\xff", "\x9b\x00\x00\x00\x00\x80\x00\x00\x00", "\xbf\x61a\x01\xff", "\xa2\x61a\x01\x61a\x02", "\xa1\xf6\x01", "\xa1\x41a\x01", "\xa1\x01\x02",
	"\xc1\x1a\x00\x00\x00\x01", "\xc0\x61x", "\xc2\x41\xff", "\xd8\x20\x61x", "\xe0", "\xf8\x20", "\xf8\x18", "\x62\xff\xff", "\x81\x81\x81\x81\x81\x80",
}

// FuzzCBORAgainstModel decodes into an interface what the model decodes, too, and
// encodes what came out. Into other types it looks for panics, and encodes again.
func FuzzCBORAgainstModel(f *testing.F) {
	sample, err := cbor.Codec{}.Marshal(record{
		ID: -7, Name: "näme", Raw: []byte{0, 255}, Tags: []string{"a"}, Notes: map[string]uint8{"x": 255},
		Ints: map[int16]*record{-5: nil, 5: {}}, At: time.Unix(1, 5), Big: new(big.Int).Lsh(big.NewInt(1), 70),
		Score: 0.5, Array: [3]int8{1, -2, 3}, Any: []any{nil, true, -1.5}, Numbers: []float64{1, math.Pi},
	})
	require.NoError(f, err)
	f.Add(sample)
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	const depth = 5
	c := cbor.New(cbor.WithMaxDepth(depth))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := decodeModel(data, depth)
		given := bytes.Clone(data)
		var got any
		err := c.Unmarshal(given, &got)
		require.Equal(t, data, given, "Unmarshal changed the payload")
		if !errors.Is(wantErr, errUnknown) {
			require.Equal(t, wantErr == nil, err == nil, "%x: want %v, got %v, %v", data, want, got, err)
		}
		if err != nil {
			return
		}
		for i := range given {
			given[i] = 0xff
		}
		if wantErr == nil {
			require.Equal(t, show(want), show(got), "%x", data)
		}
		requireStable(t, c, &got, new(any))
		into := new(record)
		if c.Unmarshal(data, into) == nil {
			requireStable(t, c, into, new(record))
		}
	})
}

// show prints values so that NaN equals NaN.
func show(v any) string { return fmt.Sprintf("%#v", v) }

// requireStable requires that v comes back as it is.
func requireStable[T any](t *testing.T, c cbor.Codec, v, back *T) {
	t.Helper()
	first, err := cbor.New(cbor.WithDeterministic(), cbor.WithMaxDepth(20)).Marshal(v)
	if err == nil {
		err = cbor.Codec{}.Unmarshal(first, back)
	}
	if err != nil && strings.Contains(err.Error(), "time.Time") {
		return // documented: a year beyond 9999
	}
	require.NoError(t, err, "%x", first)
	second, err := cbor.New(cbor.WithDeterministic(), cbor.WithMaxDepth(20)).Marshal(back)
	require.NoError(t, err)
	require.Equal(t, first, second)
	appended, err := c.MarshalAppend([]byte("x"), v)
	if err == nil {
		require.NoError(t, cbor.Codec{}.Unmarshal(appended[1:], new(T)))
	}
}
