package msgpack

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/tinylib/msgp/msgp"
)

var (
	errNoPayload = errors.New("msgpack: the message ends within its method or metadata")

	errTooMany  = errors.New("too many values (msgpack.WithMaxValues)")
	errTooDeep  = fmt.Errorf("values nested more than %d deep", MaxDepth)
	errTrailing = errors.New("bytes follow it")
	errNoBody   = errors.New("it has no Body")
	errKey      = errors.New("a key is a list or a map")
)

// reader reads what one message carries. Nothing is allocated for what is not there.
type reader struct {
	left int // values that may still come
}

// envelope parses the map. The body is a view of b.
func (r *reader) envelope(b []byte) (body []byte, values map[any]any, err error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, nil, err
	}
	found := false
	for range n {
		var name []byte
		if name, b, err = msgp.ReadStringZC(b); err != nil {
			return nil, nil, err
		}
		switch string(name) {
		case "Body":
			found = true
			body, b, err = readBody(b)
		case "Values":
			values, b, err = r.values(b)
		default:
			b, err = msgp.Skip(b)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	switch {
	case len(b) > 0:
		return nil, nil, errTrailing
	case !found:
		return nil, nil, errNoBody
	}
	return body, values, nil
}

func readBody(b []byte) (body, rest []byte, err error) {
	switch msgp.NextType(b) {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(b)
		return nil, rest, err
	case msgp.StrType:
		return msgp.ReadStringZC(b)
	}
	return msgp.ReadBytesZC(b)
}

func (r *reader) values(b []byte) (values map[any]any, rest []byte, err error) {
	if msgp.IsNil(b) {
		rest, err = msgp.ReadNilBytes(b)
		return nil, rest, err
	}
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, nil, err
	}
	return r.pairs(b, n, 0)
}

// pairs reads n keys and values.
func (r *reader) pairs(b []byte, n uint32, depth int) (pairs map[any]any, rest []byte, err error) {
	pairs = make(map[any]any)
	for range n {
		var key, value any
		if key, b, err = r.value(b, depth+1); err != nil {
			return nil, nil, err
		}
		switch key.(type) {
		case []byte, []any, map[any]any, map[string]any:
			return nil, nil, errKey
		}
		if value, b, err = r.value(b, depth+1); err != nil {
			return nil, nil, err
		}
		pairs[key] = value
	}
	return pairs, b, nil
}

// value reads any value.
func (r *reader) value(b []byte, depth int) (v any, rest []byte, err error) {
	switch r.left--; {
	case r.left < 0:
		return nil, nil, errTooMany
	case depth > MaxDepth:
		return nil, nil, errTooDeep
	}
	switch msgp.NextType(b) {
	case msgp.MapType:
		return r.mapping(b, depth)
	case msgp.ArrayType:
		return r.list(b, depth)
	}
	return scalar(b)
}

func scalar(b []byte) (v any, rest []byte, err error) {
	switch t := msgp.NextType(b); t {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(b)
		return nil, rest, err
	case msgp.IntType, msgp.UintType:
		return integer(b)
	case msgp.BoolType:
		return boxed(msgp.ReadBoolBytes(b))
	case msgp.Float32Type:
		return boxed(msgp.ReadFloat32Bytes(b))
	case msgp.Float64Type:
		return boxed(msgp.ReadFloat64Bytes(b))
	case msgp.StrType:
		return boxed(msgp.ReadStringBytes(b))
	case msgp.TimeType, msgp.ExtensionType: // NextType may not see which it is at the end of b
		return boxed(msgp.ReadTimeUTCBytes(b))
	case msgp.BinType:
		v, rest, err := msgp.ReadBytesZC(b)
		return bytes.Clone(v), rest, err
	case msgp.InvalidType:
		return nil, nil, msgp.ErrShortBytes
	default:
		return nil, nil, fmt.Errorf("a value of type %v", t)
	}
}

func boxed[T any](v T, rest []byte, err error) (any, []byte, error) { return v, rest, err }

func integer(b []byte) (any, []byte, error) {
	if msgp.NextType(b) == msgp.IntType {
		return boxed(msgp.ReadInt64Bytes(b))
	}
	n, rest, err := msgp.ReadUint64Bytes(b)
	if n <= math.MaxInt64 {
		return int64(n), rest, err
	}
	return n, rest, err
}

func (r *reader) list(b []byte, depth int) (any, []byte, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return nil, nil, err
	}
	var list []any
	for range n {
		var v any
		if v, b, err = r.value(b, depth+1); err != nil {
			return nil, nil, err
		}
		list = append(list, v)
	}
	return list, b, nil
}

// mapping reads a map, which is one of strings if all keys are.
func (r *reader) mapping(b []byte, depth int) (any, []byte, error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, nil, err
	}
	pairs, b, err := r.pairs(b, n, depth)
	if err != nil {
		return nil, nil, err
	}
	named := make(map[string]any, len(pairs))
	for key, value := range pairs {
		name, ok := key.(string)
		if !ok {
			return pairs, b, nil
		}
		named[name] = value
	}
	return named, b, nil
}
