package protobuf_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/codec/protobuf"
	"github.com/arpc-go/arpc/codec/protobuf/internal/testpb"
)

// official is the codec without the methods of vtprotobuf.
type official struct{}

func (official) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }

func (official) MarshalAppend(dst []byte, v any) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(dst, v.(proto.Message))
}

func (official) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

var (
	benchmarked = map[string]codec.Codec{"vtprotobuf": protobuf.Codec{}, "protobuf": official{}}

	order = &testpb.All{
		Int32: 123456, String_: "the quick brown fox", Strings: []string{"a", "bb", "ccc"}, Double: 3.25,
		Parts: []*testpb.Part{{Name: "x"}, {Name: "y"}}, Bytes: []byte{0, 1, 255},
	}
)

func BenchmarkMarshal(b *testing.B) {
	for name, c := range benchmarked {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Marshal(order); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMarshalAppend(b *testing.B) {
	for name, c := range benchmarked {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := codec.MarshalAppend(c, buf, order); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	data, err := proto.Marshal(order)
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range benchmarked {
		b.Run(name, func(b *testing.B) {
			into := new(testpb.All)
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := c.Unmarshal(data, into); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
