package buffstreams_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

func TestMessagesOfAllConnections(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		const conns, messages = 5, 300
		l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{})
		require.NoError(t, err)
		var all sync.WaitGroup
		all.Go(func() { // dials block until the listener serves, over TLS
			for id := range conns {
				c := w.connect(t, buffstreams.ConnConfig{})
				all.Go(func() {
					for n := range messages {
						c.Send(background, fmt.Appendf(nil, "%d %d", id, n))
					}
					for range messages {
						if _, err := c.Receive(background); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
		})
		var seen [conns]int
		total := 0
		for m, err := range l.Messages(t.Context()) {
			require.NoError(t, err)
			var id, n int
			fmt.Sscan(string(m.Data), &id, &n)
			require.Equal(t, seen[id], n)
			seen[id]++
			require.NoError(t, m.Conn.Send(t.Context(), m.Data))
			if total++; total == conns*messages {
				go l.Shutdown(background)
			}
		}
		all.Wait()
		require.Equal(t, conns*messages, total)
		require.NoError(t, l.Wait())
	})
}

// Connections that have more to say wait, and end with the loop.
func TestLeavingTheLoopClosesTheListener(t *testing.T) {
	w := tcp(t)
	l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{})
	require.NoError(t, err)
	var conns []*buffstreams.Conn
	for range 5 {
		c := w.connect(t, buffstreams.ConnConfig{})
		sendAll(t, c, numbered("message", 1000))
		conns = append(conns, c)
	}
	n := 0
	for _, err := range l.Messages(t.Context()) {
		require.NoError(t, err)
		if n++; n == 1500 {
			break
		}
	}
	require.NoError(t, l.Wait())
	require.Zero(t, l.Stats().Conns)
	for _, c := range conns {
		_, err := c.Receive(t.Context())
		require.Error(t, err)
	}
	for _, err := range l.Messages(t.Context()) {
		require.ErrorContains(t, err, "started before")
	}
}

func TestMessagesLoopEndsWithItsContext(t *testing.T) {
	w := memory()
	l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{})
	require.NoError(t, err)
	sendAll(t, w.connect(t, buffstreams.ConnConfig{}), []string{"a"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for m, err := range l.Messages(ctx) {
		if last = err; err == nil {
			require.Equal(t, "a", string(m.Data))
			cancel()
		}
	}
	require.ErrorIs(t, last, context.Canceled)
	require.ErrorIs(t, l.Wait(), context.Canceled)
}

func TestMessagesNeedsThatThereIsNoCallback(t *testing.T) {
	l, err := buffstreams.NewListener(memory().ln, buffstreams.ListenerConfig{Callback: ignore})
	require.NoError(t, err)
	for _, err := range l.Messages(t.Context()) {
		require.ErrorContains(t, err, "none for Messages")
	}
	require.NoError(t, l.Close())
	for _, err := range l.Messages(t.Context()) {
		require.Error(t, err)
	}

	l, err = buffstreams.NewListener(memory().ln, buffstreams.ListenerConfig{})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for _, err := range l.Messages(t.Context()) {
		require.ErrorIs(t, err, buffstreams.ErrClosed)
	}
}

// A loop whose body panics leaves nothing behind.
func TestPanicInTheLoopClosesTheListener(t *testing.T) {
	w := tcp(t)
	l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{})
	require.NoError(t, err)
	sendAll(t, w.connect(t, buffstreams.ConnConfig{}), numbered("message", 100))
	require.PanicsWithValue(t, "on purpose", func() {
		for range l.Messages(t.Context()) {
			panic("on purpose")
		}
	})
	require.NoError(t, l.Wait())
}

// One bad peer ends its own connection, with what it has sent before handled.
func TestBadPeerEndsItsOwnConnection(t *testing.T) {
	w := tcp(t)
	l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{})
	require.NoError(t, err)
	bad, err := w.dial()
	require.NoError(t, err)
	defer bad.Close()
	_, err = bad.Write(append(frames("before"), 0xff, 0xff, 0xff))
	require.NoError(t, err)
	for m, err := range l.Messages(t.Context()) {
		require.NoError(t, err)
		if string(m.Data) == "before" {
			sendAll(t, w.connect(t, buffstreams.ConnConfig{}), []string{"good"})
			continue
		}
		require.Equal(t, "good", string(m.Data))
		_, err := bad.Read(make([]byte, 1))
		require.Error(t, err)
		break
	}
}
