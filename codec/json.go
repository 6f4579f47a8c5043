package codec

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
	"github.com/modern-go/reflect2"

	"github.com/arpc-go/arpc/codec/internal/encodable"
)

// JSON is json-iterator where it agrees with encoding/json, and encoding/json
// everywhere else. It takes a third of the time to decode a small struct.
//
// json-iterator is fast and has faults that lose data without an error: it reads
// 5000000000 into an int32 as 705032704, encodes a malformed [encoding/json.RawMessage]
// as null, drops one of two fields of the same name, and ends the process on
// cyclic data. So a value goes to encoding/json
//
//   - if its type holds any of: a type that refers to itself, a type with its
//     own JSON or text methods ([time.Time] excepted), [encoding/json.Number], an array,
//     a map whose keys are not strings, an embedded pointer, two fields whose
//     names differ in case only, a field with a name or a tag that is more than
//     a plain ASCII name and "omitempty";
//   - to encode, if its type holds an interface, or its strings are not UTF-8;
//   - to decode, if the payload is not UTF-8, has escaped surrogates (\ud83d), a
//     Kelvin sign or a long s (k and s to encoding/json when it looks for a field),
//     or has a number of so many digits that it might not fit: ten where the type
//     has 32-bit integers, twenty elsewhere;
//   - to decode into a value that already holds something, if its type holds an
//     interface or the payload has a null;
//   - if json-iterator fails: every error is therefore encoding/json's, to be
//     found with errors.As (json-iterator's quote a piece of the payload).
//
// What is left of the difference to encoding/json:
//
//   - <, > and & are not escaped, and the order of a map's keys is not fixed.
//   - Some malformed payloads are accepted: a control character in a string, a
//     plus before a number or a zero before an integer ("+1", "-01"), and null
//     as the key of an object. Truncated payloads and bytes after the end are
//     errors.
//   - A number with more digits than a float32 has may differ in the last place.
//
// As in encoding/json, bytes that are not UTF-8 become U+FFFD (use []byte for
// them), integers in an interface become float64, and nesting is limited to
// 10,000, here of values that are encoded, too. Cyclic data and values that JSON
// cannot hold (channels, functions, NaN) are errors.
type JSON struct{}

// Name returns "json".
func (JSON) Name() string { return "json" }

// Marshal returns the JSON encoding of v. The bytes belong to the caller.
func (JSON) Marshal(v any) ([]byte, error) {
	if v != nil && planFor(reflect.TypeOf(v)).encode {
		if data, ok := iterMarshal(v); ok {
			return data, nil
		}
	}
	return appendChecked(nil, v)
}

// MarshalAppend appends the JSON encoding of v to dst. See [Appender].
func (JSON) MarshalAppend(dst []byte, v any) ([]byte, error) {
	if v != nil && planFor(reflect.TypeOf(v)).encode {
		if data, ok := iterAppend(dst, v); ok {
			return data, nil
		}
	}
	return appendChecked(dst, v)
}

// maxJSONDepth is the limit of both libraries when they decode.
const maxJSONDepth = 10_000

var jsonChecker = &encodable.Checker{
	Tags:   []string{"json"},
	Opaque: []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()},
	Hollow: true,
}

// appendChecked leaves v to encoding/json if that can encode it: values that nest
// millions deep exhaust its stack.
func appendChecked(dst []byte, v any) ([]byte, error) {
	if err := jsonChecker.Check(v, maxJSONDepth); err != nil {
		return dst, fmt.Errorf("encode JSON: %w", err)
	}
	return appendJSON(dst, v, plainHTML)
}

// Unmarshal fills v, a non-nil pointer, from data, which must hold one JSON
// value and nothing else. Nothing of data is kept.
func (JSON) Unmarshal(data []byte, v any) error {
	if iterAgrees(data, v) && iterUnmarshal(data, v) {
		return nil
	}
	return StdJSON{}.Unmarshal(data, v)
}

// iter never rounds floats (ConfigFastest does).
var iter = newIter()

func newIter() jsoniter.API {
	api := jsoniter.Config{
		EscapeHTML:             false,
		SortMapKeys:            false,
		ValidateJsonRawMessage: true,
	}.Froze()
	api.RegisterExtension(&keepNulled{})
	return api
}

// keepNulled has null leave strings as they are: json-iterator empties them,
// which loses the first value of {"a":"x","a":null}.
type keepNulled struct{ jsoniter.DummyExtension }

// DecorateDecoder puts a nullSkipper before the decoders of strings.
func (*keepNulled) DecorateDecoder(t reflect2.Type, d jsoniter.ValDecoder) jsoniter.ValDecoder {
	if t.Kind() != reflect.String {
		return d
	}
	return skipNulls(d.Decode)
}

// nullSkipper has the pointer type of jsoniter.ValDecoder, which needs no name here.
type nullSkipper[P any] struct {
	decode func(P, *jsoniter.Iterator)
}

func skipNulls[P any](decode func(P, *jsoniter.Iterator)) *nullSkipper[P] {
	return &nullSkipper[P]{decode}
}

func (s *nullSkipper[P]) Decode(p P, it *jsoniter.Iterator) {
	if !it.ReadNil() {
		s.decode(p, it)
	}
}

// maxPooled is the largest buffer in bytes that goes back to json-iterator's
// pool, which has no limit of its own.
const maxPooled = 64 << 10

// iterMarshal reports false if json-iterator failed, by error or by panic.
func iterMarshal(v any) (data []byte, ok bool) {
	defer func() {
		if recover() != nil {
			data, ok = nil, false
		}
	}()
	stream := iter.BorrowStream(nil)
	stream.WriteVal(v)
	if stream.Error == nil && utf8.Valid(stream.Buffer()) {
		data, ok = bytes.Clone(stream.Buffer()), true
	}
	if cap(stream.Buffer()) <= maxPooled {
		iter.ReturnStream(stream)
	}
	return data, ok
}

// iterAppend is iterMarshal behind dst, without a buffer between.
func iterAppend(dst []byte, v any) (data []byte, ok bool) {
	defer func() {
		if recover() != nil {
			data, ok = nil, false
		}
	}()
	stream := iter.BorrowStream(nil)
	own := stream.Buffer()
	stream.SetBuffer(dst)
	stream.WriteVal(v)
	data = stream.Buffer()
	ok = stream.Error == nil && utf8.Valid(data[len(dst):])
	stream.SetBuffer(own)
	iter.ReturnStream(stream)
	return data, ok
}

// iterUnmarshal reports false if json-iterator failed, by error or by panic.
func iterUnmarshal(data []byte, v any) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	it := iter.BorrowIterator(data)
	it.ReadVal(v)
	if it.Error == nil || it.Error == io.EOF {
		it.WhatIsNext() // skips white space and meets the end
		ok = it.Error == io.EOF
	}
	it.ResetBytes(nil) // the pool must not hold on to data
	iter.ReturnIterator(it)
	return ok
}
