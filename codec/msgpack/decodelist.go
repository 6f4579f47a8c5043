package msgpack

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tinylib/msgp/msgp"
)

func newPointerDecoder(t reflect.Type) decoder {
	elem := decoderOf(t.Elem())
	return func(data []byte, v reflect.Value) ([]byte, error) {
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		return elem(data, v.Elem())
	}
}

func newSliceDecoder(t reflect.Type) decoder {
	if isBytes(t) {
		return decodeBytes
	}
	elem := decoderOf(t.Elem())
	return func(data []byte, v reflect.Value) ([]byte, error) {
		n, data, err := msgp.ReadArrayHeaderBytes(data)
		if err != nil {
			return nil, wrong(v, err)
		}
		list := reflect.MakeSlice(t, int(n), int(n))
		for i := range int(n) {
			if data, err = elem(data, list.Index(i)); err != nil {
				return nil, err
			}
		}
		v.Set(list)
		return data, nil
	}
}

func decodeBytes(data []byte, v reflect.Value) ([]byte, error) {
	b, rest, err := readBytes(data)
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetBytes(b)
	return rest, nil
}

// readBytes returns a copy, which is never nil.
func readBytes(data []byte) ([]byte, []byte, error) {
	b, rest, err := msgp.ReadBytesZC(data)
	return append(make([]byte, 0, len(b)), b...), rest, err
}

func newArrayDecoder(t reflect.Type) decoder {
	if isBytes(t) {
		return decodeByteArray
	}
	elem := decoderOf(t.Elem())
	return func(data []byte, v reflect.Value) ([]byte, error) {
		n, data, err := msgp.ReadArrayHeaderBytes(data)
		if err == nil {
			err = checkRoom(v, int64(n))
		}
		if err != nil {
			return nil, wrong(v, err)
		}
		v.SetZero()
		for i := range int(n) {
			if data, err = elem(data, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return data, nil
	}
}

// checkRoom refuses what does not fit into the array v.
func checkRoom(v reflect.Value, n int64) error {
	if n > int64(v.Len()) {
		return fmt.Errorf("%d elements do not fit", n)
	}
	return nil
}

func decodeByteArray(data []byte, v reflect.Value) ([]byte, error) {
	b, rest, err := msgp.ReadBytesZC(data)
	if err == nil {
		err = checkRoom(v, int64(len(b)))
	}
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetZero()
	copy(v.Bytes(), b)
	return rest, nil
}

func newMapDecoder(t reflect.Type) decoder {
	if t == anyMap {
		return decodeAnyMap
	}
	decodeKey, decodeElem := decoderOf(t.Key()), decoderOf(t.Elem())
	return func(data []byte, v reflect.Value) ([]byte, error) {
		n, data, err := msgp.ReadMapHeaderBytes(data)
		if err != nil {
			return nil, wrong(v, err)
		}
		if v.IsNil() {
			v.Set(reflect.MakeMapWithSize(t, int(n)))
		}
		key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		for range n {
			key.SetZero()
			elem.SetZero()
			if data, err = decodeKey(data, key); err != nil {
				return nil, err
			}
			if !key.Comparable() {
				return nil, wrong(v, errors.New("a key that cannot be compared"))
			}
			if data, err = decodeElem(data, elem); err != nil {
				return nil, err
			}
			v.SetMapIndex(key, elem)
		}
		return data, nil
	}
}

// fieldDecoder decodes one field of a struct.
type fieldDecoder struct {
	index  []int
	decode decoder
}

func newStructDecoder(t reflect.Type) decoder {
	fields, err := fieldsOf(t)
	if err != nil {
		return func([]byte, reflect.Value) ([]byte, error) { return nil, err }
	}
	decoders := make(map[string]*fieldDecoder, len(fields))
	for _, f := range fields {
		decoders[f.name] = &fieldDecoder{index: f.index, decode: decoderOf(f.typ)}
	}
	return func(data []byte, v reflect.Value) ([]byte, error) {
		n, data, err := msgp.ReadMapHeaderBytes(data)
		if err != nil {
			return nil, wrong(v, err)
		}
		for range n {
			name, rest, err := msgp.ReadStringZC(data)
			if err != nil {
				return nil, wrong(v, err)
			}
			if f := decoders[string(name)]; f != nil {
				data, err = f.decodeIn(rest, v)
			} else {
				data, err = msgp.Skip(rest)
			}
			if err != nil {
				return nil, err
			}
		}
		return data, nil
	}
}

// decodeIn decodes into the field of the struct v.
func (f *fieldDecoder) decodeIn(data []byte, v reflect.Value) ([]byte, error) {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return nil, fmt.Errorf("into %v: an embedded pointer that is not exported", v.Type())
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return f.decode(data, v)
}
