package buffstreams_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// The rows are failures of BuffStreams 2.0.0 and its like that must not come back.

// Concurrent writes on one connection lost messages.
func TestRow10_ConcurrentWritesLoseNothing(t *testing.T) {
	const writers, messages = 16, 500
	each(t, func(t *testing.T, w wire) {
		in := newInbox()
		w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
		c := w.connect(t, buffstreams.ConnConfig{SendQueue: 5000})
		var all sync.WaitGroup
		for id := range writers {
			all.Go(func() {
				for n := range messages {
					if _, err := c.Write(fmt.Appendf(nil, "%d %d", id, n)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		var seen [writers]int
		for _, message := range in.wait(t, writers*messages) {
			var id, n int
			fmt.Sscan(message, &id, &n)
			require.Equal(t, seen[id], n, "in order for each writer")
			seen[id]++
		}
	})
}

// Four received bytes allocated 64 MiB.
func TestRow22_AnnouncedLengthAllocatesNothing(t *testing.T) {
	w := tcp(t)
	l := w.listen(t, buffstreams.ListenerConfig{Callback: ignore, MaxMessageSize: 1 << 30})
	const peers = 200
	before := held()
	for range peers {
		nc, err := w.dial()
		require.NoError(t, err)
		t.Cleanup(func() { nc.Close() })
		_, err = nc.Write([]byte{0x80, 0x80, 0x80, 0x80, 0x08}) // 1 GiB
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return l.Stats().Conns == peers }, patience, tick)
	require.Less(t, held()-before, int64(peers*20<<10))
}

// held returns the bytes of the heap and of stacks.
func held() int64 {
	runtime.GC()
	runtime.GC() // pools keep things once
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// An oversize, negative or mismatched length panicked the receiver.
func TestRow23_NoLengthPanicsTheReceiver(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		err   error
		text  string
	}{
		"oversize by one":           {[]byte{0x82, 0x40, 0}, buffstreams.ErrTooLarge, "4097 bytes, at most 4096 are allowed (MaxMessageSize)"},
		"oversize":                  {[]byte{0xfe, 0xff, 0x7f}, buffstreams.ErrTooLarge, "(MaxMessageSize)"},
		"negative":                  {[]byte{0x01, 0, 0}, buffstreams.ErrMalformed, "negative"},
		"no length":                 {[]byte{0xff, 0xff, 0xff}, buffstreams.ErrMalformed, "MaxMessageSize"},
		"a sender with other sizes": {append([]byte{0x0a, 0}, "hello"...), buffstreams.ErrMalformed, "MaxMessageSize"},
		"another protocol":          {[]byte("GET / HTTP/1.1\r\n"), buffstreams.ErrMalformed, "MaxMessageSize"},
	} {
		t.Run(name, func(t *testing.T) {
			requireRefused(t, c.bytes, c.text)
			conn, far := pipe(t, buffstreams.ConnConfig{})
			_, err := far.Write(c.bytes)
			require.NoError(t, err)
			_, err = conn.Read(make([]byte, 10))
			require.ErrorIs(t, err, c.err)
			require.ErrorContains(t, err, c.text)
			require.ErrorIs(t, conn.Err(), c.err)
		})
	}
	t.Run("a message that does not fit", func(t *testing.T) {
		conn, far := pipe(t, buffstreams.ConnConfig{})
		_, err := far.Write(frames("a long message"))
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 5))
		require.Error(t, err)
	})
}

// requireRefused expects that a Listener closes the connection of a peer that sends
// bad bytes, and that one only, and says why.
func requireRefused(t *testing.T, bad []byte, why string) {
	var log logged
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	other := w.connect(t, buffstreams.ConnConfig{})
	nc, err := w.dial()
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Write(append(frames("before"), bad...))
	require.NoError(t, err)
	_, err = nc.Read(make([]byte, 1))
	require.Error(t, err, "the connection is closed")
	require.Eventually(t, func() bool { return strings.Contains(log.String(), why) }, patience, tick)
	sendAll(t, other, []string{"after"})
	require.Equal(t, []string{"before", "after"}, in.wait(t, 2))
}

// Closing twice panicked.
func TestRow27_ClosingTwiceIsHarmless(t *testing.T) {
	w := tcp(t)
	l := w.listen(t, buffstreams.ListenerConfig{Callback: ignore})
	for range 20 {
		c := w.connect(t, buffstreams.ConnConfig{})
		twice(t, c.Close, func() error { return c.Shutdown(background) })
	}
	twice(t, l.Close, func() error { return l.Shutdown(background) })

	idle, err := buffstreams.ListenTCP(buffstreams.TCPListenerConfig{Address: "127.0.0.1:0"})
	require.NoError(t, err)
	twice(t, idle.Close, func() error { return idle.Shutdown(background) })

	m := buffstreams.NewManager()
	require.NoError(t, m.StartListening(buffstreams.TCPListenerConfig{Address: "127.0.0.1:0", Callback: ignore}))
	require.NoError(t, m.CloseListener("127.0.0.1:0"))
	require.ErrorIs(t, m.CloseListener("127.0.0.1:0"), buffstreams.ErrNotOpened)
	twice(t, m.Close, func() error { return m.Shutdown(background) })
}

// twice calls the ways to close, all at once and one after the other.
func twice(t *testing.T, ways ...func() error) {
	var all sync.WaitGroup
	for range 2 {
		for _, end := range ways {
			all.Go(func() {
				if err := end(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for _, end := range ways {
		require.NoError(t, end())
	}
}

// One accept error stopped the server.
func TestRow31_ServerSurvivesAcceptsThatFailForAMoment(t *testing.T) {
	for name, fail := range map[string]error{
		"no descriptors left": &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)},
		"a timeout":           &net.OpError{Op: "accept", Err: os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newInbox()
				ln := &flakyListener{MemoryListener: arpctest.ListenMemory(), fails: 20, err: fail}
				w := wire{ln, ln.Dial}
				l := w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
				sendAll(t, w.connect(t, buffstreams.ConnConfig{}), []string{"a"})
				require.Equal(t, []string{"a"}, in.wait(t, 1))
				require.Equal(t, uint64(20), l.Stats().Failed)
			})
		})
	}
}

// flakyListener fails to accept some times.
type flakyListener struct {
	*arpctest.MemoryListener
	fails int
	err   error
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, l.err
	}
	return l.MemoryListener.Accept()
}

// A listener that cannot accept can be closed at once, also while it pauses.
func TestRow31_ServerThatCannotAcceptCanBeClosed(t *testing.T) {
	ln := &flakyListener{MemoryListener: arpctest.ListenMemory(), fails: math.MaxInt, err: &net.OpError{Op: "accept", Err: syscall.EMFILE}}
	wire{ln, ln.Dial}.listen(t, buffstreams.ListenerConfig{Callback: ignore})
}

// An error that stays is not tried again for ever, and connections outlive it.
func TestRow31_ServeReturnsAnErrorThatStays(t *testing.T) {
	in := newInbox()
	ln := arpctest.ListenMemory()
	once := &onceListener{MemoryListener: ln}
	l, err := buffstreams.NewListener(once, buffstreams.ListenerConfig{Callback: in.add})
	require.NoError(t, err)
	c := wire{ln, ln.Dial}.connect(t, buffstreams.ConnConfig{})
	require.ErrorIs(t, l.StartListening(), errDown)
	require.ErrorIs(t, l.Wait(), errDown)
	sendAll(t, c, []string{"a"})
	require.Equal(t, []string{"a"}, in.wait(t, 1))
	require.NoError(t, l.Close())
	_, err = c.Receive(t.Context())
	require.Error(t, err)
}

type onceListener struct {
	*arpctest.MemoryListener
	accepted bool
}

func (l *onceListener) Accept() (net.Conn, error) {
	if l.accepted {
		return nil, errDown
	}
	l.accepted = true
	return l.MemoryListener.Accept()
}

// A goroutine and an entry leaked for each closed connection.
func TestRow32_ClosedConnectionsLeaveNothing(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		in := newInbox()
		l := w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
		before := runtime.NumGoroutine()
		const conns = 100
		for i := range conns {
			c := w.connect(t, buffstreams.ConnConfig{})
			sendAll(t, c, []string{"a"})
			switch i % 3 {
			case 0:
				require.NoError(t, c.Shutdown(t.Context()))
			case 1:
				require.NoError(t, c.Close())
			case 2:
				c.NetConn().Close()
				_, err := c.Receive(t.Context())
				require.Error(t, err)
			}
		}
		require.Eventually(t, func() bool {
			return l.Stats().Conns == 0 && runtime.NumGoroutine() < before+conns/10 // Eventually has some
		}, patience, tick)
		require.Equal(t, uint64(conns), l.Stats().Accepted)
	})
}

// Close left the port open, and the goroutine in accept.
func TestRow33_CloseFreesThePort(t *testing.T) {
	address := "127.0.0.1:0"
	for range 10 {
		l, err := buffstreams.ListenTCP(buffstreams.TCPListenerConfig{Address: address, Callback: ignore})
		require.NoError(t, err)
		address = l.Addr().String()
		served := make(chan error, 1)
		go func() { served <- l.StartListening() }()
		c, err := buffstreams.DialTCP(&buffstreams.TCPConnConfig{Address: address})
		require.NoError(t, err)
		sendAll(t, c, []string{"a"})
		require.NoError(t, l.Close())
		if err := next(t, "StartListening", served); err != nil { // it had not begun yet
			require.ErrorIs(t, err, buffstreams.ErrClosed)
		}
		_, err = net.Dial("tcp", address)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		var undelivered *buffstreams.UndeliveredError
		if err := c.Close(); err != nil && !errors.As(err, &undelivered) {
			t.Error(err)
		}
		<-c.Done()
	}
	m := buffstreams.NewManager()
	for range 3 {
		require.NoError(t, m.StartListening(buffstreams.TCPListenerConfig{Address: address, Callback: ignore}))
		require.NoError(t, m.CloseListener(address))
	}
	require.NoError(t, m.Close())
}
