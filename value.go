package arpc

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"sync"

	"github.com/arpc-go/arpc/codec"
)

// payload is an encoded value: bytes or a string, whichever spares a copy, never both.
type payload struct {
	b   []byte
	s   string
	buf *[]byte // pooled memory that b lies in, nil: none
}

// encodePool has the memory that codecs append to.
var encodePool = sync.Pool{New: func() any { return new([]byte) }}

// maxEncoded is the capacity in bytes of what goes back to encodePool.
const maxEncoded = 64 << 10

// release gives pooled memory back, once, when nothing refers to the payload any
// more. Without it the memory is garbage.
func (p payload) release() {
	if p.buf != nil && cap(*p.buf) <= maxEncoded {
		encodePool.Put(p.buf)
	}
}

func (p payload) len() int { return len(p.b) + len(p.s) }

func (p payload) appendTo(dst []byte) []byte {
	if len(p.s) > 0 {
		return append(dst, p.s...)
	}
	return append(dst, p.b...)
}

// encode turns v into a payload: nil is empty, strings, byte slices, errors and
// what buffers hold travel raw, the codec does the rest. The payload of a byte
// slice or a buffer aliases it.
func encode(c codec.Codec, v any) (payload, error) {
	switch v := v.(type) {
	case nil:
		return payload{}, nil
	case []byte:
		return payload{b: v}, nil
	case string:
		return payload{s: v}, nil
	case *[]byte:
		if v == nil {
			return payload{}, nil
		}
		return payload{b: *v}, nil
	case *string:
		if v == nil {
			return payload{}, nil
		}
		return payload{s: *v}, nil
	case *bytes.Buffer:
		if v == nil {
			return payload{}, nil
		}
		return payload{b: v.Bytes()}, nil
	case error:
		return payload{s: publicText(v)}, nil
	}
	return marshal(c, v)
}

func marshal(c codec.Codec, v any) (p payload, err error) {
	if a, ok := c.(codec.Appender); ok {
		p.buf = encodePool.Get().(*[]byte)
		p.b, err = a.MarshalAppend((*p.buf)[:0], v)
		*p.buf = p.b
	} else {
		p.b, err = c.Marshal(v)
	}
	if err != nil {
		p.release()
		return payload{}, Errorf(CodeInternal, "arpc: encode %T: %w", v, err)
	}
	return p, nil
}

// decode stores data in the value that v points to. Nothing of data is kept.
func decode(c codec.Codec, data []byte, v any) error {
	if err := checkTarget(v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = append([]byte{}, data...) // which does not clear large memory first, as make does
		return nil
	case *string:
		*v = string(data)
		return nil
	case *bytes.Buffer:
		v.Reset()
		v.Write(data)
		return nil
	}
	if err := c.Unmarshal(data, v); err != nil {
		if errors.Is(err, io.EOF) { // which says that a stream has ended as it should
			return Errorf(CodeInternal, "arpc: decode %T: %v", v, err)
		}
		return Errorf(CodeInternal, "arpc: decode %T: %w", v, err)
	}
	return nil
}

// checkTarget says whether decode has somewhere to store a raw payload. What the
// codec stores in is the codec's to check.
func checkTarget(v any) error {
	switch v := v.(type) {
	case *[]byte:
		if v != nil {
			return nil
		}
	case *string:
		if v != nil {
			return nil
		}
	case *bytes.Buffer:
		if v != nil {
			return nil
		}
	default:
		return nil
	}
	return Errorf(CodeInvalidArgument, "arpc: the %T to decode into is a nil pointer", v)
}

// decodesInPlace reports whether decode of v runs none of the user's code, so
// that the reader may do it.
func decodesInPlace(v any) bool {
	switch v.(type) {
	case nil, *[]byte, *string, *bytes.Buffer:
		return true
	}
	return false
}

// sharesMemory reports whether v is a buffer that b is in. A peer may answer before it
// has all of a request.
func sharesMemory(v any, b []byte) bool {
	buffer, ok := v.(*bytes.Buffer)
	if !ok {
		return false
	}
	rest := buffer.Bytes()
	end := reflect.ValueOf(rest).Pointer() + uintptr(cap(rest))
	start := reflect.ValueOf(b).Pointer()
	return start < end && start+uintptr(len(b)) > end-uintptr(buffer.Cap())
}

// publicText is what the peer gets to read of err.
func publicText(err error) string {
	if e, ok := err.(*Error); ok && e != nil {
		return e.msg
	}
	return err.Error()
}
