package buffstreams_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

func TestMessagesArriveWholeAndInOrder(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		in := newInbox()
		w.listen(t, buffstreams.ListenerConfig{Callback: in.add, MaxMessageSize: 200_000})
		c := w.connect(t, buffstreams.ConnConfig{MaxMessageSize: 200_000})
		var want []string
		for i := range 500 {
			want = append(want, strings.Repeat(string(rune('a'+i%26)), i*i%70_000))
		}
		sendAll(t, c, want)
		require.Equal(t, want, in.wait(t, len(want)))
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, buffstreams.Stats{Sent: 500}, c.Stats())
	})
}

func TestEmptyMessagesAreMessages(t *testing.T) {
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
	c := w.connect(t, buffstreams.ConnConfig{})
	sendAll(t, c, []string{"", "a", "", ""})
	require.Equal(t, []string{"", "a", "", ""}, in.wait(t, 4))
}

func TestMessagesArriveHoweverTheBytesTravel(t *testing.T) {
	for name, fault := range map[string]func(arpctest.Faults){
		"short writes": func(f arpctest.Faults) { f.ShortWrites(1) },
		"short reads":  func(f arpctest.Faults) { f.Split(1) },
		"both":         func(f arpctest.Faults) { f.ShortWrites(3); f.Split(2) },
		"late":         func(f arpctest.Faults) { f.Delay(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := newInbox()
				w := memory(fault)
				w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
				c := w.connect(t, buffstreams.ConnConfig{})
				want := numbered("message", 300)
				sendAll(t, c, want)
				require.Equal(t, want, in.wait(t, len(want)))
			})
		})
	}
}

func TestTooLargeMessageIsNotSent(t *testing.T) {
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add, MaxMessageSize: 10})
	c := w.connect(t, buffstreams.ConnConfig{MaxMessageSize: 10})
	err := c.Send(t.Context(), make([]byte, 11))
	require.ErrorIs(t, err, buffstreams.ErrTooLarge)
	require.EqualError(t, err, "buffstreams: message too large: 11 bytes, at most 10 are allowed (MaxMessageSize)")
	n, err := c.Write(make([]byte, 11))
	require.Zero(t, n)
	require.ErrorIs(t, err, buffstreams.ErrTooLarge)
	n, err = c.Write([]byte("0123456789"))
	require.Equal(t, 10, n)
	require.NoError(t, err)
	require.Equal(t, []string{"0123456789"}, in.wait(t, 1))
}

// The sender may change its bytes when Send has returned.
func TestSendKeepsNothing(t *testing.T) {
	c, far := pipe(t, buffstreams.ConnConfig{}, func(f arpctest.Faults) { f.Stall() })
	message := []byte("message")
	require.NoError(t, c.Send(t.Context(), message))
	copy(message, "changed")
	arpctest.FaultsOf(c.NetConn()).Resume()
	got := make([]byte, 10)
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	require.Equal(t, "message", string(got[3:]))
}

// What goroutines on one processor add while one of them is about to write leaves
// with that write.
func TestSendersShareWrites(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const senders, each = 50, 20
	counted := &countedConn{}
	near, far := arpctest.Pipe()
	counted.Conn = near
	c, err := buffstreams.NewConn(counted, buffstreams.ConnConfig{})
	require.NoError(t, err)
	closeLater(t, c)
	go io.Copy(io.Discard, far)
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range each {
				c.Send(background, []byte("message"))
			}
		})
	}
	all.Wait()
	require.NoError(t, c.Flush(t.Context()))
	require.Less(t, counted.writes.Load(), int64(senders*each/10))
}

type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// Two ends that send to each other and do not read yet hold nobody up for ever.
func TestSendDoesNotWaitForThePeer(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		accepted := make(chan net.Conn, 1)
		go func() {
			nc, err := w.ln.Accept()
			if err != nil {
				return
			}
			if encrypted, ok := nc.(interface{ Handshake() error }); ok {
				encrypted.Handshake()
			}
			accepted <- nc
		}()
		c := w.connect(t, buffstreams.ConnConfig{SendQueue: 64 << 20, MaxMessageSize: 1 << 20})
		const messages = 30
		for range messages {
			require.NoError(t, c.Send(t.Context(), make([]byte, 1<<20)))
		}
		peer, err := buffstreams.NewConn(next(t, "accept", accepted), buffstreams.ConnConfig{MaxMessageSize: 1 << 20})
		require.NoError(t, err)
		closeLater(t, peer)
		for range messages {
			message, err := peer.Receive(t.Context())
			require.NoError(t, err)
			require.Len(t, message, 1<<20)
		}
	})
}

// Random sizes from several goroutines, over a connection that takes a random number
// of bytes at a time.
func TestSegmentsNeverMix(t *testing.T) {
	const senders, messages = 8, 300
	in := newInbox()
	w := memory(func(f arpctest.Faults) { f.ShortWrites(1 + rand.IntN(5000)) })
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add, MaxMessageSize: 100_000})
	c := w.connect(t, buffstreams.ConnConfig{MaxMessageSize: 100_000, SendQueue: 200_000})
	var all sync.WaitGroup
	for id := range senders {
		all.Go(func() {
			for i := range messages {
				size := rand.IntN(300)
				if i%100 == 0 {
					size = rand.IntN(100_000)
				}
				message := fmt.Appendf(nil, "%d %d ", id, i)
				message = append(message, bytes.Repeat([]byte{byte('a' + id)}, size)...)
				if err := c.Send(background, message); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	seen := make([]int, senders)
	for _, message := range in.wait(t, senders*messages) {
		var id, i int
		var filling string
		fmt.Sscan(message, &id, &i, &filling)
		require.Equal(t, seen[id], i)
		seen[id]++
		require.Empty(t, strings.Trim(filling, string(rune('a'+id))))
	}
}
