package cbor_test

import (
	"fmt"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec/cbor"
)

func Example() {
	server := arpc.NewServer(arpc.WithCodec(cbor.Codec{}))
	defer server.Stop()
	fmt.Println(server.Codec.(cbor.Codec).Name())
	// Output:
	// cbor
}

func ExampleCodec() {
	type point struct {
		X    int    `cbor:"x"`
		Y    int    `cbor:"y"`
		Blob []byte `cbor:"blob,omitempty"`
	}
	data, err := cbor.Codec{}.Marshal(point{X: 1, Y: -2})
	fmt.Printf("%x %v\n", data, err)

	var v any
	err = cbor.Codec{}.Unmarshal(data, &v)
	fmt.Println(v, err)
	// Output:
	// a2617801617921 <nil>
	// map[x:1 y:-2] <nil>
}

func ExampleWithDeterministic() {
	c := cbor.New(cbor.WithDeterministic())
	data, err := c.Marshal(map[string]float64{"bb": 1.5, "a": 2, "c": 0.1})
	fmt.Printf("%x %v\n", data, err)
	// Output:
	// a36161f940006163fb3fb999999999999a626262f93e00 <nil>
}

func ExampleWithMaxDepth() {
	c := cbor.New(cbor.WithMaxDepth(4))
	var v any
	err := c.Unmarshal([]byte{0x81, 0x81, 0x81, 0x81, 0x80}, &v)
	fmt.Println(err)
	// Output:
	// decode CBOR: cbor: exceeded max nested level 4 (WithMaxDepth)
}

func ExampleWithMaxElements() {
	c := cbor.New(cbor.WithMaxElements(16))
	data, err := c.Marshal(make([]int, 17))
	if err == nil {
		err = c.Unmarshal(data, new([]int))
	}
	fmt.Println(err)
	// Output:
	// decode CBOR: cbor: exceeded max number of elements 16 for CBOR array (WithMaxElements)
}
