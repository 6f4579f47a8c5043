package memconn_test

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/arpc-go/arpc/internal/memconn"
)

// BenchmarkThroughput writes at one end and reads at the other.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{128, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, r := memconn.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for p, err := make([]byte, 64<<10), error(nil); err == nil; {
					_, err = r.Read(p)
				}
			}()
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				w.Write(p)
			}
			w.Close()
			<-done
		})
	}
}

// BenchmarkBothWays is BenchmarkThroughput with both directions at work.
func BenchmarkBothWays(b *testing.B) {
	for _, size := range []int{128, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			near, far := memconn.Pipe()
			var wg sync.WaitGroup
			for _, c := range []*memconn.Conn{near, far} {
				wg.Go(func() { io.CopyBuffer(io.Discard, onlyReader{c}, make([]byte, 64<<10)) })
			}
			p := make([]byte, size)
			wg.Go(func() {
				for err := error(nil); err == nil; {
					_, err = far.Write(p)
				}
			})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				near.Write(p)
			}
			near.Close()
			far.Close()
			wg.Wait()
		})
	}
}

// BenchmarkRoundTrip is one message there and one back.
func BenchmarkRoundTrip(b *testing.B) {
	near, far := memconn.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(far, onlyReader{far})
	}()
	p := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		near.Write(p)
		io.ReadFull(near, p)
	}
	near.Close()
	<-done
}

// BenchmarkPipe makes a connection that carries one small message.
func BenchmarkPipe(b *testing.B) {
	p := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		w, r := memconn.Pipe()
		w.Write(p)
		r.Read(p)
	}
}
