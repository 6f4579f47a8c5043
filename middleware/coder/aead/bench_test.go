package aead_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

var algorithms = map[string]aead.Key{"xchacha20-poly1305": key(1), "aes-256-gcm": gcm(1)}

// BenchmarkEncodeDecode is what a message costs both ends together.
func BenchmarkEncodeDecode(b *testing.B) {
	for name, k := range algorithms {
		for _, n := range []int{128, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				from, to := ends(b, k)
				sender, peer := codertest.Client(1<<20), codertest.Client(1<<20)
				frame := codertest.Frame(codertest.Noise(n))
				var m arpc.Message
				buf := make([]byte, len(frame))
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					m.Buffer = append(buf[:0], frame...)
					_, err := to.DecodeChecked(peer, from.Encode(sender, &m))
					require.NoError(b, err)
				}
			})
		}
	}
}

// BenchmarkSession is what WithMaxSessions says of the memory of a session, at the
// receiving end.
func BenchmarkSession(b *testing.B) {
	for name, k := range algorithms {
		b.Run(name, func(b *testing.B) {
			const sessions = 10_000
			frames := make([][]byte, sessions)
			for i := range frames {
				from, _ := ends(b, k)
				frames[i] = sealed(b, from, nil)
			}
			for b.Loop() {
				_, to := ends(b, k)
				before := heap()
				for _, frame := range frames {
					require.NotNil(b, to.Decode(nil, &arpc.Message{Buffer: append([]byte(nil), frame...)}))
				}
				b.ReportMetric(float64(heap()-before)/sessions, "bytes/session")
				runtime.KeepAlive(to)
			}
		})
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
