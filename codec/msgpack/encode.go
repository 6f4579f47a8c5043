package msgpack

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// encoder appends v, which is of the type that the encoder is for.
type encoder func(dst []byte, v reflect.Value) ([]byte, error)

// appendAny appends a value of any type.
func appendAny(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return msgp.AppendNil(dst), nil
	case bool:
		return msgp.AppendBool(dst, v), nil
	case string:
		return appendString(dst, v)
	case int:
		return msgp.AppendInt(dst, v), nil
	case int64:
		return msgp.AppendInt64(dst, v), nil
	case float64:
		return msgp.AppendFloat64(dst, v), nil
	case []any:
		return appendList(dst, v)
	case map[string]any:
		return appendMap(dst, v)
	}
	rv := reflect.ValueOf(v)
	return encoderOf(rv.Type())(dst, rv)
}

func appendString(dst []byte, s string) ([]byte, error) {
	if err := checkLen(len(s)); err != nil {
		return dst, err
	}
	return msgp.AppendString(dst, s), nil
}

// checkLen refuses lengths that MessagePack has no room for.
func checkLen(n int) error {
	if int64(n) > math.MaxUint32 {
		return fmt.Errorf("a length of %d is over the limit of MessagePack, %d", n, uint32(math.MaxUint32))
	}
	return nil
}

func appendList(dst []byte, list []any) (_ []byte, err error) {
	if list == nil {
		return msgp.AppendNil(dst), nil
	}
	if err := checkLen(len(list)); err != nil {
		return dst, err
	}
	dst = msgp.AppendArrayHeader(dst, uint32(len(list)))
	for _, elem := range list {
		if dst, err = appendAny(dst, elem); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendMap(dst []byte, m map[string]any) (_ []byte, err error) {
	if m == nil {
		return msgp.AppendNil(dst), nil
	}
	if err := checkLen(len(m)); err != nil {
		return dst, err
	}
	dst = msgp.AppendMapHeader(dst, uint32(len(m)))
	for name, elem := range m {
		if dst, err = appendString(dst, name); err != nil {
			return dst, err
		}
		if dst, err = appendAny(dst, elem); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

var encoders sync.Map // of reflect.Type to encoder

// encoderOf returns the encoder for t. While it is made, an encoder that waits for
// it stands in: a type may hold itself.
func encoderOf(t reflect.Type) encoder {
	if e, ok := encoders.Load(t); ok {
		return e.(encoder)
	}
	var made sync.WaitGroup
	var e encoder
	made.Add(1)
	standIn, taken := encoders.LoadOrStore(t, encoder(func(dst []byte, v reflect.Value) ([]byte, error) {
		made.Wait()
		return e(dst, v)
	}))
	if taken {
		return standIn.(encoder)
	}
	e = newEncoder(t)
	made.Done()
	encoders.Store(t, e)
	return e
}

func newEncoder(t reflect.Type) encoder {
	switch methodOf(t, encodes) {
	case generated:
		return encodeGenerated
	case timestamp:
		return func(dst []byte, v reflect.Value) ([]byte, error) {
			return msgp.AppendTimeExt(dst, v.Interface().(time.Time)), nil
		}
	case binary:
		return encodeBinary
	case text:
		return encodeText
	}
	return newKindEncoder(t)
}

func newKindEncoder(t reflect.Type) encoder {
	switch t.Kind() {
	case reflect.Bool:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return msgp.AppendBool(dst, v.Bool()), nil }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return msgp.AppendInt64(dst, v.Int()), nil }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return msgp.AppendUint64(dst, v.Uint()), nil }
	case reflect.Float32:
		return func(dst []byte, v reflect.Value) ([]byte, error) {
			return msgp.AppendFloat32(dst, float32(v.Float())), nil
		}
	case reflect.Float64:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return msgp.AppendFloat64(dst, v.Float()), nil }
	case reflect.String:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return appendString(dst, v.String()) }
	case reflect.Interface:
		return func(dst []byte, v reflect.Value) ([]byte, error) { return appendAny(dst, v.Interface()) }
	case reflect.Pointer:
		return newPointerEncoder(t)
	case reflect.Slice, reflect.Array:
		return newListEncoder(t)
	case reflect.Map:
		return newMapEncoder(t)
	case reflect.Struct:
		return newStructEncoder(t)
	}
	return func(dst []byte, _ reflect.Value) ([]byte, error) {
		return dst, fmt.Errorf("%v cannot be encoded", t)
	}
}

// addressed returns a pointer to v, or to a copy of it.
func addressed(v reflect.Value) any {
	if !v.CanAddr() {
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		v = p.Elem()
	}
	return v.Addr().Interface()
}

func encodeGenerated(dst []byte, v reflect.Value) ([]byte, error) {
	return addressed(v).(msgp.Marshaler).MarshalMsg(dst)
}

func encodeBinary(dst []byte, v reflect.Value) ([]byte, error) {
	data, err := addressed(v).(encoding.BinaryMarshaler).MarshalBinary()
	if err == nil {
		err = checkLen(len(data))
	}
	if err != nil {
		return dst, fmt.Errorf("%v: %w", v.Type(), err)
	}
	return msgp.AppendBytes(dst, data), nil
}

func encodeText(dst []byte, v reflect.Value) ([]byte, error) {
	data, err := addressed(v).(encoding.TextMarshaler).MarshalText()
	if err == nil {
		err = checkLen(len(data))
	}
	if err != nil {
		return dst, fmt.Errorf("%v: %w", v.Type(), err)
	}
	return msgp.AppendStringFromBytes(dst, data), nil
}

func newPointerEncoder(t reflect.Type) encoder {
	elem := encoderOf(t.Elem())
	return func(dst []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			return msgp.AppendNil(dst), nil
		}
		return elem(dst, v.Elem())
	}
}

// isBytes reports whether the slice or array t travels as bytes.
func isBytes(t reflect.Type) bool {
	return t.Elem().Kind() == reflect.Uint8 && methodOf(t.Elem(), encodes) == 0
}

func newListEncoder(t reflect.Type) encoder {
	if isBytes(t) {
		return encodeBytes
	}
	elem := encoderOf(t.Elem())
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		if v.Kind() == reflect.Slice && v.IsNil() {
			return msgp.AppendNil(dst), nil
		}
		if err := checkLen(v.Len()); err != nil {
			return dst, err
		}
		dst = msgp.AppendArrayHeader(dst, uint32(v.Len()))
		for i := range v.Len() {
			if dst, err = elem(dst, v.Index(i)); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
}

func encodeBytes(dst []byte, v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return msgp.AppendNil(dst), nil
	}
	if err := checkLen(v.Len()); err != nil {
		return dst, err
	}
	if v.Kind() == reflect.Slice || v.CanAddr() {
		return msgp.AppendBytes(dst, v.Bytes()), nil
	}
	dst = msgp.AppendBytesHeader(dst, uint32(v.Len()))
	for i := range v.Len() {
		dst = append(dst, byte(v.Index(i).Uint()))
	}
	return dst, nil
}

func newMapEncoder(t reflect.Type) encoder {
	if t == anyMap {
		return func(dst []byte, v reflect.Value) ([]byte, error) {
			return appendMap(dst, v.Interface().(map[string]any))
		}
	}
	encodeKey, encodeElem := encoderOf(t.Key()), encoderOf(t.Elem())
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		if v.IsNil() {
			return msgp.AppendNil(dst), nil
		}
		if err := checkLen(v.Len()); err != nil {
			return dst, err
		}
		dst = msgp.AppendMapHeader(dst, uint32(v.Len()))
		key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		for it := v.MapRange(); it.Next(); {
			key.SetIterKey(it)
			elem.SetIterValue(it)
			if dst, err = encodeKey(dst, key); err != nil {
				return dst, err
			}
			if dst, err = encodeElem(dst, elem); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
}
