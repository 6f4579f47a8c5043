package msgpack_test

import (
	"bytes"
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec/msgpack"
)

func spec() arpctest.CodecSpec {
	return arpctest.CodecSpec{
		SelfDelimiting: true,
		Nested: func(n int) []byte {
			return append(bytes.Repeat([]byte{0x91}, n-1), 0x90)
		},
	}
}

func TestConformance(t *testing.T) {
	arpctest.Codec(t, msgpack.Codec{}, spec())
}
