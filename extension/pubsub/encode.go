package pubsub

import (
	"bytes"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
)

// encode turns a value into the data of a message, as Client.Call does: nil is
// empty, strings, byte slices, errors and what buffers hold travel raw, the codec
// does the rest.
// The result may be v itself.
func encode(c codec.Codec, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	case *[]byte:
		if v == nil {
			return nil, nil
		}
		return *v, nil
	case *string:
		if v == nil {
			return nil, nil
		}
		return []byte(*v), nil
	case *bytes.Buffer:
		if v == nil {
			return nil, nil
		}
		return v.Bytes(), nil
	case error:
		return []byte(v.Error()), nil
	}
	data, err := c.Marshal(v)
	if err != nil {
		return nil, arpc.Unsent(arpc.Errorf(arpc.CodeInternal, "pubsub: encode %T: %w", v, err))
	}
	return data, nil
}

// decode stores data in the value that v points to. Nothing of data is kept.
func decode(c codec.Codec, data []byte, v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = append([]byte{}, data...)
		return nil
	case *string:
		*v = string(data)
		return nil
	case *bytes.Buffer:
		v.Reset()
		v.Write(data)
		return nil
	}
	if err := c.Unmarshal(data, v); err != nil {
		return arpc.Errorf(arpc.CodeInternal, "pubsub: decode %T: %w", v, err)
	}
	return nil
}
