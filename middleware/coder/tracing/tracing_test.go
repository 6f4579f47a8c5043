package tracing_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
)

func with(value any) *arpc.Message {
	m := codertest.Message(codertest.Frame([]byte("payload")))
	m.Set("key", value)
	return m
}

// The trailer is that of the protocol's description.
func TestForm(t *testing.T) {
	for _, value := range []any{"value", []byte("value")} {
		m := tracing.New("key").Encode(nil, with(value))
		require.Equal(t, "payloadkeyvalue\x00\x0a", string(m.Data()))
		require.Equal(t, byte(1), m.Buffer[4])
		require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())

		m, err := tracing.New("key").DecodeChecked(nil, &arpc.Message{Buffer: m.Buffer})
		require.NoError(t, err)
		require.Equal(t, codertest.Frame([]byte("payload"))[4:], m.Buffer[4:])
		require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())
		require.Equal(t, map[any]any{"key": []byte("value")}, m.Values())
	}
}

// A message without a value, or without a trailer, stays as it is.
func TestLeavesAlone(t *testing.T) {
	frame := codertest.Frame([]byte("payload"))
	coder := tracing.New("key")
	m := coder.Encode(nil, codertest.Message(frame))
	require.Equal(t, frame, m.Buffer)
	m, err := coder.DecodeChecked(nil, m)
	require.NoError(t, err)
	require.Equal(t, frame, m.Buffer)
	require.Empty(t, m.Values())
	short := &arpc.Message{Buffer: []byte{1, 2, 3, 4, 5}}
	short.Set("key", "value")
	require.Equal(t, 5, coder.Encode(nil, short).Len())
	require.Equal(t, 5, coder.Decode(nil, short).Len())
}

func TestRefusesToEncode(t *testing.T) {
	marked := with("value")
	marked.Buffer[4] = 1
	for name, c := range map[string]struct {
		m    *arpc.Message
		says string
		code arpc.Code
	}{
		"a number":            {with(5), "it is a int, not []byte or string", arpc.CodeInvalidArgument},
		"too long":            {with(strings.Repeat("x", math.MaxUint16-4)), "a trailer of 65536 bytes is over the limit of 65535", arpc.CodeInvalidArgument},
		"a trailer there yet": {marked, "bit 0 of the reserved byte is set already", arpc.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tracing.New("key").EncodeChecked(nil, c.m)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, c.code, arpc.CodeOf(err))
			require.Nil(t, tracing.New("key").Encode(nil, c.m))
		})
	}
	require.NotNil(t, tracing.New("key").Encode(nil, with(strings.Repeat("x", math.MaxUint16-5))))
}

func TestRefusesToDecode(t *testing.T) {
	for name, c := range map[string]struct{ data, says string }{
		"no length":           {"", "it says to be"},
		"shorter than itself": {"payloadkeyvalue\x00\x01", "it says to be 1 bytes"},
		"shorter than a key":  {"payloadkeyvalue\x00\x04", "it says to be 4 bytes"},
		"longer than all":     {"payloadkeyvalue\xff\xff", "it says to be 65535 bytes"},
		"of another key":      {"payloadkayvalue\x00\x0a", `its key is not "key"`},
	} {
		t.Run(name, func(t *testing.T) {
			frame := codertest.Rewritten(0, []byte(c.data))
			m, err := tracing.New("key").DecodeChecked(nil, codertest.Message(frame))
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "tracing: ")
			require.Equal(t, frame, m.Buffer)
			require.Nil(t, tracing.New("key").Decode(nil, codertest.Message(frame)))
		})
	}
	header := make([]byte, arpc.HeadLen+1)
	header[4] = 1
	_, err := tracing.New("key").DecodeChecked(nil, &arpc.Message{Buffer: header})
	require.ErrorContains(t, err, "unexpected EOF")
}

type span struct{ Trace, Parent string }

func TestOwnForm(t *testing.T) {
	coder := tracing.New("span", tracing.WithEncoder(json.Marshal), tracing.WithDecoder(func(b []byte) (any, error) {
		var s span
		err := json.Unmarshal(b, &s)
		return s, err
	}))
	m := codertest.Message(codertest.Frame(nil))
	m.Set("span", span{"t", "p"})
	m, err := coder.DecodeChecked(nil, &arpc.Message{Buffer: coder.Encode(nil, m).Buffer})
	require.NoError(t, err)
	require.Equal(t, map[any]any{"span": span{"t", "p"}}, m.Values())

	m.Set("span", make(chan int))
	_, err = coder.EncodeChecked(nil, m)
	require.ErrorContains(t, err, `tracing: the value of "span": json: `)
	_, err = coder.DecodeChecked(nil, codertest.Message(codertest.Rewritten(0, []byte("span{\x00\x07"))))
	require.ErrorContains(t, err, `tracing: the value of "span": unexpected end of JSON input`)
	var syntax *json.SyntaxError
	require.True(t, errors.As(err, &syntax))
}

// Two trailers need two bits; a message may have one of them.
func TestTwoTrailers(t *testing.T) {
	a, b := tracing.New("a"), tracing.New("b", tracing.WithBit(3))
	for _, values := range []map[any]any{{}, {"a": []byte("1")}, {"b": []byte("2")}, {"a": []byte("1"), "b": []byte("2")}} {
		m := codertest.Message(codertest.Frame([]byte("payload")))
		for k, v := range values {
			m.Set(k, v)
		}
		m = &arpc.Message{Buffer: b.Encode(nil, a.Encode(nil, m)).Buffer}
		m = a.Decode(nil, b.Decode(nil, m))
		require.Equal(t, "payload", string(m.Data()))
		require.Len(t, m.Values(), len(values))
		for k, v := range values {
			got, _ := m.Get(k)
			require.Equal(t, v, got)
		}
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	require.Panics(t, func() { tracing.New("") })
	require.Panics(t, func() { tracing.New(strings.Repeat("x", math.MaxUint16-1)) })
	require.Panics(t, func() { tracing.New("key", tracing.WithBit(4)) })
	require.Panics(t, func() { tracing.New("key", tracing.WithBit(-1)) })
	require.NotPanics(t, func() { tracing.New(strings.Repeat("x", math.MaxUint16-2)) })
}

// FuzzDecode decodes what a hostile peer may send, and compares it with the rule: the
// last two bytes say how long the trailer is.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("payloadkeyvalue\x00\x0a"))
	f.Add([]byte("key\x00\x05"))
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame := codertest.Rewritten(0, data)
		m, err := tracing.New("key").DecodeChecked(nil, codertest.Message(frame))
		body := frame[arpc.HeadLen:]
		want, value, ok := bytes.Cut(body[max(0, len(body)-int(binary.BigEndian.Uint16(body[len(body)-2:]))):], []byte("key"))
		ok = ok && len(want) == 0 && len(value) >= 2 && int(binary.BigEndian.Uint16(body[len(body)-2:])) <= len(body)
		require.Equal(t, ok, err == nil, "we say %v", err)
		if ok {
			got, _ := m.Get("key")
			require.True(t, bytes.Equal(value[:len(value)-2], got.([]byte)))
			require.Equal(t, len(frame)-len(value)-3, m.Len())
		}
	})
}
