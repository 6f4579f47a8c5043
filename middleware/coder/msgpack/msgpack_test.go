package msgpack_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
)

// What deployed peers have sent, we read, and write bit for bit.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("../../../docs/vectors/arpc-v1.json")
	require.NoError(t, err)
	var scenarios []struct {
		Name   string
		Frames []struct {
			Hex string `json:"frame_hex"`
		}
	}
	require.NoError(t, json.Unmarshal(data, &scenarios))
	coder, seen := msgpack.New(), 0
	for _, s := range scenarios {
		if s.Name != "coder-msgpack-values" {
			continue
		}
		for _, f := range s.Frames {
			frame, err := hex.DecodeString(f.Hex)
			require.NoError(t, err)
			m, err := coder.DecodeChecked(nil, codertest.Message(frame))
			require.NoError(t, err)
			require.Equal(t, "hello", string(m.Data()))
			require.Equal(t, "/echo", m.Method())
			require.Equal(t, map[any]any{"k": "v"}, m.Values())
			require.Equal(t, frame, coder.Encode(nil, m).Buffer)
			seen++
		}
	}
	require.Equal(t, 2, seen)
}

// Without values there is nil in their place.
func TestForm(t *testing.T) {
	m := msgpack.New().Encode(nil, codertest.Message(codertest.Frame([]byte("hi"))))
	require.Equal(t, "\x82\xa4Body\xc4\x02hi\xa6Values\xc0", string(m.Data()))
	require.Zero(t, m.Buffer[4], "no bit says so")
}

// Go values become what their kind becomes.
func TestWhatArrives(t *testing.T) {
	for name, c := range map[string]struct{ sent, arrives any }{
		"int":               {int(1), int64(1)},
		"int8":              {int8(-8), int64(-8)},
		"int16":             {int16(-300), int64(-300)},
		"int32":             {int32(70000), int64(70000)},
		"uint":              {uint(1), int64(1)},
		"uint8":             {uint8(200), int64(200)},
		"uint16":            {uint16(60000), int64(60000)},
		"uint32":            {uint32(1 << 31), int64(1 << 31)},
		"uint64":            {uint64(math.MaxInt64), int64(math.MaxInt64)},
		"uint64, large":     {uint64(math.MaxInt64 + 1), uint64(math.MaxInt64 + 1)},
		"map of strings":    {map[string]string{"a": "b"}, map[string]any{"a": "b"}},
		"map of any":        {map[any]any{"a": 1}, map[string]any{"a": int64(1)}},
		"empty map":         {map[any]any{}, map[string]any{}},
		"empty list":        {[]any{}, []any(nil)},
		"no bytes":          {[]byte(nil), []byte{}},
		"time of some zone": {time.Unix(5, 0).In(time.FixedZone("x", 3600)), time.Unix(5, 0).UTC()},
	} {
		t.Run(name, func(t *testing.T) {
			m := codertest.Message(codertest.Frame(nil))
			m.Set("k", c.sent)
			m, err := msgpack.New().DecodeChecked(nil, &arpc.Message{Buffer: msgpack.New().Encode(nil, m).Buffer})
			require.NoError(t, err)
			require.Equal(t, map[any]any{"k": c.arrives}, m.Values())
		})
	}
}

// A value that is nil is sent and not set, as with deployed peers.
func TestNil(t *testing.T) {
	m := codertest.Message(codertest.Frame(nil))
	m.Set("k", nil)
	m.Set(nil, "v")
	m = msgpack.New().Encode(nil, m)
	require.Contains(t, string(m.Data()), "\xa6Values\x82")
	m = msgpack.New().Decode(nil, &arpc.Message{Buffer: m.Buffer})
	require.Empty(t, m.Values())
}

func TestRefusesToEncode(t *testing.T) {
	cycle := []any{nil}
	cycle[0] = cycle
	type named string
	for name, c := range map[string]struct {
		key, value any
		says       string
	}{
		"a channel":       {"k", make(chan int), "a value of type chan int"},
		"a struct":        {"k", struct{ A int }{1}, "a value of type struct"},
		"a struct as key": {struct{ A int }{1}, "v", "a value of type struct"},
		"a named type":    {"k", named("v"), "named"},
		"a pointer":       {"k", new(int), "*int"},
		"within a list":   {"k", []any{1, make(chan int)}, "chan int"},
		"within a map":    {"k", map[string]any{"a": make(chan int)}, "chan int"},
		"a cycle":         {"k", cycle, "nested more than 16 deep"},
		"too many":        {"k", make([]any, 2000), "too many values (msgpack.WithMaxValues)"},
	} {
		t.Run(name, func(t *testing.T) {
			m := codertest.Message(codertest.Frame(nil))
			m.Set(c.key, c.value)
			_, err := msgpack.New().EncodeChecked(nil, m)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
			require.Nil(t, msgpack.New().Encode(nil, m))
		})
	}
	_, err := msgpack.New().EncodeChecked(nil, codertest.Message(codertest.Frame(nil)[:20]))
	require.ErrorContains(t, err, "ends within its method")
	broken := codertest.Message(codertest.Frame([]byte{0xff, 0xff, 0xff}))
	broken.Buffer[6] |= 0x04 // a metadata section longer than the message
	_, err = msgpack.New().EncodeChecked(nil, broken)
	require.ErrorContains(t, err, "method or metadata")
}

func TestRefusesToDecode(t *testing.T) {
	deep := strings.Repeat("\x91", 20) + "\xc0"
	for name, c := range map[string]struct{ data, says string }{
		"nothing":               {"", "too few bytes"},
		"JSON":                  {`{"Body":"x"}`, "map"},
		"a list":                {"\x92\xc0\xc0", "map"},
		"cut in a name":         {"\x82\xa4Bo", "too few bytes"},
		"cut in the body":       {"\x82\xa4Body\xc4\x09abc", "too few bytes"},
		"cut before the values": {"\x82\xa4Body\xc4\x01a", "too few bytes"},
		"a body of numbers":     {"\x81\xa4Body\x92\x01\x02", "bin"},
		"no body":               {"\x81\xa6Values\xc0", "no Body"},
		"values as a list":      {"\x82\xa4Body\xc0\xa6Values\x90", "map"},
		"bytes behind":          {"\x82\xa4Body\xc0\xa6Values\xc0x", "bytes follow"},
		"a list as key":         {"\x82\xa4Body\xc0\xa6Values\x81\x90\xc0", "a key is a list or a map"},
		"a map as key":          {"\x82\xa4Body\xc0\xa6Values\x81\x80\xc0", "a key is a list or a map"},
		"bytes as key":          {"\x82\xa4Body\xc0\xa6Values\x81\xc4\x01x\xc0", "a key is a list or a map"},
		"an extension":          {"\x82\xa4Body\xc0\xa6Values\x81\xa1k\xc7\x08\x0712345678", "ext"},
		"too deep":              {"\x82\xa4Body\xc0\xa6Values\x81\xa1k" + deep, "nested more than 16 deep"},
		"a large list":          {"\x82\xa4Body\xc0\xa6Values\x81\xa1k\xdd\xff\xff\xff\xff" + strings.Repeat("\xc0", 5000), "too many values"},
		"a large list, cut":     {"\x82\xa4Body\xc0\xa6Values\x81\xa1k\xdd\xff\xff\xff\xff", "too few bytes"},
		"a large map, cut":      {"\x82\xa4Body\xc0\xa6Values\xdf\xff\xff\xff\xff", "too few bytes"},
		"a large body, cut":     {"\x82\xa4Body\xc6\xff\xff\xff\xff", "too few bytes"},
		"a time without end":    {"\x82\xa4Body\xc0\xa6Values\x81\xa1k\xc7\x0c\xff1234", ""},
	} {
		t.Run(name, func(t *testing.T) {
			frame := codertest.Frame([]byte(c.data))
			var err error
			n := codertest.Allocated(func() {
				var m *arpc.Message
				m, err = msgpack.New().DecodeChecked(nil, codertest.Message(frame))
				require.Equal(t, frame, m.Buffer)
				require.Empty(t, m.Values())
			})
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "msgpack: ")
			require.Nil(t, msgpack.New().Decode(nil, codertest.Message(frame)))
			require.Less(t, n, uint64(1<<20))
		})
	}
}

// Peers may send more than we do.
func TestAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		data   string
		body   string
		values map[any]any
	}{
		"a body of text":   {"\x82\xa4Body\xa2hi\xa6Values\xc0", "hi", nil},
		"no bytes":         {"\x82\xa4Body\xc0\xa6Values\xc0", "", nil},
		"no values":        {"\x81\xa4Body\xc4\x02hi", "hi", nil},
		"values first":     {"\x82\xa6Values\x81\xa1k\xa1v\xa4Body\xc4\x02hi", "hi", map[any]any{"k": "v"}},
		"further fields":   {"\x83\xa4More\x92\x01\x81\xa1a\xc0\xa4Body\xc4\x02hi\xa6Values\xc0", "hi", nil},
		"long forms":       {"\xdf\x00\x00\x00\x01\xd9\x04Body\xc6\x00\x00\x00\x02hi", "hi", nil},
		"integers as long": {"\x82\xa4Body\xc0\xa6Values\x81\xd3\x00\x00\x00\x00\x00\x00\x00\x05\xcf\x00\x00\x00\x00\x00\x00\x00\x06", "", map[any]any{int64(5): int64(6)}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := msgpack.New().DecodeChecked(nil, codertest.Message(codertest.Frame([]byte(c.data))))
			require.NoError(t, err)
			require.Equal(t, c.body, string(m.Data()))
			require.Equal(t, len(m.Buffer)-arpc.HeadLen, m.BodyLen())
			require.Equal(t, c.values, m.Values())
		})
	}
}

func TestWithKeys(t *testing.T) {
	m := codertest.Message(codertest.Frame(nil))
	m.Set("public", "v")
	m.Set("private", make(chan int))
	before := m.Values()
	m = msgpack.New(msgpack.WithKeys("public", "absent")).Encode(nil, m)
	require.NotNil(t, m)
	require.Len(t, before, 2)
	m, err := msgpack.New().DecodeChecked(nil, &arpc.Message{Buffer: m.Buffer})
	require.NoError(t, err)
	require.Equal(t, map[any]any{"public": "v"}, m.Values())

	m.Set("more", 1)
	m = msgpack.New(msgpack.WithKeys()).Encode(nil, m)
	require.True(t, bytes.HasSuffix(m.Buffer, []byte("Values\xc0")))
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	require.Panics(t, func() { msgpack.New(msgpack.WithMaxValues(0)) })
}
