package codec_test

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec"
)

type (
	label string
	blob  []byte
	octet byte

	// versioned appends itself, and could marshal itself, too.
	versioned struct{ version byte }
)

func (v versioned) AppendBinary(b []byte) ([]byte, error) {
	if v.version == 0 {
		return append(b, "half"...), errFailing
	}
	return append(b, v.version), nil
}
func (v versioned) MarshalBinary() ([]byte, error) { panic("AppendBinary is better") }
func (v *versioned) UnmarshalBinary(data []byte) error {
	if len(data) != 1 {
		return errFailing
	}
	v.version = data[0]
	return nil
}

func TestRawConforms(t *testing.T) {
	text, bytes := "text", []byte("bytes")
	arpctest.Codec(t, codec.Raw{}, arpctest.CodecSpec{
		Values: map[string]any{
			"text":             text,
			"no text":          "",
			"not UTF-8":        "a\xffb",
			"pointer to text":  &text,
			"bytes":            bytes,
			"pointer to bytes": &bytes,
			"no bytes":         []byte{},
			"nil bytes":        []byte(nil),
			"many bytes":       []byte(strings.Repeat("x", 100_000)),
			"kind of text":     label("label"),
			"kind of bytes":    blob{1, 2},
			"bytes of a kind":  []octet{1, 2},
			"JSON":             json.RawMessage(`{"a":1}`),
			"time":             time.Unix(1, 2).UTC(),
			"URL":              &url.URL{Scheme: "https", Host: "example.com", Path: "/"},
			"address":          netip.MustParseAddr("192.0.2.1"),
			"appender":         versioned{7},
			"int":              5,
			"struct":           struct{ A int }{1},
			"map":              map[string]string{"a": "b"},
			"list":             []string{"a"},
			"text only":        big.NewInt(5),
			"error":            errFailing,
		},
		Cannot:  []string{"int", "struct", "map", "list", "text only", "error"},
		Becomes: map[string]any{"nil bytes": []byte{}},
	})
}

func TestRawRefusesClearly(t *testing.T) {
	_, err := codec.Raw{}.Marshal(part{})
	require.EqualError(t, err, "encode raw: codec_test.part is neither bytes nor a string nor an encoding.BinaryMarshaler")
	err = codec.Raw{}.Unmarshal(nil, new(part))
	require.EqualError(t, err, "decode raw: *codec_test.part points neither to bytes nor to a string, and is no encoding.BinaryUnmarshaler")
	err = codec.Raw{}.Unmarshal(nil, part{})
	require.EqualError(t, err, "decode raw: codec_test.part is no pointer to decode into, or nil")
	_, err = codec.Raw{}.Marshal((*part)(nil))
	require.ErrorContains(t, err, "*codec_test.part is neither bytes nor a string")
}

func TestRawNil(t *testing.T) {
	for _, v := range []any{nil, (*string)(nil), (*[]byte)(nil), (*label)(nil), []byte(nil)} {
		data, err := codec.Raw{}.Marshal(v)
		require.NoError(t, err, "%T", v)
		require.Empty(t, data)
	}
}

func TestRawErrorsOfMethods(t *testing.T) {
	out, err := codec.Raw{}.MarshalAppend([]byte("head"), versioned{})
	require.EqualError(t, err, "encode raw codec_test.versioned: this one fails")
	require.ErrorIs(t, err, errFailing)
	require.Equal(t, "head", string(out))
	require.ErrorIs(t, codec.Raw{}.Unmarshal([]byte("xx"), new(versioned)), errFailing)

	var nobody *url.URL
	_, err = codec.Raw{}.Marshal(nobody)
	require.ErrorContains(t, err, "encode raw: panic: ")
}
