package buffstreams_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// A peer that reads nothing: the queue is bounded, Send waits for its context,
// and nothing that was accepted is lost.
func TestFullQueueHoldsSendersUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 32 << 10
		in := newInbox()
		w := memory()
		w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
		c := w.connect(t, buffstreams.ConnConfig{SendQueue: bound, WriteTimeout: time.Minute})
		arpctest.FaultsOf(c.NetConn()).Stall()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var want []string
		var err error
		for i := 0; err == nil; i++ {
			message := fmt.Sprintf("%d%s", i, strings.Repeat(".", 1000))
			if err = c.Send(ctx, []byte(message)); err == nil {
				want = append(want, message)
			}
		}
		require.ErrorIs(t, err, buffstreams.ErrQueueFull)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "SendQueue is 32768 bytes")
		require.Equal(t, time.Second, sinceStart(t, ctx))
		require.LessOrEqual(t, c.Stats().Queued, bound)
		require.Greater(t, c.Stats().Queued, bound-2000)

		canceled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, c.Send(canceled, make([]byte, 1000)), context.Canceled)

		arpctest.FaultsOf(c.NetConn()).Resume()
		require.NoError(t, c.Send(t.Context(), []byte("last")))
		require.Equal(t, append(want, "last"), in.wait(t, len(want)+1))
	})
}

// sinceStart returns how long ago a context with a timeout of a second was made.
func sinceStart(t *testing.T, ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	require.True(t, ok)
	return time.Since(deadline) + time.Second
}

func TestWriteWaitsForRoomAsLongAsTheWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := pipe(t, buffstreams.ConnConfig{SendQueue: 512 << 10, WriteTimeout: time.Second})
		reader := readSlowly(far, 900*time.Millisecond) // so that the connection lives
		defer reader.Wait()
		var err error
		var before time.Time
		for err == nil {
			before = time.Now()
			_, err = c.Write(make([]byte, 4096))
		}
		require.ErrorIs(t, err, buffstreams.ErrQueueFull)
		require.ErrorContains(t, err, "WriteTimeout 1s")
		require.Equal(t, time.Second, time.Since(before))
		far.Close()
	})
}

// readSlowly reads a chunk now and then, until it fails.
func readSlowly(nc net.Conn, pause time.Duration) *sync.WaitGroup {
	var done sync.WaitGroup
	done.Go(func() {
		for b := make([]byte, 64<<10); ; {
			time.Sleep(pause)
			if _, err := io.ReadFull(nc, b); err != nil {
				return
			}
		}
	})
	return &done
}

func TestMessageLargerThanTheQueuePassesAlone(t *testing.T) {
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add, MaxMessageSize: 1 << 20})
	c := w.connect(t, buffstreams.ConnConfig{SendQueue: 1000, MaxMessageSize: 1 << 20})
	large := strings.Repeat("large", 100_000)
	sendAll(t, c, []string{"small", large, large, "small"})
	require.Equal(t, []string{"small", large, large, "small"}, in.wait(t, 4))
}

// A peer that takes nothing for the WriteTimeout loses its connection, and what was
// queued is accounted for.
func TestStalledPeerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := newInbox()
		c, _ := pipe(t, buffstreams.ConnConfig{WriteTimeout: 5 * time.Second, Undelivered: lost.undelivered},
			func(f arpctest.Faults) { f.Stall() })
		start := time.Now()
		large := strings.Repeat("x", 4000)
		for range 30 {
			require.NoError(t, c.Send(t.Context(), []byte(large)))
		}
		lost.wait(t, 1)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.ErrorContains(t, c.Err(), "the peer takes no bytes (WriteTimeout 5s)")
		err := c.Send(t.Context(), []byte("more"))
		require.ErrorIs(t, err, buffstreams.ErrNotConnected)
		require.ErrorContains(t, err, "WriteTimeout 5s")
		synctest.Wait()
		stats := c.Stats()
		require.Equal(t, 30, int(stats.Sent+stats.Undelivered))
		require.Len(t, lost.all(), int(stats.Undelivered))
		require.Zero(t, stats.Queued)
	})
}

// A connection cut after any number of bytes: each message is sent, or handed over,
// or its Send failed, and the peer has got exactly those that were sent.
func TestEveryMessageIsAccountedForWhereverTheConnectionIsCut(t *testing.T) {
	sizes := []int{0, 1, 2, 50, 3, 0, 400, 10}
	total := 0
	for _, size := range sizes {
		total += 3 + size
	}
	for cut := range total + 1 {
		lost := newInbox()
		c, far := pipe(t, buffstreams.ConnConfig{Undelivered: lost.undelivered}, func(f arpctest.Faults) { f.CutAfter(int64(cut)) })
		var sent []string // or handed over
		for i, size := range sizes {
			message := strings.Repeat(fmt.Sprint(i), size)
			if c.Send(t.Context(), []byte(message)) == nil {
				sent = append(sent, message)
			}
		}
		require.NoError(t, c.Close(), "there is a callback for what was not sent")
		<-c.Done()
		got := receiveAll(t, far)
		require.Equal(t, sent, append(got, lost.all()...), "cut after %d bytes", cut)
		stats := c.Stats()
		require.Len(t, got, int(stats.Sent))
		require.Len(t, lost.all(), int(stats.Undelivered))
	}
}

// receiveAll returns what comes until the end, whichever it is.
func receiveAll(t testing.TB, nc net.Conn) (got []string) {
	t.Helper()
	c, err := buffstreams.NewConn(nc, buffstreams.ConnConfig{})
	require.NoError(t, err)
	defer c.Close()
	for message, err := range c.Messages(background) {
		if err == nil {
			got = append(got, string(message))
		}
	}
	return got
}

// Without a callback the same is told by an error, once, and counts.
func TestLostMessagesAreReportedOnce(t *testing.T) {
	for name, ask := range map[string]func(*buffstreams.Conn) error{
		"Send":     func(c *buffstreams.Conn) error { return c.Send(background, []byte("more")) },
		"Write":    func(c *buffstreams.Conn) error { _, err := c.Write([]byte("more")); return err },
		"Flush":    func(c *buffstreams.Conn) error { return c.Flush(background) },
		"Close":    (*buffstreams.Conn).Close,
		"Shutdown": func(c *buffstreams.Conn) error { return c.Shutdown(background) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				down := &brokenConn{fail: make(chan struct{})}
				down.Conn, _ = arpctest.Pipe()
				c, err := buffstreams.NewConn(down, buffstreams.ConnConfig{})
				require.NoError(t, err)
				closeLater(t, c)
				sendAll(t, c, numbered("message", 20))
				close(down.fail)
				synctest.Wait()
				require.Equal(t, 20, int(c.Stats().Undelivered))
				err = ask(c)
				var undelivered *buffstreams.UndeliveredError
				require.ErrorAs(t, err, &undelivered)
				require.Equal(t, 20, undelivered.Messages)
				require.ErrorIs(t, err, errDown)
				require.ErrorContains(t, err, "20 messages that were queued were not sent: ")
				err = ask(c)
				require.False(t, errors.As(err, &undelivered))
			})
		})
	}
}

// brokenConn has its writes wait, and then fail.
type brokenConn struct {
	net.Conn
	fail chan struct{}
}

func (c *brokenConn) Write([]byte) (int, error) {
	<-c.fail
	return 0, errDown
}

func TestFlushWaitsUntilAllIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := pipe(t, buffstreams.ConnConfig{}, func(f arpctest.Faults) { f.Stall() })
		require.NoError(t, c.Flush(t.Context()), "there is nothing")
		for range 40 { // more than the pipe holds
			require.NoError(t, c.Send(t.Context(), make([]byte, 4000)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Flush(ctx), context.DeadlineExceeded)
		arpctest.FaultsOf(c.NetConn()).Resume()
		go io.Copy(io.Discard, far)
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, buffstreams.Stats{Sent: 40}, c.Stats())
	})
}
