package protobuf_test

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec/protobuf"
)

func Example() {
	server := arpc.NewServer(arpc.WithCodec(protobuf.Codec{}))
	defer server.Stop()
	fmt.Println(server.Codec.(protobuf.Codec).Name())
	// Output:
	// protobuf
}

func ExampleCodec() {
	data, err := protobuf.Codec{}.Marshal(durationpb.New(90 * time.Second))
	fmt.Printf("%x %v\n", data, err)

	var d durationpb.Duration
	err = protobuf.Codec{}.Unmarshal(data, &d)
	fmt.Println(d.AsDuration(), err)

	_, err = protobuf.Codec{}.Marshal(90 * time.Second)
	fmt.Println(err)
	// Output:
	// 085a <nil>
	// 1m30s <nil>
	// encode protobuf: time.Duration is no proto.Message
}

func ExampleWithDeterministic() {
	c := protobuf.New(protobuf.WithDeterministic())
	data, err := c.Marshal(wrapperspb.String("x"))
	fmt.Printf("%x %v\n", data, err)
	// Output:
	// 0a0178 <nil>
}

func ExampleWithMaxDepth() {
	v, err := structpb.NewValue([]any{[]any{[]any{"deep"}}})
	if err == nil {
		_, err = protobuf.New(protobuf.WithMaxDepth(5)).Marshal(v)
	}
	fmt.Println(err)
	// Output:
	// encode protobuf: *structpb.Value is cyclic, or nests deeper than the limit of 5 (WithMaxDepth)
}
