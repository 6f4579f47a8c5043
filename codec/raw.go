package codec

import (
	"encoding"
	"fmt"
	"reflect"
)

// Raw is for payloads that need no codec: byte slices, strings, types whose
// underlying type is one of them (such as [encoding/json.RawMessage]), and types
// that come with their own methods, [encoding.BinaryMarshaler] (or
// [encoding.BinaryAppender]) and [encoding.BinaryUnmarshaler], which win over the
// rest. It refuses all other values with an error that names their type.
//
// Nil is an empty payload, and so is a nil pointer to bytes or a string.
type Raw struct{}

// Name returns "raw".
func (Raw) Name() string { return "raw" }

// Marshal returns the bytes of v in a slice of their own.
func (Raw) Marshal(v any) ([]byte, error) {
	data, err := Raw{}.MarshalAppend(nil, v)
	if err != nil {
		return nil, err
	}
	return data, nil
}

// MarshalAppend appends the bytes of v to dst. See [Appender].
func (Raw) MarshalAppend(dst []byte, v any) (data []byte, err error) {
	data = dst
	defer rawPanicToError("encode", &err)
	switch v := v.(type) {
	case nil:
		return dst, nil
	case []byte:
		return append(dst, v...), nil
	case string:
		return append(dst, v...), nil
	case encoding.BinaryAppender:
		if data, err = v.AppendBinary(dst); err != nil {
			return dst, fmt.Errorf("encode raw %T: %w", v, err)
		}
		return data, nil
	case encoding.BinaryMarshaler:
		own, err := v.MarshalBinary()
		if err != nil {
			return dst, fmt.Errorf("encode raw %T: %w", v, err)
		}
		return append(dst, own...), nil
	}
	return appendKind(dst, v)
}

// appendKind appends v as the type tells that is underneath its own.
func appendKind(dst []byte, v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	t := rv.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		if isRaw(t) && rv.IsNil() {
			return dst, nil
		}
		rv = rv.Elem()
	}
	switch {
	case !isRaw(t):
		return dst, fmt.Errorf("encode raw: %T is neither bytes nor a string nor an encoding.BinaryMarshaler", v)
	case t.Kind() == reflect.String:
		return append(dst, rv.String()...), nil
	}
	return append(dst, rv.Bytes()...), nil
}

func isRaw(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// Unmarshal fills v with a copy of data. A BinaryUnmarshaler gets data itself,
// of which it may keep nothing, as package encoding says.
func (Raw) Unmarshal(data []byte, v any) (err error) {
	defer rawPanicToError("decode", &err)
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("decode raw: %T is no pointer to decode into, or nil", v)
	}
	if u, ok := v.(encoding.BinaryUnmarshaler); ok {
		if err := u.UnmarshalBinary(data); err != nil {
			return fmt.Errorf("decode raw %T: %w", v, err)
		}
		return nil
	}
	target := rv.Elem()
	switch {
	case !isRaw(target.Type()):
		return fmt.Errorf("decode raw: %T points neither to bytes nor to a string, and is no encoding.BinaryUnmarshaler", v)
	case target.Kind() == reflect.String:
		target.SetString(string(data))
	default:
		target.SetBytes(append(make([]byte, 0, len(data)), data...))
	}
	return nil
}

func rawPanicToError(operation string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s raw: panic: %v", operation, r)
	}
}
