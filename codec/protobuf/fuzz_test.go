package protobuf_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/arpc-go/arpc/codec/protobuf"
	"github.com/arpc-go/arpc/codec/protobuf/internal/testpb"
)

// FuzzVTAgainstProtobuf decodes and encodes messages of vtprotobuf, and recursive
// ones, as google.golang.org/protobuf does. What both decode must be equal. A
// field of another type than it should have is an error to vtprotobuf, and an
// unknown field to the other.
func FuzzVTAgainstProtobuf(f *testing.F) {
	for _, m := range []proto.Message{sample(), treeOf(5), &testpb.Part{Name: "x"}, structpb.NewStringValue("x")} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte("\x4a\x01\xff"))                                     // not UTF-8
	f.Add([]byte("\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))     // more than 64 bits
	f.Add([]byte("\x82\x01\x06\x12\x01\x00\x0a\x01a\x82\x01\x00"))    // a map's value before its key
	f.Add([]byte("\x6a\x03\x01\x02\x80\x68\x05\x9a\x01\x00\xa3\x06")) // packed, not packed, oneof, group
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []proto.Message{&testpb.All{}, &testpb.Tree{}, &testpb.Part{}, &structpb.Value{}} {
			requireLikeProtobuf(t, data, m)
		}
	})
}

func requireLikeProtobuf(t *testing.T, data []byte, got proto.Message) {
	t.Helper()
	want := got.ProtoReflect().New().Interface()
	wantErr := proto.UnmarshalOptions{RecursionLimit: protobuf.DefaultMaxDepth}.Unmarshal(data, want)
	given := bytes.Clone(data)
	err := protobuf.Codec{}.Unmarshal(given, got)
	require.Equal(t, data, given, "Unmarshal changed the payload")
	for i := range given {
		given[i] = 0xff
	}
	if wantErr == nil && err == nil {
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(got), "%x", data)
	}
	if err != nil {
		return
	}
	encoded, err := protobuf.Codec{}.MarshalAppend([]byte("x"), got)
	require.NoError(t, err)
	back := got.ProtoReflect().New().Interface()
	require.NoError(t, protobuf.Codec{}.Unmarshal(encoded[1:], back))
	require.Equal(t, fmt.Sprint(got), fmt.Sprint(back), "%x", data)
}
