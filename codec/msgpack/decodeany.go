package msgpack

import (
	"fmt"
	"math"
	"reflect"

	"github.com/tinylib/msgp/msgp"
)

// decodeInterface decodes into what v points to, if it holds a pointer, and else
// makes a new value.
func decodeInterface(data []byte, v reflect.Value) ([]byte, error) {
	if held := v.Elem(); held.Kind() == reflect.Pointer && !held.IsNil() {
		return decoderOf(held.Type().Elem())(data, held.Elem())
	}
	if v.NumMethod() > 0 {
		return nil, fmt.Errorf("into %v: an interface with methods", v.Type())
	}
	content, rest, err := readAny(data)
	if err != nil {
		return nil, err
	}
	if content == nil {
		v.SetZero()
	} else {
		v.Set(reflect.ValueOf(content))
	}
	return rest, nil
}

// readAny reads the value at the start of data.
func readAny(data []byte) (any, []byte, error) {
	switch t := msgp.NextType(data); t {
	case msgp.NilType:
		rest, err := msgp.ReadNilBytes(data)
		return nil, rest, err
	case msgp.BoolType:
		return anyOf(msgp.ReadBoolBytes(data))
	case msgp.IntType:
		return anyOf(msgp.ReadInt64Bytes(data))
	case msgp.UintType:
		n, rest, err := msgp.ReadUint64Bytes(data)
		if n > math.MaxInt64 {
			return n, rest, err
		}
		return int64(n), rest, err
	case msgp.Float32Type, msgp.Float64Type:
		return anyOf(msgp.ReadFloat64Bytes(data))
	case msgp.StrType:
		return anyOf(msgp.ReadStringBytes(data))
	case msgp.BinType:
		return anyOf(readBytes(data))
	case msgp.TimeType, msgp.ExtensionType: // which a time at the very end is taken for
		return anyOf(msgp.ReadTimeUTCBytes(data))
	case msgp.ArrayType:
		return anyOf(readList(data))
	case msgp.MapType:
		return anyOf(readMap(data, nil))
	default:
		return nil, nil, fmt.Errorf("into an interface: a value of type %v", t)
	}
}

func anyOf[T any](v T, rest []byte, err error) (any, []byte, error) {
	return v, rest, err
}

func readList(data []byte) ([]any, []byte, error) {
	n, data, err := msgp.ReadArrayHeaderBytes(data)
	if err != nil {
		return nil, nil, err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], data, err = readAny(data); err != nil {
			return nil, nil, err
		}
	}
	return list, data, nil
}

// anyMap needs no reflection.
var anyMap = reflect.TypeFor[map[string]any]()

func decodeAnyMap(data []byte, v reflect.Value) ([]byte, error) {
	m, rest, err := readMap(data, v.Interface().(map[string]any))
	if err != nil {
		return nil, err
	}
	if v.IsNil() {
		v.Set(reflect.ValueOf(m))
	}
	return rest, nil
}

// readMap adds the pairs to m, or to a new map if m is nil.
func readMap(data []byte, m map[string]any) (map[string]any, []byte, error) {
	n, data, err := msgp.ReadMapHeaderBytes(data)
	if err != nil {
		return nil, nil, fmt.Errorf("into map[string]any: %w", err)
	}
	if m == nil {
		m = make(map[string]any, n)
	}
	for range n {
		var name string
		if name, data, err = msgp.ReadStringBytes(data); err != nil {
			return nil, nil, fmt.Errorf("into map[string]any: a key: %w", err)
		}
		if m[name], data, err = readAny(data); err != nil {
			return nil, nil, err
		}
	}
	return m, data, nil
}
