package msgpack_test

import (
	"fmt"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec/msgpack"
)

func Example() {
	server := arpc.NewServer(arpc.WithCodec(msgpack.Codec{}))
	defer server.Stop()
	fmt.Println(server.Codec.(msgpack.Codec).Name())
	// Output:
	// msgpack
}

func ExampleCodec() {
	type point struct {
		X, Y int
		Name string `msgpack:"name,omitempty"`
	}
	data, err := msgpack.Codec{}.Marshal(point{X: 1, Y: -2, Name: "p"})
	fmt.Printf("%q %v\n", data, err)

	var v any
	err = msgpack.Codec{}.Unmarshal(data, &v)
	fmt.Println(v, err)

	var small struct{ X int8 }
	err = msgpack.Codec{}.Unmarshal([]byte("\x81\xa1X\xcd\x03\xe8"), &small)
	fmt.Println(err)
	// Output:
	// "\x83\xa1X\x01\xa1Y\xfe\xa4name\xa1p" <nil>
	// map[X:1 Y:-2 name:p] <nil>
	// decode MessagePack: into int8: 1000 does not fit
}

func ExampleWithMaxDepth() {
	c := msgpack.New(msgpack.WithMaxDepth(10))
	var v any
	err := c.Unmarshal([]byte("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x90"), &v)
	fmt.Println(err)
	// Output:
	// decode MessagePack: the payload nests deeper than the limit of 10 (WithMaxDepth)
}

func ExampleWithMaxElements() {
	c := msgpack.New(msgpack.WithMaxElements(2))
	var v []int
	err := c.Unmarshal([]byte("\x93\x01\x02\x03"), &v)
	fmt.Println(err)
	// Output:
	// decode MessagePack: 3 elements are over the limit of 2 (WithMaxElements)
}
