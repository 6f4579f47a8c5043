package cbor_test

import (
	"bytes"
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec/cbor"
)

func spec() arpctest.CodecSpec {
	return arpctest.CodecSpec{
		Cannot:         []string{"not UTF-8"},
		SelfDelimiting: true,
		Nested: func(n int) []byte {
			return append(bytes.Repeat([]byte{0x81}, n-1), 0x80)
		},
	}
}

func TestConformance(t *testing.T) {
	arpctest.Codec(t, cbor.Codec{}, spec())
}
