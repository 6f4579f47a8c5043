// Package cbor is a codec for CBOR (RFC 8949): the values that JSON knows, and
// bytes, integers of 64 bits, times and map keys that are no strings, in fewer
// bytes. It is github.com/fxamacker/cbor with limits and with settings under
// which nothing is lost without an error.
//
//	server := arpc.NewServer(arpc.WithCodec(cbor.Codec{}))
//
// Fields are named by their tag cbor, else by json, else by their Go name; see
// that library for the options keyasint and toarray, which save more bytes.
package cbor

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"

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

// Codec turns values into CBOR and back. The zero Codec has the defaults of New.
// It may be copied, and compared with ==.
//
// How it differs from JSON:
//
//   - []byte travels as bytes. NaN and infinities travel.
//   - A time travels as text with nanoseconds, in UTC; a zero time as null.
//   - A string that is not UTF-8, and a time in a year beyond 9999, are refused by
//     the end that decodes them, not by the one that encodes them.
//   - In an interface an integer is an int64, or a *big.Int if it does not fit;
//     bytes are []byte, a time is a time.Time, and a map is a map[string]any,
//     which cannot take keys other than strings.
//   - Types with the methods of encoding.BinaryMarshaler travel as bytes, those
//     of encoding.TextMarshaler as text. MarshalJSON is not called. A struct of
//     whose fields none is exported, and that has no such method, is refused.
//   - A key twice in a map is an error, and so are lengths that are not known in
//     advance ("indefinite").
//
// Like JSON it matches the names of fields in any case if none matches exactly,
// skips those that a struct does not have, drops what a Go array has no room for,
// and takes null for an empty key.
type Codec struct {
	m *modes // nil: standard
}

// modes are settings as the library wants them.
type modes struct {
	maxDepth int
	enc      cbor.UserBufferEncMode
	dec      cbor.DecMode
}

var (
	_ codec.Codec    = Codec{}
	_ codec.Appender = Codec{}
	_ codec.Named    = Codec{}

	standard = New().m

	checker = &encodable.Checker{
		Tags: []string{"cbor", "json"},
		Opaque: []reflect.Type{
			reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.TextMarshaler](),
		},
		Setting: " (WithMaxDepth)",
	}

	buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// Option is a setting for New.
type Option func(*config)

type config struct {
	maxDepth, maxElements int
	deterministic         bool
}

// WithMaxDepth limits how deep arrays and maps (and tags within tags) nest in a
// payload, and how deep values may that are encoded. Default: 1000. New panics unless n is 4 to
// 65535.
func WithMaxDepth(n int) Option {
	return func(c *config) {
		must(n >= 4 && n <= math.MaxUint16, "WithMaxDepth: must be 4 to %d: %d", math.MaxUint16, n)
		c.maxDepth = n
	}
}

// WithMaxElements limits how many elements an array, and how many pairs a map of
// a payload has. Default: as many as fit into the message. A lower limit matters
// where elements are much larger in memory than the byte that one of them takes at
// least. New panics unless n is 16 to 2147483647.
func WithMaxElements(n int) Option {
	return func(c *config) {
		must(n >= 16 && n <= math.MaxInt32, "WithMaxElements: must be 16 to %d: %d", math.MaxInt32, n)
		c.maxElements = n
	}
}

// WithDeterministic has equal values encoded to equal bytes, so that they can be
// compared, hashed or signed: the Core Deterministic Encoding of RFC 8949, 4.2.1,
// with keys sorted by their bytes and floats as short as they keep their value. It
// costs the sorting. The decoder takes other encodings all the same.
func WithDeterministic() Option {
	return func(c *config) { c.deterministic = true }
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("cbor: "+format, args...))
	}
}

// New returns a codec. It panics when an option makes no sense.
func New(opts ...Option) Codec {
	c := config{maxDepth: DefaultMaxDepth, maxElements: math.MaxInt32}
	for _, opt := range opts {
		opt(&c)
	}
	enc, err := c.encoding().UserBufferEncMode()
	must(err == nil, "%v", err)
	dec, err := c.decoding().DecMode()
	must(err == nil, "%v", err)
	return Codec{&modes{maxDepth: c.maxDepth, enc: enc, dec: dec}}
}

func (c *config) encoding() cbor.EncOptions {
	o := cbor.EncOptions{}
	if c.deterministic {
		o = cbor.CoreDetEncOptions()
	}
	o.Time = cbor.TimeRFC3339NanoUTC
	o.TimeTag = cbor.EncTagRequired
	o.TextMarshaler = cbor.TextMarshalerTextString
	return o
}

func (c *config) decoding() cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  c.maxDepth,
		MaxArrayElements: c.maxElements,
		MaxMapPairs:      c.maxElements,
		IndefLength:      cbor.IndefLengthForbidden, // the library reads such an array once for each level above it
		IntDec:           cbor.IntDecConvertSignedOrBigInt,
		BigIntDec:        cbor.BigIntDecodePointer,
		DefaultMapType:   reflect.TypeFor[map[string]any](),
		TextUnmarshaler:  cbor.TextUnmarshalerTextString,
	}
}

// Name returns "cbor".
func (Codec) Name() string { return "cbor" }

func (c Codec) modes() *modes {
	if c.m == nil {
		return standard
	}
	return c.m
}

// Marshal returns the CBOR encoding of v. The bytes belong to the caller.
func (c Codec) Marshal(v any) ([]byte, error) {
	buf := buffers.Get().(*bytes.Buffer)
	buf.Reset()
	err := c.encode(buf, v)
	if err != nil {
		return nil, err
	}
	data := bytes.Clone(buf.Bytes())
	if buf.Cap() <= maxPooled {
		buffers.Put(buf)
	}
	return data, nil
}

// MarshalAppend appends the CBOR encoding of v to dst. See codec.Appender.
func (c Codec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	buf := buffers.Get().(*bytes.Buffer)
	own := *buf
	*buf = *bytes.NewBuffer(dst)
	err := c.encode(buf, v)
	data := buf.Bytes()
	*buf = own // the pool must not hold on to dst
	buffers.Put(buf)
	if err != nil {
		return dst, err
	}
	return data, nil
}

func (c Codec) encode(buf *bytes.Buffer, v any) (err error) {
	defer panicToError("encode", &err)
	m := c.modes()
	if err := checker.Check(v, m.maxDepth); err != nil {
		return fmt.Errorf("encode CBOR: %w", err)
	}
	if err := m.enc.MarshalToBuffer(v, buf); err != nil {
		return fmt.Errorf("encode CBOR: %w", err)
	}
	return nil
}

// Unmarshal fills v, a non-nil pointer, from data, which must hold one CBOR value
// and nothing else. Nothing of data is kept.
func (c Codec) Unmarshal(data []byte, v any) (err error) {
	defer panicToError("decode", &err)
	if len(data) == 0 {
		return errNoData
	}
	err = c.modes().dec.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	if setting := settingOf(err); setting != "" {
		return fmt.Errorf("decode CBOR: %w (%s)", err, setting)
	}
	return fmt.Errorf("decode CBOR: %w", err)
}

var errNoData = errors.New("decode CBOR: the payload is empty")

// settingOf returns the option whose limit was met.
func settingOf(err error) string {
	if _, ok := errors.AsType[*cbor.MaxNestedLevelError](err); ok {
		return "WithMaxDepth"
	}
	_, array := errors.AsType[*cbor.MaxArrayElementsError](err)
	_, object := errors.AsType[*cbor.MaxMapPairsError](err)
	if array || object {
		return "WithMaxElements"
	}
	return ""
}

// panicToError, deferred, turns a panic of a value's own method into *err.
func panicToError(operation string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s CBOR: panic: %v", operation, r)
	}
}
