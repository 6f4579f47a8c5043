package arpc_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

func serve(t testing.TB, opts ...arpc.Option) (*arpc.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := arpc.NewServer(opts...)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return s, ln.Addr().String()
}

func dial(t testing.TB, addr string, opts ...arpc.Option) *arpc.Client {
	t.Helper()
	c, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, opts...)
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

func BenchmarkEcho100(b *testing.B) {
	s, addr := serve(b)
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	c := dial(b, addr)
	body := bytes.Repeat([]byte("x"), 128)
	b.ReportAllocs()
	var wg sync.WaitGroup
	n := b.N / 100
	b.ResetTimer()
	for range 100 {
		wg.Go(func() {
			req := body
			var rsp []byte
			for range n + 1 {
				if err := c.Call("/echo", &req, &rsp, 5*time.Second); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
