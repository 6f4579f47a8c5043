package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"

	theirs "github.com/StabbyCutyou/buffstreams"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// These tests run github.com/StabbyCutyou/buffstreams 2.0.0 against
// extension/buffstreams, in both roles. They keep to what that library can do: one
// goroutine writes on a connection of its, a listener is closed once, after it has
// received something on each connection, and its port stays taken until the process
// ends.

// maxSizes have headers of all lengths that are used.
var maxSizes = []int{0, 1, 100, 127, 128, 255, 256, 4096, 65535, 65536, 1 << 20}

// messagesOf returns messages of many sizes up to the limit.
func messagesOf(limit int) (list []string) {
	if limit == 0 {
		limit = buffstreams.DefaultMaxMessageSize
	}
	sizes := []int{0, 1, 63, 64, 110, 127, 128, limit / 2, limit - 1, limit, 0}
	for range 50 {
		sizes = append(sizes, rand.IntN(min(limit, 3000)+1))
	}
	for i, size := range sizes {
		if size <= limit {
			list = append(list, string(bytes.Repeat([]byte{byte(i)}, size)))
		}
	}
	return list
}

// eachSize runs a test with each of maxSizes.
func eachSize(t *testing.T, test func(t *testing.T, limit int)) {
	for _, limit := range maxSizes {
		t.Run(fmt.Sprint(limit), func(t *testing.T) { test(t, limit) })
	}
}

// mailbox is a callback and what it has got.
func mailbox() (callback func([]byte) error, messages chan string) {
	messages = make(chan string, 10_000)
	return func(b []byte) error {
		messages <- string(b)
		return nil
	}, messages
}

func requireMessages(t *testing.T, want []string, messages <-chan string) {
	t.Helper()
	for i, message := range want {
		require.Equal(t, message, receive(t, messages), "number %d", i)
	}
}

// listenOurs serves on a free port.
func listenOurs(t *testing.T, cfg buffstreams.ListenerConfig) *buffstreams.Listener {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	l, err := buffstreams.Listen(cfg)
	require.NoError(t, err)
	require.NoError(t, l.StartListeningAsync())
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.NoError(t, l.Wait())
	})
	return l
}

func connectOurs(t *testing.T, address string, limit int) *buffstreams.Conn {
	t.Helper()
	c, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{Address: address, MaxMessageSize: limit})
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return c
}

// listenTheirs looks for a free port, as theirs cannot be asked for its own.
func listenTheirs(t *testing.T, limit int, callback theirs.ListenCallback) (address string, l *theirs.TCPListener) {
	t.Helper()
	for {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address = free.Addr().String()
		free.Close()
		l, err = theirs.ListenTCP(theirs.TCPListenerConfig{Address: address, MaxMessageSize: limit, Callback: callback})
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, l.StartListeningAsync())
		return address, l
	}
}

func connectTheirs(t *testing.T, address string, limit int) *theirs.TCPConn {
	t.Helper()
	c, err := theirs.DialTCP(&theirs.TCPConnConfig{Address: address, MaxMessageSize: limit})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestBuffStreamsWritesToOurListener(t *testing.T) {
	eachSize(t, func(t *testing.T, limit int) {
		callback, messages := mailbox()
		l := listenOurs(t, buffstreams.ListenerConfig{MaxMessageSize: limit, Callback: callback})
		c := connectTheirs(t, l.Addr().String(), limit)
		want := messagesOf(limit)
		for _, message := range want {
			_, err := c.Write([]byte(message))
			require.NoError(t, err)
		}
		requireMessages(t, want, messages)
	})
}

func TestOurConnWritesToBuffStreams(t *testing.T) {
	eachSize(t, func(t *testing.T, limit int) {
		callback, messages := mailbox()
		address, l := listenTheirs(t, limit, callback)
		c := connectOurs(t, address, limit)
		want := messagesOf(limit)
		for _, message := range want {
			require.NoError(t, c.Send(t.Context(), []byte(message)))
		}
		requireMessages(t, want, messages)
		l.Close()
	})
}

// Theirs loses messages of concurrent writers; ours to the same listener does not.
func TestOurConcurrentSendersLoseNothingToBuffStreams(t *testing.T) {
	callback, messages := mailbox()
	address, _ := listenTheirs(t, 0, callback)
	c := connectOurs(t, address, 0)
	const senders, each = 8, 1000
	var all sync.WaitGroup
	for id := range senders {
		all.Go(func() {
			for n := range each {
				if err := c.Send(context.Background(), fmt.Appendf(nil, "%d %d", id, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var seen [senders]int
	for range senders * each {
		var id, n int
		fmt.Sscan(receive(t, messages), &id, &n)
		require.Equal(t, seen[id], n)
		seen[id]++
	}
}

// Both put the same bytes on the wire.
func TestBytesAreThoseOfBuffStreams(t *testing.T) {
	eachSize(t, func(t *testing.T, limit int) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		sent := make(chan []byte, 1)
		read := func() {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			b, _ := io.ReadAll(nc)
			sent <- b
		}
		messages := messagesOf(limit)

		go read()
		their := connectTheirs(t, ln.Addr().String(), limit)
		for _, message := range messages {
			_, err := their.Write([]byte(message))
			require.NoError(t, err)
		}
		require.NoError(t, their.Close())
		want := receive(t, sent)

		go read()
		our := connectOurs(t, ln.Addr().String(), limit)
		for _, message := range messages {
			_, err := our.Write([]byte(message))
			require.NoError(t, err)
		}
		require.NoError(t, our.Close())
		require.True(t, bytes.Equal(want, receive(t, sent)))
	})
}

func TestOurListenerAnswersBuffStreams(t *testing.T) {
	eachSize(t, func(t *testing.T, limit int) {
		l := listenOurs(t, buffstreams.ListenerConfig{
			MaxMessageSize: limit,
			Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
				return c.Send(ctx, message)
			},
		})
		c := connectTheirs(t, l.Addr().String(), limit)
		b := make([]byte, 1<<20)
		for _, message := range messagesOf(limit) {
			_, err := c.Write([]byte(message))
			require.NoError(t, err)
			n, err := c.Read(b)
			require.NoError(t, err)
			require.Equal(t, message, string(b[:n]))
		}
	})
}

func TestManagersOfBoth(t *testing.T) {
	ourCallback, ourMessages := mailbox()
	l := listenOurs(t, buffstreams.ListenerConfig{Callback: ourCallback})
	ours := l.Addr().String()
	theirCallback, theirMessages := mailbox()
	their, _ := listenTheirs(t, 0, theirCallback)

	tm := theirs.NewManager()
	require.NoError(t, tm.Dial(&theirs.TCPConnConfig{Address: ours}))
	var om buffstreams.Manager
	require.NoError(t, om.Dial(&buffstreams.TCPConnConfig{Address: their}))
	var want []string
	for i := range 100 {
		message := fmt.Sprint("message ", i)
		want = append(want, message)
		_, err := tm.Write(ours, []byte(message))
		require.NoError(t, err)
		_, err = om.Write(their, []byte(message))
		require.NoError(t, err)
	}
	requireMessages(t, want, ourMessages)
	requireMessages(t, want, theirMessages)
	require.NoError(t, tm.CloseWriter(ours))
	require.NoError(t, om.Close())
}

// A listener of theirs closes a connection when it has handled all of it, so that
// our Shutdown can wait for that.
func TestOurShutdownWaitsForBuffStreams(t *testing.T) {
	callback, messages := mailbox()
	address, _ := listenTheirs(t, 0, callback)
	c := connectOurs(t, address, 0)
	for i := range 3000 {
		require.NoError(t, c.Send(t.Context(), fmt.Append(nil, i)))
	}
	require.NoError(t, c.Shutdown(t.Context()))
	require.Len(t, messages, 3000)
}

// Theirs sends what is over the limit of the listener. It loses its connection, and
// nobody else anything.
func TestOurListenerRefusesWhatIsTooLarge(t *testing.T) {
	callback, messages := mailbox()
	l := listenOurs(t, buffstreams.ListenerConfig{MaxMessageSize: 300, Callback: callback})
	bad, good := connectTheirs(t, l.Addr().String(), 300), connectTheirs(t, l.Addr().String(), 300)
	_, err := bad.Write([]byte("before"))
	require.NoError(t, err)
	require.Equal(t, "before", receive(t, messages))
	_, err = bad.Write(make([]byte, 301))
	require.NoError(t, err)
	_, err = bad.Read(make([]byte, 300))
	require.Error(t, err)
	_, err = good.Write([]byte("after"))
	require.NoError(t, err)
	require.Equal(t, "after", receive(t, messages))
}

// A client of theirs whose MaxMessageSize has another length of header is noticed. Of
// one with longer headers the first message may pass, with a zero before it and
// without its end.
func TestOurListenerNoticesAnotherMaxMessageSize(t *testing.T) {
	for _, sizes := range [][2]int{{4096, 100}, {100, 4096}, {1 << 20, 4096}} {
		callback, messages := mailbox()
		l := listenOurs(t, buffstreams.ListenerConfig{MaxMessageSize: sizes[0], Callback: callback})
		c := connectTheirs(t, l.Addr().String(), sizes[1])
		for range 3 {
			_, err := c.Write([]byte("some message"))
			if err != nil {
				break // it was noticed already
			}
		}
		_, err := c.Read(make([]byte, 10))
		require.Error(t, err)
		require.LessOrEqual(t, len(messages), 1)
	}
}

// What a client of theirs has sent before a Shutdown is handled.
func TestOurShutdownHandlesWhatBuffStreamsHasSent(t *testing.T) {
	callback, messages := mailbox()
	l := listenOurs(t, buffstreams.ListenerConfig{Callback: callback})
	c := connectTheirs(t, l.Addr().String(), 0)
	_, err := c.Write([]byte("first"))
	require.NoError(t, err)
	require.Equal(t, "first", receive(t, messages)) // it is accepted
	for i := range 3000 {
		_, err := c.Write(fmt.Append(nil, i))
		require.NoError(t, err)
	}
	require.NoError(t, l.Shutdown(t.Context()))
	require.Len(t, messages, 3000)
}
