package msgpack

import (
	"fmt"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// writer writes what one message carries.
type writer struct {
	left int // values that may still come
}

// appendMap appends a map at a depth.
func (w *writer) appendMap(b []byte, pairs map[any]any, depth int) (_ []byte, err error) {
	b = msgp.AppendMapHeader(b, uint32(len(pairs)))
	for key, value := range pairs {
		if b, err = w.append(b, key, depth+1); err != nil {
			return nil, err
		}
		if b, err = w.append(b, value, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// append appends any value.
func (w *writer) append(b []byte, v any, depth int) ([]byte, error) {
	switch w.left--; {
	case w.left < 0:
		return nil, errTooMany
	case depth > MaxDepth:
		return nil, errTooDeep
	}
	switch v := v.(type) {
	case time.Time:
		return msgp.AppendTimeExt(b, v), nil
	case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, string, []byte:
		return msgp.AppendIntf(b, v)
	case []any:
		return w.appendList(b, v, depth)
	case map[any]any:
		return w.appendMap(b, v, depth)
	case map[string]any:
		return w.appendMap(b, anyKeys(v), depth)
	case map[string]string:
		return w.appendMap(b, anyKeys(v), depth)
	default:
		return nil, fmt.Errorf("a value of type %T", v)
	}
}

func (w *writer) appendList(b []byte, list []any, depth int) (_ []byte, err error) {
	b = msgp.AppendArrayHeader(b, uint32(len(list)))
	for _, v := range list {
		if b, err = w.append(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func anyKeys[V any](named map[string]V) map[any]any {
	pairs := make(map[any]any, len(named))
	for name, v := range named {
		pairs[name] = v
	}
	return pairs
}
