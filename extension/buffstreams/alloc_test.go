//go:build !race

package buffstreams_test

import (
	"context"
	"testing"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// Messages of a sender that does nothing but send allocate nothing at either end.
func TestAllocSend(t *testing.T) {
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: ignore})
	c := w.connect(t, buffstreams.ConnConfig{})
	message := make([]byte, 110)
	require.Zero(t, testing.AllocsPerRun(100_000, func() {
		if err := c.Send(background, message); err != nil {
			t.Error(err)
		}
	}))
	require.NoError(t, c.Flush(t.Context()))
	require.Zero(t, testing.AllocsPerRun(100_000, func() {
		if _, err := c.Write(message); err != nil {
			t.Error(err)
		}
	}))
}

// Nor do messages that go one at a time, with their answers.
func TestAllocAnswer(t *testing.T) {
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
		return c.SendKind(ctx, 300, message)
	}})
	c := w.connect(t, buffstreams.ConnConfig{})
	message, answer := make([]byte, 110), make([]byte, 200)
	require.Zero(t, testing.AllocsPerRun(2000, func() {
		if err := c.Send(background, message); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(answer); err != nil || n != 112 {
			t.Error(n, err)
		}
	}))
}

// A connection that waits holds no buffers, at either end.
func TestIdleConnectionsHoldNoBuffers(t *testing.T) {
	const conns = 300
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add, MaxMessageSize: 1 << 20})
	before := held()
	for range conns {
		c := w.connect(t, buffstreams.ConnConfig{MaxMessageSize: 1 << 20})
		for range 3 {
			require.NoError(t, c.Send(t.Context(), make([]byte, 1000)))
		}
	}
	in.wait(t, 3*conns)
	in.mu.Lock()
	in.messages = nil
	in.mu.Unlock()
	require.Less(t, (held()-before)/conns, int64(10<<10))
}
