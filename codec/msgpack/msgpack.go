// Package msgpack is a codec for MessagePack. Types that have methods generated
// by github.com/tinylib/msgp use them; all others are encoded by reflection, on
// that library's primitives, under rules by which nothing is lost without an
// error.
//
//	server := arpc.NewServer(arpc.WithCodec(msgpack.Codec{}))
//
// A struct is a map. Fields are named by their tag msgpack, else by msg, else by
// json, else by their Go name; the options omitempty and omitzero and the name "-"
// mean what they mean in encoding/json.
package msgpack

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"

	"github.com/tinylib/msgp/msgp"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/codec/internal/encodable"
)

const (
	// DefaultMaxDepth is the default of WithMaxDepth.
	DefaultMaxDepth = 1000
	// maxPooled is the capacity in bytes of the largest buffer that is kept for
	// the next value.
	maxPooled = 64 << 10
)

// Codec turns values into MessagePack and back. The zero Codec has the defaults
// of New. It may be copied, and compared with ==.
//
// How it differs from JSON:
//
//   - []byte travels as bytes, and a string as it is, UTF-8 or not. NaN and
//     infinities travel.
//   - A time travels as a timestamp with nanoseconds and without a zone (extension
//     type -1): it comes back in UTC.
//   - In an interface an integer is an int64, or a uint64 if it does not fit; a
//     float is a float64, bytes are []byte, a time is a time.Time, and a map is a
//     map[string]any, which cannot take keys other than strings.
//   - Types with the methods of encoding.BinaryMarshaler travel as bytes, those
//     of encoding.TextMarshaler as text. MarshalJSON is not called. A struct of
//     whose fields none is exported, and that has no such method, is refused, and
//     so is one with two fields of the same name at the same level.
//   - The names of fields must match exactly. An array longer than the Go array it
//     is decoded into is an error.
//
// Like JSON it skips fields that a struct does not have, and takes the last of
// several values for one key.
type Codec struct {
	maxDepth, maxElements int // 0: the default
}

var (
	_ codec.Codec    = Codec{}
	_ codec.Appender = Codec{}
	_ codec.Named    = Codec{}

	checker = &encodable.Checker{
		Tags:    tags,
		Opaque:  []reflect.Type{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.TextMarshaler]()},
		Own:     []reflect.Type{reflect.TypeFor[msgp.Marshaler]()},
		Setting: " (WithMaxDepth)",
	}

	buffers = sync.Pool{New: func() any { return new([]byte) }}
)

// Option is a setting for New.
type Option func(*Codec)

// WithMaxDepth limits how deep arrays and maps nest in a payload, and how deep
// values may that are encoded. Default: 1000. New panics unless n is 1 to 65535.
func WithMaxDepth(n int) Option {
	return func(c *Codec) {
		must(n >= 1 && n <= math.MaxUint16, "WithMaxDepth: must be 1 to %d: %d", math.MaxUint16, n)
		c.maxDepth = n
	}
}

// WithMaxElements limits how many elements an array, and how many pairs a map of
// a payload has. Default: as many as fit into the message. A lower limit matters
// where elements are much larger in memory than the byte that one of them takes at
// least. New panics unless n is 1 to 2147483647.
func WithMaxElements(n int) Option {
	return func(c *Codec) {
		must(n >= 1 && n <= math.MaxInt32, "WithMaxElements: must be 1 to %d: %d", math.MaxInt32, n)
		c.maxElements = n
	}
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("msgpack: "+format, args...))
	}
}

// New returns a codec. It panics when an option makes no sense.
func New(opts ...Option) Codec {
	var c Codec
	for _, opt := range opts {
		opt(&c)
	}
	return c
}

// Name returns "msgpack".
func (Codec) Name() string { return "msgpack" }

// limits are those for a payload.
func (c Codec) limits() limits {
	l := limits{depth: DefaultMaxDepth, elements: math.MaxInt32}
	if c.maxDepth > 0 {
		l.depth = c.maxDepth
	}
	if c.maxElements > 0 {
		l.elements = c.maxElements
	}
	return l
}

// Marshal returns the MessagePack encoding of v. The bytes belong to the caller.
func (c Codec) Marshal(v any) ([]byte, error) {
	buf := buffers.Get().(*[]byte)
	out, err := c.MarshalAppend((*buf)[:0], v)
	if err != nil {
		return nil, err
	}
	data := bytes.Clone(out)
	if cap(out) <= maxPooled {
		*buf = out
		buffers.Put(buf)
	}
	return data, nil
}

// MarshalAppend appends the MessagePack encoding of v to dst. See codec.Appender.
func (c Codec) MarshalAppend(dst []byte, v any) (data []byte, err error) {
	data = dst
	defer panicToError("encode", &err)
	if err := checker.Check(v, c.limits().depth); err != nil {
		return dst, fmt.Errorf("encode MessagePack: %w", err)
	}
	out, err := appendAny(dst, v)
	if err != nil {
		return dst, fmt.Errorf("encode MessagePack: %w", err)
	}
	return out, nil
}

// Unmarshal fills v, a non-nil pointer, from data, which must hold one MessagePack
// value and nothing else. Nothing of data is kept.
func (c Codec) Unmarshal(data []byte, v any) (err error) {
	defer panicToError("decode", &err)
	if err := c.unmarshal(data, v); err != nil {
		return fmt.Errorf("decode MessagePack: %w", err)
	}
	return nil
}

func (c Codec) unmarshal(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("%T is no pointer to decode into, or nil", v)
	}
	if len(data) == 0 {
		return errors.New("the payload is empty")
	}
	rest, err := c.limits().scan(data)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(rest))
	}
	_, err = decoderOf(target.Type().Elem())(data, target.Elem())
	return err
}

// panicToError, deferred, turns a panic of a value's own method into *err.
func panicToError(operation string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s MessagePack: panic: %v", operation, r)
	}
}
