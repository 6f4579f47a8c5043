package gzip_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

// BenchmarkEncode is what DefaultLevel was chosen by: ratio is the length of the
// frame as a part of what it was.
func BenchmarkEncode(b *testing.B) {
	for _, level := range []int{1, 3, 5, 9} {
		for name, payload := range map[string][]byte{"2KiB": orders(2 << 10), "64KiB": orders(64 << 10), "noise": noise(64 << 10)} {
			b.Run(fmt.Sprintf("level=%d/%s", level, name), func(b *testing.B) {
				coder := gzip.New(gzip.WithLevel(level))
				frame := frameOf(payload)
				var m arpc.Message
				buf := make([]byte, len(frame))
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				for b.Loop() {
					m.Buffer = append(buf[:0], frame...)
					coder.Encode(nil, &m)
				}
				b.ReportMetric(float64(m.Len())/float64(len(frame)), "ratio")
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, payload := range map[string][]byte{"2KiB": orders(2 << 10), "64KiB": orders(64 << 10)} {
		b.Run(name, func(b *testing.B) {
			coder := gzip.New()
			sealed := coder.Encode(nil, &arpc.Message{Buffer: frameOf(payload)}).Buffer
			var m arpc.Message
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				m.Buffer = sealed
				_, err := coder.DecodeChecked(nil, &m)
				require.NoError(b, err)
			}
		})
	}
}
