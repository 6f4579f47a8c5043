package arpc_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A predecessor left the delay of small segments on.
func TestRow40_SocketsSendWithoutDelay(t *testing.T) {
	ln := rowTCP(t)
	s := rowServe(t, ln)
	s.Handler.Handle("/echo", rowEcho)
	c := rowDial(t, func() (net.Conn, error) {
		nc, err := ln.Dial()
		if err == nil {
			err = nc.(*net.TCPConn).SetNoDelay(false)
		}
		return nc, err
	})
	require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
	for name, nc := range map[string]net.Conn{"dialled": c.Conn(), "accepted": rowClient(t, s).Conn()} {
		raw, err := nc.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		var on int
		var optErr error
		require.NoError(t, raw.Control(func(fd uintptr) {
			on, optErr = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
		}))
		require.NoError(t, optErr)
		require.NotZero(t, on, name)
	}
}
