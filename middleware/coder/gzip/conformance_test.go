package gzip_test

import (
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

func TestConformance(t *testing.T) {
	arpctest.Coder(t, func() arpc.MessageCoder { return gzip.New(gzip.WithThreshold(0)) }, spec(t))
}

func spec(tb testing.TB) arpctest.CoderSpec {
	return arpctest.CoderSpec{
		Checked: true,
		Bomb:    func(n int64) []byte { return bomb(tb, uint32(n)) }, // which is always 1 GiB
	}
}

// FuzzCoder is the fuzz target of the conformance kit.
func FuzzCoder(f *testing.F) {
	arpctest.FuzzCoder(f, func() arpc.MessageCoder { return gzip.New(gzip.WithThreshold(0)) }, spec(f))
}
