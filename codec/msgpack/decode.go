package msgpack

import (
	"encoding"
	"fmt"
	"reflect"
	"sync"

	"github.com/tinylib/msgp/msgp"
)

// decoder sets v, which is of the type that the decoder is for, to the value at
// the start of data, and returns what follows it. A nil sets interfaces, pointers,
// slices and maps to nil and leaves other values as they are.
type decoder func(data []byte, v reflect.Value) ([]byte, error)

var decoders sync.Map // of reflect.Type to decoder

// decoderOf returns the decoder for t. While it is made, a decoder that waits for
// it stands in: a type may hold itself.
func decoderOf(t reflect.Type) decoder {
	if d, ok := decoders.Load(t); ok {
		return d.(decoder)
	}
	var made sync.WaitGroup
	var d decoder
	made.Add(1)
	standIn, taken := decoders.LoadOrStore(t, decoder(func(data []byte, v reflect.Value) ([]byte, error) {
		made.Wait()
		return d(data, v)
	}))
	if taken {
		return standIn.(decoder)
	}
	d = newDecoder(t)
	made.Done()
	decoders.Store(t, d)
	return d
}

func newDecoder(t reflect.Type) decoder {
	switch methodOf(t, decodes) {
	case generated:
		return orNil(decodeGenerated)
	case timestamp:
		return orNil(decodeTime)
	case binary:
		return orNil(decodeBinary)
	case text:
		return orNil(decodeText)
	}
	switch t.Kind() {
	case reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Map:
		return orZero(newKindDecoder(t))
	}
	return orNil(newKindDecoder(t))
}

// orNil leaves the value as it is for nil.
func orNil(decode decoder) decoder {
	return func(data []byte, v reflect.Value) ([]byte, error) {
		if msgp.IsNil(data) {
			return data[1:], nil
		}
		return decode(data, v)
	}
}

// orZero sets the value to zero for nil.
func orZero(decode decoder) decoder {
	return func(data []byte, v reflect.Value) ([]byte, error) {
		if msgp.IsNil(data) {
			v.SetZero()
			return data[1:], nil
		}
		return decode(data, v)
	}
}

func newKindDecoder(t reflect.Type) decoder {
	switch t.Kind() {
	case reflect.Bool:
		return decodeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return decodeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return decodeUint
	case reflect.Float32, reflect.Float64:
		return decodeFloat
	case reflect.String:
		return decodeString
	case reflect.Interface:
		return decodeInterface
	case reflect.Pointer:
		return newPointerDecoder(t)
	case reflect.Slice:
		return newSliceDecoder(t)
	case reflect.Array:
		return newArrayDecoder(t)
	case reflect.Map:
		return newMapDecoder(t)
	case reflect.Struct:
		return newStructDecoder(t)
	}
	return func([]byte, reflect.Value) ([]byte, error) {
		return nil, fmt.Errorf("%v cannot be decoded into", t)
	}
}

// wrong is the error for a value that v cannot take.
func wrong(v reflect.Value, err error) error {
	return fmt.Errorf("into %v: %w", v.Type(), err)
}

func decodeGenerated(data []byte, v reflect.Value) ([]byte, error) {
	rest, err := v.Addr().Interface().(msgp.Unmarshaler).UnmarshalMsg(data)
	if err != nil {
		return nil, wrong(v, err)
	}
	return rest, nil
}

func decodeTime(data []byte, v reflect.Value) ([]byte, error) {
	t, rest, err := msgp.ReadTimeUTCBytes(data)
	if err != nil {
		return nil, wrong(v, err)
	}
	v.Set(reflect.ValueOf(t))
	return rest, nil
}

func decodeBinary(data []byte, v reflect.Value) ([]byte, error) {
	b, rest, err := msgp.ReadBytesZC(data)
	if err == nil {
		err = v.Addr().Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(b)
	}
	if err != nil {
		return nil, wrong(v, err)
	}
	return rest, nil
}

func decodeText(data []byte, v reflect.Value) ([]byte, error) {
	b, rest, err := msgp.ReadStringZC(data)
	if err == nil {
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(b)
	}
	if err != nil {
		return nil, wrong(v, err)
	}
	return rest, nil
}

func decodeBool(data []byte, v reflect.Value) ([]byte, error) {
	b, rest, err := msgp.ReadBoolBytes(data)
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetBool(b)
	return rest, nil
}

func decodeInt(data []byte, v reflect.Value) ([]byte, error) {
	n, rest, err := msgp.ReadInt64Bytes(data)
	if err == nil && v.OverflowInt(n) {
		err = fmt.Errorf("%d does not fit", n)
	}
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetInt(n)
	return rest, nil
}

func decodeUint(data []byte, v reflect.Value) ([]byte, error) {
	n, rest, err := msgp.ReadUint64Bytes(data)
	if err == nil && v.OverflowUint(n) {
		err = fmt.Errorf("%d does not fit", n)
	}
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetUint(n)
	return rest, nil
}

func decodeFloat(data []byte, v reflect.Value) ([]byte, error) {
	f, rest, err := readFloat(data)
	if err == nil && v.OverflowFloat(f) {
		err = fmt.Errorf("%v does not fit", f)
	}
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetFloat(f)
	return rest, nil
}

// readFloat reads an integer, too: some encoders write 1.0 as 1.
func readFloat(data []byte) (float64, []byte, error) {
	switch msgp.NextType(data) {
	case msgp.IntType:
		n, rest, err := msgp.ReadInt64Bytes(data)
		return float64(n), rest, err
	case msgp.UintType:
		n, rest, err := msgp.ReadUint64Bytes(data)
		return float64(n), rest, err
	}
	return msgp.ReadFloat64Bytes(data)
}

func decodeString(data []byte, v reflect.Value) ([]byte, error) {
	s, rest, err := msgp.ReadStringBytes(data)
	if err != nil {
		return nil, wrong(v, err)
	}
	v.SetString(s)
	return rest, nil
}
