package arpc_test

import (
	"io"
	"net"
	"testing"

	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// oldPong is what a peer of version 1 answers a hello with.
var oldPong = wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", "")

// oldPeer returns a dialer for one connection, and its other end: a peer of
// version 1 that has answered the hello, and has read nothing.
func oldPeer(t testing.TB, opts ...memconn.Option) (dialer func() (net.Conn, error), far net.Conn) {
	near, far := memconn.Pipe(opts...)
	_, err := far.Write(oldPong)
	require.NoError(t, err)
	return func() (net.Conn, error) { return near, nil }, far
}

// answerHello reads the hello of a client of ours and answers as a peer of
// version 1 does.
func answerHello(t testing.TB, nc net.Conn) {
	t.Helper()
	b := make([]byte, wire.HeaderLen)
	_, err := io.ReadFull(nc, b)
	require.NoError(t, err)
	h := wire.ParseHeader(b)
	require.Equal(t, wire.Header{Cmd: wire.CmdPing, BodyLen: h.BodyLen}, h)
	b = make([]byte, h.BodyLen)
	_, err = io.ReadFull(nc, b)
	require.NoError(t, err)
	require.True(t, wire.IsHello(b))
	_, err = nc.Write(oldPong)
	require.NoError(t, err)
}
