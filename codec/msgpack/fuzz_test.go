package msgpack_test

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/msgpack"
)

type record struct {
	ID      int32             `msgpack:"id"`
	Name    string            `json:"name"`
	Raw     []byte            `msg:"raw,omitempty"`
	Tags    []string          `msgpack:"tags"`
	Notes   map[string]uint8  `msgpack:"notes"`
	Ints    map[int16]*record `msgpack:"ints"`
	At      time.Time         `msgpack:"at,omitzero"`
	Addr    netip.Addr        `msgpack:"addr"`
	Score   float32           `msgpack:"score"`
	Array   [3]int8           `msgpack:"array"`
	Bytes   [2]byte           `msgpack:"bytes"`
	Any     any               `msgpack:"any"`
	Keys    map[any]bool      `msgpack:"keys"`
	Numbers []float64         `msgpack:"numbers"`
}

// seeds are what encoders do not write, or rarely.
var seeds = []string{
	"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "\xd0\x80", "\xe0", "\xca\x7f\x80\x00\x00", "\xc1",
	"\xdd\xff\xff\xff\xff", "\xdf\x80\x00\x00\x00", "\xc6\xff\xff\xff\xff", "\xdb\xff\xff\xff\xffa", "\xc9\xff\xff\xff\xff\xff", "\x81\x01\x02", "\x82\xa1a\x01\xa1a\x02",
	"\xd6\xff\x00\x00\x00\x01", "\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\xc7\x0c\xff\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff", "\xc7\x0c\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02",
	"\xd4\x03\x00", "\xd8\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\xa2\xff\xff", "\x91\x91\x91\x91\x91\x90", "\x81\xa4keys\x81\x90\xc3",
}

// FuzzMsgpackAgainstModel decodes into an interface what the model decodes, too,
// and encodes what came out. Into other types it looks for panics, and encodes
// again.
func FuzzMsgpackAgainstModel(f *testing.F) {
	sample, err := msgpack.Codec{}.Marshal(record{
		ID: -7, Name: "näme", Raw: []byte{0, 255}, Tags: []string{"a"}, Notes: map[string]uint8{"x": 255},
		Ints: map[int16]*record{-5: nil, 5: {}}, At: time.Unix(1, 5), Addr: netip.MustParseAddr("::1"),
		Score: 0.5, Array: [3]int8{1, -2, 3}, Any: []any{nil, true, -1.5}, Keys: map[any]bool{1: true}, Numbers: []float64{1, math.Pi},
	})
	require.NoError(f, err)
	f.Add(sample)
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	const depth = 5
	c := msgpack.New(msgpack.WithMaxDepth(depth))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := decodeModel(data, depth)
		given := bytes.Clone(data)
		var got any
		err := c.Unmarshal(given, &got)
		require.Equal(t, data, given, "Unmarshal changed the payload")
		require.Equal(t, wantErr == nil, err == nil, "%x: want %v, got %v, %v", data, want, got, err)
		into := new(record)
		if c.Unmarshal(data, into) == nil {
			requireStable(t, into)
		}
		if err != nil {
			return
		}
		for i := range given {
			given[i] = 0xff
		}
		require.Equal(t, show(want), show(got), "%x", data)
		requireStable(t, &got)
	})
}

// show prints values so that NaN equals NaN.
func show(v any) string { return fmt.Sprintf("%#v", v) }

// requireStable requires that v comes back as it is.
func requireStable[T any](t *testing.T, v *T) {
	t.Helper()
	data, err := msgpack.Codec{}.Marshal(v)
	require.NoError(t, err, "%+v", v)
	back := new(T)
	require.NoError(t, msgpack.Codec{}.Unmarshal(data, back), "%x", data)
	again, err := msgpack.Codec{}.MarshalAppend([]byte("x"), back)
	require.NoError(t, err)
	require.Len(t, again, len(data)+1, "%x, then %x", data, again)
	if _, hasPointers := any(v).(*record); !hasPointers {
		require.Equal(t, show(*v), show(*back))
	}
}
