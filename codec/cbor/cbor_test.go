package cbor_test

import (
	"errors"
	"math"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec/cbor"
)

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := cbor.Codec{}.Marshal(v)
	require.NoError(t, err)
	return data
}

func decode[T any](t *testing.T, data string) (T, error) {
	t.Helper()
	var v T
	err := cbor.Codec{}.Unmarshal([]byte(data), &v)
	return v, err
}

func TestDeterministicConforms(t *testing.T) {
	arpctest.Codec(t, cbor.New(cbor.WithDeterministic()), spec())
}

func TestDeterministicSortsKeys(t *testing.T) {
	m := make(map[string]int)
	for i := range 100 {
		m[string(rune('a'+i))] = i
	}
	c := cbor.New(cbor.WithDeterministic())
	first, err := c.Marshal(m)
	require.NoError(t, err)
	for range 10 {
		again, err := c.MarshalAppend(nil, m)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
	short, err := c.Marshal([]float64{1.5, math.Pi, math.Inf(1)})
	require.NoError(t, err)
	require.Equal(t, "\x83\xf9\x3e\x00\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18\xf9\x7c\x00", string(short))
}

func TestOptionsThatMakeNoSensePanic(t *testing.T) {
	require.PanicsWithValue(t, "cbor: WithMaxDepth: must be 4 to 65535: 3", func() { cbor.New(cbor.WithMaxDepth(3)) })
	require.PanicsWithValue(t, "cbor: WithMaxElements: must be 16 to 2147483647: 0", func() { cbor.New(cbor.WithMaxElements(0)) })
	require.Equal(t, "cbor", cbor.Codec{}.Name())
}

func TestLimitsNameTheirSettings(t *testing.T) {
	c := cbor.New(cbor.WithMaxDepth(4), cbor.WithMaxElements(16))
	var v any
	require.NoError(t, c.Unmarshal([]byte("\x81\x81\x81\x80"), &v))
	require.EqualError(t, c.Unmarshal([]byte("\x81\x81\x81\x81\x80"), &v), "decode CBOR: cbor: exceeded max nested level 4 (WithMaxDepth)")
	require.EqualError(t, c.Unmarshal(encode(t, make([]int, 17)), &v),
		"decode CBOR: cbor: exceeded max number of elements 16 for CBOR array (WithMaxElements)")
	pairs := make(map[int]int)
	for i := range 17 {
		pairs[i] = i
	}
	require.EqualError(t, c.Unmarshal(encode(t, pairs), &pairs),
		"decode CBOR: cbor: exceeded max number of key-value pairs 16 for CBOR map (WithMaxElements)")

	_, err := c.Marshal([]any{[]any{[]any{[]any{1}}}})
	require.NoError(t, err)
	_, err = c.Marshal([]any{[]any{[]any{[]any{[]any{}}}}})
	require.ErrorContains(t, err, "nests deeper than the limit of 4 (WithMaxDepth)")
}

func TestIntegersInInterfaces(t *testing.T) {
	large := new(big.Int).Lsh(big.NewInt(1), 100)
	var got []any
	require.NoError(t, cbor.Codec{}.Unmarshal(encode(t, []any{1, -1, uint64(math.MaxUint64), large}), &got))
	require.Equal(t, []any{int64(1), int64(-1), new(big.Int).SetUint64(math.MaxUint64), large}, got)
}

func TestNumbersThatDoNotFitAreErrors(t *testing.T) {
	_, err := decode[int8](t, string(encode(t, 300)))
	require.ErrorContains(t, err, "cannot unmarshal")
	_, err = decode[uint](t, string(encode(t, -1)))
	require.ErrorContains(t, err, "cannot unmarshal")
	_, err = decode[int64](t, string(encode(t, uint64(math.MaxUint64))))
	require.ErrorContains(t, err, "cannot unmarshal")
	_, err = decode[float32](t, string(encode(t, 1e300)))
	require.ErrorContains(t, err, "cannot unmarshal")
	_, err = decode[int](t, string(encode(t, 1.5)))
	require.ErrorContains(t, err, "cannot unmarshal")
}

// A zone is not kept, the instant is: also with an offset that RFC 3339 cannot
// write.
func TestTimesAreInstants(t *testing.T) {
	at := time.Date(1920, 1, 2, 3, 4, 5, 6, time.FixedZone("Amsterdam", 19*60+32))
	got, err := decode[time.Time](t, string(encode(t, at)))
	require.NoError(t, err)
	require.True(t, at.Equal(got))
	require.Equal(t, time.UTC, got.Location())

	beyond := time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	data, err := cbor.Codec{}.Marshal(beyond)
	if err == nil {
		err = cbor.Codec{}.Unmarshal(data, &beyond)
	}
	require.Error(t, err)
}

func TestTypesWithMethods(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8::1")
	got, err := decode[netip.Addr](t, string(encode(t, addr)))
	require.NoError(t, err)
	require.Equal(t, addr, got)
	require.Equal(t, 17, len(encode(t, addr)), "bytes, not text")
}

// As encoding/json has it.
func TestRulesOfJSON(t *testing.T) {
	type fields struct {
		Name  string
		Array [2]int
	}
	got, err := decode[fields](t, string(encode(t, map[string]any{"NAME": "any case", "unknown": 1, "Array": []int{1, 2, 3}})))
	require.NoError(t, err)
	require.Equal(t, fields{"any case", [2]int{1, 2}}, got)

	type twice struct {
		A int `cbor:"x"`
		B int `json:"x"`
	}
	require.Equal(t, []byte{0xa0}, encode(t, twice{1, 2}))
}

// These types would come out empty.
func TestStructsWithoutExportedFieldsAreRefused(t *testing.T) {
	type hidden struct{ a int }
	_, err := cbor.Codec{}.Marshal(map[string]any{"h": []hidden{{1}}})
	require.ErrorContains(t, err, "cbor_test.hidden has no exported fields")
}

func TestPayloadsThatAreRefused(t *testing.T) {
	for data, want := range map[string]string{
		"":                       "decode CBOR: the payload is empty",
		"\x01\x02":               "decode CBOR: ",
		"\xa2\x61a\x01\x61a\x02": "decode CBOR: cbor: found duplicate map key",
		"\x9f\x01\xff":           "decode CBOR: cbor: indefinite-length",
		"\x62\xff\xff":           "decode CBOR: cbor: invalid UTF-8 string",
		"\xa1\x01\x02":           "decode CBOR: ",
	} {
		_, err := decode[any](t, data)
		require.ErrorContains(t, err, want, "%x", data)
	}
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
	_, err := cbor.Codec{}.Marshal([]failing{{}})
	require.ErrorIs(t, err, errFailing)
	_, err = cbor.Codec{}.Marshal(&panicking{})
	require.EqualError(t, err, "encode CBOR: panic: out of order")
	require.ErrorIs(t, cbor.Codec{}.Unmarshal([]byte("\x41x"), new(failing)), errFailing)
	require.EqualError(t, cbor.Codec{}.Unmarshal([]byte("\x61x"), new(panicking)), "decode CBOR: panic: out of order")
}
