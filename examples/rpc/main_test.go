package main

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `hello, gopher
1 + 2 + 3 = 6
/goodbye: method not found (code Unimplemented)
`, out.String())
}

// The shortest program of all, with arguments by pointer, must go on working as
// it is written in the README.
func TestQuickStart(t *testing.T) {
	server := arpc.NewServer()
	server.Handler.Handle("/echo", func(ctx *arpc.Context) {
		text := ""
		if err := ctx.Bind(&text); err == nil {
			ctx.Write(text)
		}
	})
	t.Cleanup(server.Stop)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go server.Serve(ln)

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), time.Second*3)
	})
	require.NoError(t, err)
	defer client.Stop()

	req, rsp := "hello", ""
	require.NoError(t, client.Call("/echo", &req, &rsp, time.Second*5))
	require.Equal(t, "hello", rsp)
}
