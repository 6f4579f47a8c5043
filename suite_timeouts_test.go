package arpc_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// A peer that takes nothing for the write timeout is given up.
func TestSuiteWriteTimeout(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		suiteSilence(p)
		start := time.Now()
		require.NoError(t, p.Client.Notify("/n", make([]byte, 1<<20), arpc.TimeForever))
		<-p.Client.Done()
		require.Equal(t, 5*time.Second, time.Since(start))
		require.ErrorContains(t, p.Client.Err(), "WithWriteTimeout")
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(p.Client.Err()))
	}, arpctest.ClientOptions(suiteNoKeepalive, suiteNoReconnect, arpc.WithWriteTimeout(5*time.Second)))
}

// A peer that takes something now and then is not.
func TestSuiteWriteTimeoutSlowPeer(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		got := make(chan int, 1)
		p.Server.Handler.Handle("/n", func(ctx *arpc.Context) { got <- len(ctx.Body()) })
		arpctest.FaultsOf(p.Client.Conn()).Delay(4 * time.Second) // 64 KiB in four seconds
		require.NoError(t, p.Client.Notify("/n", make([]byte, 1<<20), arpc.TimeForever))
		require.Equal(t, 1<<20, suiteNextOrEnd(got, p.Client))
		require.NoError(t, p.Client.Err())
	}, arpctest.ClientOptions(suiteNoKeepalive, suiteNoReconnect, arpc.WithWriteTimeout(5*time.Second)))
}

// suiteNextOrEnd is for bubbles, where a client that ends is all that can fail.
func suiteNextOrEnd(ch <-chan int, c *arpc.Client) int {
	select {
	case n := <-ch:
		return n
	case <-c.Done():
		return -1
	}
}

// suiteFrame is a request as it goes over the wire.
func suiteFrame(c *arpc.Client, method string, body []byte) []byte {
	return c.NewMessage(arpc.CmdRequest, method, body).Buffer
}

// suiteRaw connects to the server without a client.
func suiteRaw(t testing.TB, p *arpctest.Pair) net.Conn {
	t.Helper()
	nc, err := p.Dialer()()
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	return nc
}

// suiteWriteSlowly writes b, n bytes at a time, with a pause before each.
func suiteWriteSlowly(nc net.Conn, b []byte, n int, pause time.Duration) error {
	for len(b) > 0 {
		time.Sleep(pause)
		n := min(n, len(b))
		if _, err := nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// A frame that is begun and not completed in time ends its connection; a peer
// between two frames may take as long as it likes.
func TestSuiteReadTimeout(t *testing.T) {
	const timeout = 5 * time.Second
	for name, begun := range map[string]int{"a byte": 1, "the header": 16, "all but a byte": 999} {
		t.Run(name, func(t *testing.T) {
			suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
				nc := suiteRaw(t, p)
				frame := suiteFrame(p.Client, "/echo", make([]byte, 1000))
				reply := make([]byte, len(frame))
				for range 2 {
					time.Sleep(time.Hour)
					require.NoError(t, suiteWriteSlowly(nc, frame, 1+len(frame)/4, timeout/6))
					_, err := nc.Read(reply)
					require.NoError(t, err)
				}
				time.Sleep(time.Hour)
				start := time.Now()
				_, err := nc.Write(frame[:begun])
				require.NoError(t, err)
				_, err = nc.Read(reply)
				require.Error(t, err)
				require.Equal(t, timeout, time.Since(start))
				suiteAlive(t, p)
			}, arpctest.ServerOptions(arpc.WithReadTimeout(timeout)))
		})
	}
}

// A large frame has the time anew for each 64 KiB, but not for each byte.
func TestSuiteReadTimeoutLargeFrame(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		nc := suiteRaw(t, p)
		frame := suiteFrame(p.Client, "/size", make([]byte, 1<<20))
		p.Server.Handler.Handle("/size", func(ctx *arpc.Context) { ctx.Write(len(ctx.Body())) })
		require.NoError(t, suiteWriteSlowly(nc, frame, 64<<10, 4*time.Second))
		reply := make([]byte, 100)
		n, err := nc.Read(reply)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(reply[:n]), "1048576"))

		require.Error(t, suiteWriteSlowly(nc, frame, 1<<10, time.Second), "1 KiB each second is too slow")
	}, arpctest.ServerOptions(arpc.WithReadTimeout(5*time.Second)))
}

// Timeouts of zero are none.
func TestSuiteNoTimeouts(t *testing.T) {
	off := []arpc.Option{suiteNoKeepalive, arpc.WithReadTimeout(0), arpc.WithWriteTimeout(0)}
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		nc := suiteRaw(t, p)
		frame := suiteFrame(p.Client, "/echo", make([]byte, 10))
		require.NoError(t, suiteWriteSlowly(nc, frame, 1, time.Hour))
		_, err := nc.Read(make([]byte, len(frame)))
		require.NoError(t, err)

		suiteSilence(p)
		call := suiteAsync(t, p.Client, "/later", make([]byte, 1<<20))
		time.Sleep(suitePatience / 2)
		conn := p.Client.Conn()
		arpctest.FaultsOf(conn).Resume()
		arpctest.FaultsOf(p.Peer().Conn()).Resume()
		require.ErrorIs(t, (<-call).err, arpc.ErrMethodNotFound)
		require.Same(t, conn, p.Client.Conn())
	}, arpctest.ClientOptions(off...), arpctest.ServerOptions(off...))
}
