package buffstreams_test

import (
	"context"
	"net"
	"syscall"
	"testing"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// Nagle was on by default, batching off. For the latter see TestSendersShareWrites.
func TestRow40_SocketsSendWithoutDelay(t *testing.T) {
	w := tcp(t)
	conns := make(chan *buffstreams.Conn, 1)
	w.listen(t, buffstreams.ListenerConfig{Handler: func(_ context.Context, c *buffstreams.Conn, _ []byte) error {
		conns <- c
		return nil
	}})
	c := w.connect(t, buffstreams.ConnConfig{})
	sendAll(t, c, []string{"a"})
	for _, end := range []*buffstreams.Conn{c, next(t, "conn", conns)} {
		raw, err := end.NetConn().(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			on, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
			require.NoError(t, err)
			require.NotZero(t, on)
		}))
	}
}
