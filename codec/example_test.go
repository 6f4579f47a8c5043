package codec_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/arpc-go/arpc/codec"
)

func ExampleJSON() {
	type point struct {
		X int `json:"x"`
		Y int `json:"y"`
	}
	data, err := codec.JSON{}.Marshal(point{1, 2})
	fmt.Println(string(data), err)

	var p point
	err = codec.JSON{}.Unmarshal([]byte(`{"x":3,"y":4}`), &p)
	fmt.Println(p, err)

	err = codec.JSON{}.Unmarshal([]byte(`{"x":3} and more`), &p)
	fmt.Println(err)
	// Output:
	// {"x":1,"y":2} <nil>
	// {3 4} <nil>
	// decode JSON: invalid character 'a' after top-level value
}

// Errors are those of encoding/json, which tell what was wrong and where.
func ExampleJSON_Unmarshal_error() {
	var order struct {
		Items []struct {
			Count int32 `json:"count"`
		} `json:"items"`
	}
	err := codec.JSON{}.Unmarshal([]byte(`{"items":[{"count":5000000000}]}`), &order)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		fmt.Println(wrong.Field, "cannot be a", wrong.Value)
	}
	// Output:
	// items.count cannot be a number 5000000000
}

func ExampleSetCodec() {
	codec.SetCodec(codec.StdJSON{})
	defer codec.SetCodec(codec.JSON{})

	data, err := codec.DefaultCodec.Marshal(map[string]int{"b": 2, "a": 1})
	fmt.Println(string(data), err)
	// Output:
	// {"a":1,"b":2} <nil>
}

// Raw takes what is bytes already, and refuses the rest.
func ExampleRaw() {
	data, err := codec.Raw{}.Marshal(netip.MustParseAddr("192.0.2.1"))
	fmt.Println(data, err)

	var addr netip.Addr
	err = codec.Raw{}.Unmarshal(data, &addr)
	fmt.Println(addr, err)

	_, err = codec.Raw{}.Marshal(struct{ X int }{1})
	fmt.Println(err)
	// Output:
	// [192 0 2 1] <nil>
	// 192.0.2.1 <nil>
	// encode raw: struct { X int } is neither bytes nor a string nor an encoding.BinaryMarshaler
}

// A codec that can append spares an allocation and a copy.
func ExampleMarshalAppend() {
	frame := append(make([]byte, 0, 64), "head:"...)
	frame, err := codec.MarshalAppend(codec.JSON{}, frame, []string{"a", "b"})
	fmt.Println(string(frame), err)
	// Output:
	// head:["a","b"] <nil>
}

// Gob is a codec of a few lines around a library.
type Gob struct{}

func (Gob) Name() string { return "gob" }

func (Gob) Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	err := gob.NewEncoder(&buf).Encode(v)
	return buf.Bytes(), err
}

func (Gob) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

func ExampleCodec() {
	var c codec.Codec = Gob{}
	data, err := c.Marshal([]string{"any", "library", "fits"})
	if err != nil {
		fmt.Println(err)
		return
	}
	var words []string
	err = c.Unmarshal(data, &words)
	fmt.Println(codec.Name(c), words, err)
	// Output:
	// gob [any library fits] <nil>
}
