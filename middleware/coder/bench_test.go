package coder_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// compressors are what docs/CODERS.md compares.
var compressors = []struct {
	name  string
	coder arpc.MessageCoder
}{
	{"s2-1", s2.New()},
	{"s2-2", s2.New(s2.WithLevel(2))},
	{"s2-3", s2.New(s2.WithLevel(3))},
	{"zstd-1", zstd.New()},
	{"zstd-3", zstd.New(zstd.WithLevel(3))},
	{"zstd-6", zstd.New(zstd.WithLevel(6))},
	{"zstd-10", zstd.New(zstd.WithLevel(10))},
	{"gzip-1", gzip.New()},
	{"gzip-6", gzip.New(gzip.WithLevel(6))},
}

// BenchmarkEncode is what compression costs the sender, and how long the message is
// afterwards, as a part of what it was.
func BenchmarkEncode(b *testing.B) {
	for _, c := range compressors {
		for _, n := range []int{2 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", c.name, n>>10), func(b *testing.B) {
				frame := codertest.Frame(codertest.Orders(n))
				var m arpc.Message
				buf := make([]byte, len(frame))
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				for b.Loop() {
					m.Buffer = append(buf[:0], frame...)
					c.coder.Encode(nil, &m)
				}
				b.ReportMetric(float64(m.Len())/float64(len(frame)), "ratio")
			})
		}
	}
}

// BenchmarkDecode is what it costs the receiver.
func BenchmarkDecode(b *testing.B) {
	for _, c := range compressors {
		for _, n := range []int{2 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", c.name, n>>10), func(b *testing.B) {
				frame := codertest.Frame(codertest.Orders(n))
				packed := c.coder.Encode(nil, codertest.Message(frame)).Buffer
				var m arpc.Message
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				for b.Loop() {
					m.Buffer = packed
					_, err := c.coder.(arpc.CheckedDecoder).DecodeChecked(nil, &m)
					require.NoError(b, err)
				}
			})
		}
	}
}
