package buffstreams_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// frames makes the bytes of messages, for peers with the default MaxMessageSize.
func frames(messages ...string) (b []byte) {
	for _, message := range messages {
		header := make([]byte, 3)
		binary.PutVarint(header, int64(len(message)))
		b = append(append(b, header...), message...)
	}
	return b
}

func TestReceiveReturnsMessagesInOrder(t *testing.T) {
	c, far := pipe(t, buffstreams.ConnConfig{}, func(f arpctest.Faults) { f.Split(7) })
	want := append(numbered("message", 50), "", strings.Repeat("long", 1024))
	_, err := far.Write(frames(want...))
	require.NoError(t, err)
	require.NoError(t, far.Close())
	for _, message := range want {
		got, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, message, string(got))
	}
	for range 2 {
		_, err = c.Receive(t.Context())
		require.ErrorIs(t, err, io.EOF)
	}
	require.Equal(t, uint64(len(want)), c.Stats().Received)
}

func TestMessagesLoopEndsWithTheConnection(t *testing.T) {
	for name, end := range map[string]struct {
		how func(net.Conn)
		err error
	}{
		"closed":           {func(far net.Conn) { far.Close() }, nil},
		"cut":              {func(far net.Conn) { arpctest.FaultsOf(far).Cut() }, syscall.ECONNRESET},
		"within a header":  {func(far net.Conn) { far.Write([]byte{10}); far.Close() }, io.ErrUnexpectedEOF},
		"within a message": {func(far net.Conn) { far.Write(frames("message")[:8]); far.Close() }, io.ErrUnexpectedEOF},
		"nonsense":         {func(far net.Conn) { far.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, buffstreams.ErrMalformed},
		"too large":        {func(far net.Conn) { far.Write([]byte{0xfe, 0xff, 0x7f}) }, buffstreams.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			c, far := pipe(t, buffstreams.ConnConfig{})
			_, err := far.Write(frames("a", "b"))
			require.NoError(t, err)
			var got []string
			var last error
			for message, err := range c.Messages(t.Context()) {
				if err != nil {
					last = err
					continue
				}
				if got = append(got, string(message)); len(got) == 2 {
					end.how(far)
				}
			}
			require.Equal(t, []string{"a", "b"}, got)
			require.ErrorIs(t, last, end.err)
			require.Error(t, c.Err())
			_, err = far.Write([]byte("more"))
			require.Error(t, err, "the connection is closed")
		})
	}
}

func TestLeavingTheLoopLosesNothing(t *testing.T) {
	c, far := pipe(t, buffstreams.ConnConfig{})
	want := numbered("message", 10)
	_, err := far.Write(frames(want...))
	require.NoError(t, err)
	for _, message := range want {
		for got, err := range c.Messages(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, message, string(got))
			break
		}
	}
}

// A context that ends interrupts one call, also within a message.
func TestEndOfAContextLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		l := w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
			return c.Send(ctx, message)
		}})
		c := w.connect(t, buffstreams.ConnConfig{})
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := c.Receive(ctx)
				ended <- err
			}()
			if i%2 == 0 {
				cancel()
			}
			time.AfterFunc(time.Duration(i)*100*time.Microsecond, cancel)
			require.ErrorIs(t, next(t, "Receive", ended), context.Canceled)
			sendAll(t, c, []string{"question"})
			answer, err := c.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, "question", string(answer))
		}
		require.Equal(t, uint64(1), l.Stats().Accepted)
	})
}

func TestEndOfAContextWithinAMessageLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := pipe(t, buffstreams.ConnConfig{})
		whole := frames("some message")
		for _, b := range whole[:len(whole)-1] {
			_, err := far.Write([]byte{b})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = c.Receive(ctx)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		_, err := far.Write(whole[len(whole)-1:])
		require.NoError(t, err)
		message, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "some message", string(message))
	})
}

func TestReadCopiesAMessage(t *testing.T) {
	c, far := pipe(t, buffstreams.ConnConfig{})
	_, err := far.Write(frames("first", "", "second"))
	require.NoError(t, err)
	b := make([]byte, 5)
	n, err := c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "first", string(b[:n]))
	n, err = c.Read(b)
	require.NoError(t, err)
	require.Zero(t, n)
	for range 2 {
		_, err = c.Read(b)
		require.ErrorIs(t, err, io.ErrShortBuffer)
		require.ErrorContains(t, err, "a message of 6 bytes does not fit into 5")
	}
	b = make([]byte, 100)
	n, err = c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "second", string(b[:n]))
	require.Equal(t, uint64(3), c.Stats().Received)
}

// Several readers share the messages of a connection.
func TestReadersTakeTurns(t *testing.T) {
	c, far := pipe(t, buffstreams.ConnConfig{})
	in := newInbox()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			b := make([]byte, 100)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				in.add(b[:n])
			}
		})
	}
	want := numbered("message", 200)
	_, err := far.Write(frames(want...))
	require.NoError(t, err)
	require.ElementsMatch(t, want, in.wait(t, len(want)))
	far.Close()
	all.Wait()
}

// A reader sees the connection after the next too.
func TestReceiveGoesOnAfterAReopen(t *testing.T) {
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
		return c.Send(ctx, message)
	}})
	c := w.connect(t, buffstreams.ConnConfig{})
	answers := make(chan string)
	go func() {
		defer close(answers)
		for message, err := range c.Messages(background) {
			if err != nil {
				return
			}
			answers <- string(message)
		}
	}()
	for range 5 {
		sendAll(t, c, []string{"question"})
		require.Equal(t, "question", next(t, "answer", answers))
		require.NoError(t, c.Reopen())
	}
	require.NoError(t, c.Close())
	_, open := <-answers
	require.False(t, open)
}

func TestReceiveWithRetryWaitsForTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		near, far := arpctest.Pipe()
		c, err := buffstreams.NewConn(near, buffstreams.ConnConfig{
			Retry: buffstreams.Retry{Attempts: buffstreams.Forever},
			Dial: func(context.Context) (net.Conn, error) {
				if dials.Add(1) < 3 {
					return nil, errDown
				}
				near, far := arpctest.Pipe()
				_, err := far.Write(frames("answer"))
				return near, err
			},
		})
		require.NoError(t, err)
		closeLater(t, c)
		arpctest.FaultsOf(far).Cut()
		sendAll(t, c, []string{"question"})
		synctest.Wait()
		message, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "answer", string(message))
		require.Equal(t, int64(3), dials.Load())
	})
}
