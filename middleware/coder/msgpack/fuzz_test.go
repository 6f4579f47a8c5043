package msgpack_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
)

// FuzzDecode decodes what a hostile peer may send. Where a naive reader finds the
// map, we find the same in it; what was read is written and read again.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{"", "hello"} {
		m := codertest.Message(codertest.Frame([]byte(body)))
		f.Add(bytes.Clone(msgpack.New().Encode(nil, m).Data()))
		m = codertest.Message(codertest.Frame([]byte(body)))
		for k, v := range values {
			m.Set(k, v)
		}
		f.Add(bytes.Clone(msgpack.New().Encode(nil, m).Data()))
	}
	f.Add([]byte("\x82\xa4Body\xc0\xa4More\x81\x80\xc0")) // a map is a key, where nobody looks
	f.Add([]byte("\x82\xa4Body\xc0\xa6Values\x82\xca\x7f\xc0\x00\x00\x01\xa1k\xde\x00\x01\xcc\xff\xd0\x80"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := msgpack.New().DecodeChecked(nil, codertest.Message(codertest.Frame(data)))
		want, ok := naive(data)
		if err == nil {
			require.True(t, ok)
			require.Equal(t, string(want.body), string(m.Data()))
			require.True(t, same(want.values, m.Values()), "%#v, %#v", want.values, m.Values())
			again := again(t, m)
			require.True(t, same(m.Values(), again.Values()))
			require.Equal(t, m.Buffer, again.Buffer)
		}
	})
}

func again(t *testing.T, m *arpc.Message) *arpc.Message {
	copied := codertest.Message(m.Buffer)
	for k, v := range m.Values() {
		copied.Set(k, v)
	}
	coder := msgpack.New(msgpack.WithMaxValues(1 << 20))
	back, err := coder.DecodeChecked(nil, &arpc.Message{Buffer: coder.Encode(nil, copied).Buffer})
	require.NoError(t, err)
	return back
}

// same is DeepEqual with keys and values that are NaN, which differ from themselves.
func same(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case float32:
		b, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(b)
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[any]any:
		if b, ok := b.(map[string]any); ok {
			return same(a, anyKeys(b))
		}
		b, ok := b.(map[any]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if other, ok := b[k]; k == k && (!ok || !same(v, other)) {
				return false
			}
		}
		return true
	case map[string]any:
		return same(anyKeys(a), b)
	}
	return a == b
}

func anyKeys(named map[string]any) map[any]any {
	out := make(map[any]any)
	for k, v := range named {
		out[k] = v
	}
	return out
}

// document is what a naive reader finds.
type document struct {
	body   []byte
	values map[any]any
}

// naive reads a payload byte by byte, as the msgpack specification has it, and takes
// lengths at their word. It reports false for what it cannot read.
func naive(data []byte) (doc document, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	n := &naiveReader{b: data}
	for range n.size(n.byte(), 0x80, 0, 0xde) {
		switch name := n.any().(type) {
		case string:
			n.skips = name != "Body" && name != "Values"
			v := n.any()
			n.skips = false
			switch name {
			case "Body":
				switch v := v.(type) {
				case nil:
					doc.body = nil
				case string:
					doc.body = []byte(v)
				default:
					doc.body = v.([]byte)
				}
			case "Values":
				doc.values = nil
				for k, v := range anyMap(v) {
					if k != nil && v != nil {
						if doc.values == nil {
							doc.values = make(map[any]any)
						}
						doc.values[k] = v
					}
				}
			}
		default:
			panic("no name")
		}
	}
	return doc, len(n.b) == 0
}

func anyMap(v any) map[any]any {
	if v == nil {
		return nil
	}
	return v.(map[any]any)
}

// naiveReader panics where there is nothing to read.
type naiveReader struct {
	b     []byte
	skips bool // what is read is of no interest
}

func (n *naiveReader) bytes(count int) []byte {
	b := n.b[:count]
	n.b = n.b[count:]
	return b
}

func (n *naiveReader) byte() byte { return n.bytes(1)[0] }

func (n *naiveReader) number(width int) uint64 {
	var b [8]byte
	copy(b[8-width:], n.bytes(width))
	return binary.BigEndian.Uint64(b[:])
}

// size returns a length that is in the tag, or follows the tags code8, 16 or 32.
func (n *naiveReader) size(tag, fixed, code8, code16 byte) int {
	mask := byte(0x0f)
	if fixed == 0xa0 {
		mask = 0x1f
	}
	switch {
	case fixed != 0 && tag&^mask == fixed:
		return int(tag & mask)
	case code8 != 0 && tag == code8:
		return int(n.number(1))
	case tag == code16:
		return int(n.number(2))
	case tag == code16+1:
		return int(n.number(4))
	}
	panic("another type")
}

func (n *naiveReader) any() any {
	switch tag := n.byte(); {
	case tag <= 0x7f:
		return int64(tag)
	case tag >= 0xe0:
		return int64(int8(tag))
	case tag <= 0x8f, tag == 0xde, tag == 0xdf:
		pairs := make(map[any]any)
		for range n.size(tag, 0x80, 0, 0xde) {
			if k, v := n.any(), n.any(); !n.skips {
				pairs[k] = v
			}
		}
		return pairs
	case tag <= 0x9f, tag == 0xdc, tag == 0xdd:
		var list []any
		for range n.size(tag, 0x90, 0, 0xdc) {
			list = append(list, n.any())
		}
		return list
	case tag <= 0xbf, tag >= 0xd9 && tag <= 0xdb:
		return string(n.bytes(n.size(tag, 0xa0, 0xd9, 0xda)))
	case tag == 0xc0:
		return nil
	case tag == 0xc2, tag == 0xc3:
		return tag == 0xc3
	case tag >= 0xc4 && tag <= 0xc6:
		return bytes.Clone(n.bytes(n.size(tag, 0, 0xc4, 0xc5)))
	case tag == 0xca:
		return math.Float32frombits(uint32(n.number(4)))
	case tag == 0xcb:
		return math.Float64frombits(n.number(8))
	case tag >= 0xcc && tag <= 0xcf:
		if v := n.number(1 << (tag - 0xcc)); v > math.MaxInt64 {
			return v
		} else {
			return int64(v)
		}
	case tag >= 0xd0 && tag <= 0xd3:
		width := 1 << (tag - 0xd0)
		return int64(n.number(width)<<(64-8*width)) >> (64 - 8*width)
	case tag >= 0xd4 && tag <= 0xd8:
		return n.extension(1 << (tag - 0xd4))
	default:
		return n.extension(n.size(tag, 0, 0xc7, 0xc8))
	}
}

// extension reads a timestamp, of the form of the specification or of the other one
// that our library knows, or skips what it does not know.
func (n *naiveReader) extension(length int) any {
	kind := int8(n.byte())
	b := &naiveReader{b: n.bytes(length)}
	switch {
	case kind == -1 && length == 4:
		return time.Unix(int64(b.number(4)), 0).UTC()
	case kind == -1 && length == 8:
		v := b.number(8)
		return time.Unix(int64(v&(1<<34-1)), int64(v>>34)).UTC()
	case kind == -1 && length == 12:
		nanos := b.number(4)
		return time.Unix(int64(b.number(8)), int64(nanos)).UTC()
	case kind == 5 && length == 12:
		seconds := b.number(8)
		return time.Unix(int64(seconds), int64(int32(b.number(4)))).UTC()
	}
	return struct{}{}
}
