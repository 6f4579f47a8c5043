package buffstreams_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// Senders on one connection that do nothing but send. Beside it what a write for
// each message would take, under a lock as senders share the connection.
func BenchmarkOneWay(b *testing.B) {
	message := make([]byte, 110)
	for _, senders := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			w, received := counting(b)
			c := w.connect(b, buffstreams.ConnConfig{})
			b.ResetTimer()
			share(b, senders, func() error { return c.Send(context.Background(), message) })
			<-received
		})
		b.Run(fmt.Sprintf("senders=%d/a write each", senders), func(b *testing.B) {
			w, received := counting(b)
			nc, err := w.dial()
			require.NoError(b, err)
			defer nc.Close()
			frame := frames(string(message))
			var mu sync.Mutex
			b.ResetTimer()
			share(b, senders, func() error {
				mu.Lock()
				defer mu.Unlock()
				_, err := nc.Write(frame)
				return err
			})
			<-received
		})
	}
}

// counting serves, and closes received when b.N messages have come.
func counting(b *testing.B) (w wire, received chan struct{}) {
	w, received = tcp(b), make(chan struct{})
	n := 0
	w.listen(b, buffstreams.ListenerConfig{Callback: func([]byte) error {
		if n++; n == b.N {
			close(received)
		}
		return nil
	}})
	return w, received
}

// share has b.N things done by a number of goroutines.
func share(b *testing.B, goroutines int, do func() error) {
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := g; i < b.N; i += goroutines {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// A client that has many questions under way, answered by a Handler.
func BenchmarkAnswers(b *testing.B) {
	const ahead = 256
	w := tcp(b)
	w.listen(b, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
		return c.Send(ctx, message)
	}})
	c := w.connect(b, buffstreams.ConnConfig{})
	message := make([]byte, 110)
	b.ResetTimer()
	sent := 0
	for ; sent < min(ahead, b.N); sent++ {
		require.NoError(b, c.Send(b.Context(), message))
	}
	received := 0
	for _, err := range c.Messages(context.Background()) {
		require.NoError(b, err)
		if received++; received == b.N {
			break
		}
		if sent < b.N {
			sent++
			require.NoError(b, c.Send(context.Background(), message))
		}
	}
}
