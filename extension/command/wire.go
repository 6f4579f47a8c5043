package command

import (
	"errors"
	"io"
	"reflect"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
)

// A message of a stream begins with a byte that says what the rest is. Each end sends
// messages of its own kinds only.
const (
	kindCommand = iota // the command, the only message of the client
	kindMore           // a result
	kindLast           // a result, behind which nothing comes
	kindEnd            // nothing: all results were sent
	kindFailed         // the text of an error, to a peer of version 1 of the wire
)

// encode makes a message of a value, which travels as the payload of a request does:
// strings and bytes raw, the rest through the codec.
func encode(c codec.Codec, kind byte, v any) ([]byte, error) {
	b := []byte{kind}
	switch v := v.(type) {
	case []byte:
		return append(b, v...), nil
	case string:
		return append(b, v...), nil
	case None:
		return b, nil
	}
	b, err := codec.MarshalAppend(c, b, v)
	if err != nil {
		return nil, arpc.Errorf(arpc.CodeInternal, "command: encode %T: %w", v, err)
	}
	return b, nil
}

// decode stores what encode made of a value, without the kind, where target points to.
// Bytes are not copied.
func decode(c codec.Codec, data []byte, target any) error {
	switch v := target.(type) {
	case *[]byte:
		*v = data
		return nil
	case *string:
		*v = string(data)
		return nil
	case *None:
		return nil
	}
	err := c.Unmarshal(data, target)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF): // which is the end of a stream
		return arpc.Errorf(arpc.CodeInternal, "command: decode %T: %v", target, err)
	}
	return arpc.Errorf(arpc.CodeInternal, "command: decode %T: %w", target, err)
}

// fresh returns what a new V is decoded into, and taken the V behind it. A V that is a
// pointer is decoded into what it points to.
func fresh[V any]() (target any) {
	if t := reflect.TypeFor[V](); t.Kind() == reflect.Pointer {
		return reflect.New(t.Elem()).Interface()
	}
	return new(V)
}

func taken[V any](target any) V {
	if p, ok := target.(*V); ok {
		return *p
	}
	return target.(V)
}

// decodeNew returns a new V from what encode made of it, without the kind.
func decodeNew[V any](c codec.Codec, data []byte) (V, error) {
	target := fresh[V]()
	err := decode(c, data, target)
	return taken[V](target), err
}
