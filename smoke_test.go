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

func TestSmoke(t *testing.T) {
	s, addr := serve(t)
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	s.Handler.Handle("/back", func(ctx *arpc.Context) {
		var rsp string
		err := ctx.Client.Call("/cli", "x", &rsp, time.Second)
		if err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write(rsp)
	})
	s.Handler.HandleStream("/st", func(st *arpc.Stream) {
		for b, err := range st.RecvSeq() {
			if err != nil {
				return
			}
			st.Send(append([]byte("re:"), b...))
		}
	})
	c := dial(t, addr)
	c.Handler.Handle("/cli", func(ctx *arpc.Context) { ctx.Write("from client") })
	var rsp string
	require.NoError(t, c.Call("/echo", "hello", &rsp, time.Second))
	require.Equal(t, "hello", rsp)
	require.NoError(t, c.Call("/back", nil, &rsp, time.Second))
	require.Equal(t, "from client", rsp)
	err := c.Call("/nope", nil, &rsp, time.Second)
	require.ErrorIs(t, err, arpc.ErrMethodNotFound)
	st, err := c.OpenStream(t.Context(), "/st")
	require.NoError(t, err)
	require.NoError(t, st.Send("one"))
	require.NoError(t, st.Recv(&rsp))
	require.Equal(t, "re:one", rsp)
	require.NoError(t, st.CloseSend())
	require.Error(t, st.Recv(&rsp))

	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var out []byte
	require.NoError(t, c.Call("/echo", big, &out, 5*time.Second))
	require.True(t, bytes.Equal(big, out))
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
