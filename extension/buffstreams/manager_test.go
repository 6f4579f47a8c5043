package buffstreams_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return ln.Addr().String()
}

func TestManagerNeedsThatSomethingIsOpened(t *testing.T) {
	m := buffstreams.NewManager()
	address := freeAddress(t)
	_, err := m.Write(address, []byte("a"))
	require.ErrorIs(t, err, buffstreams.ErrNotOpened)
	require.ErrorIs(t, m.Send(t.Context(), address, []byte("a")), buffstreams.ErrNotOpened)
	require.ErrorIs(t, m.CloseWriter(address), buffstreams.ErrNotOpened)
	require.ErrorIs(t, m.CloseListener(address), buffstreams.ErrNotOpened)
	_, err = m.Conn(address)
	require.ErrorIs(t, err, buffstreams.ErrNotOpened)
	_, err = m.Listener(address)
	require.ErrorIs(t, err, buffstreams.ErrNotOpened)
	require.Error(t, m.Dial(&buffstreams.TCPConnConfig{Address: address}), "nobody listens")
	_, err = m.Write(address, []byte("a"))
	require.ErrorIs(t, err, buffstreams.ErrNotOpened)
	require.NoError(t, m.Close())
}

func TestManagerKeepsWhatIsOpened(t *testing.T) {
	m := buffstreams.NewManager()
	address := freeAddress(t)
	in := newInbox()
	listen := buffstreams.TCPListenerConfig{Address: address, Callback: in.add}
	require.NoError(t, m.StartListening(listen))
	require.ErrorIs(t, m.StartListening(listen), buffstreams.ErrAlreadyOpened)
	require.NoError(t, m.Dial(&buffstreams.TCPConnConfig{Address: address}))
	require.ErrorIs(t, m.Dial(&buffstreams.TCPConnConfig{Address: address}), buffstreams.ErrAlreadyOpened)

	n, err := m.Write(address, []byte("a"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, m.Send(t.Context(), address, []byte("b")))
	require.Equal(t, []string{"a", "b"}, in.wait(t, 2))
	l, err := m.Listener(address)
	require.NoError(t, err)
	require.Equal(t, buffstreams.ListenerStats{Accepted: 1, Conns: 1}, l.Stats())
	c, err := m.Conn(address)
	require.NoError(t, err)
	require.Equal(t, address, c.RemoteAddr().String())

	require.NoError(t, m.CloseWriter(address))
	require.NoError(t, m.CloseListener(address))
	require.NoError(t, m.StartListening(listen), "an address may be used again")
	require.NoError(t, m.Dial(&buffstreams.TCPConnConfig{Address: address}))
	_, err = m.Write(address, []byte("c"))
	require.NoError(t, err)
	require.NoError(t, m.Shutdown(t.Context()))
	require.Equal(t, []string{"a", "b", "c"}, in.all())
	require.ErrorIs(t, m.Dial(&buffstreams.TCPConnConfig{Address: address}), buffstreams.ErrClosed)
	require.ErrorIs(t, m.StartListening(listen), buffstreams.ErrClosed)
	require.NoError(t, m.Close())
}

// What was closed behind its back does not block an address.
func TestManagerReplacesWhatIsClosed(t *testing.T) {
	var m buffstreams.Manager
	address := freeAddress(t)
	listen := buffstreams.TCPListenerConfig{Address: address, Callback: ignore}
	for range 3 {
		require.NoError(t, m.StartListening(listen))
		require.NoError(t, m.Dial(&buffstreams.TCPConnConfig{Address: address}))
		c, err := m.Conn(address)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		l, err := m.Listener(address)
		require.NoError(t, err)
		require.NoError(t, l.Close())
		require.NoError(t, l.Wait())
	}
	require.NoError(t, m.Close())
}

// One dial that takes long holds nobody else up, and one address is dialled once.
func TestManagerDialsOutsideOfItsLock(t *testing.T) {
	m := buffstreams.NewManager()
	w := memory()
	w.listen(t, buffstreams.ListenerConfig{Callback: ignore})
	dialling, release := make(chan struct{}), make(chan struct{})
	slow := buffstreams.ConnConfig{Address: "slow", Dial: func(context.Context) (net.Conn, error) {
		close(dialling)
		<-release
		return w.dial()
	}}
	dialled := make(chan error, 1)
	go func() { dialled <- m.DialContext(background, slow) }()
	next(t, "dial", dialling)
	require.ErrorIs(t, m.DialContext(t.Context(), slow), buffstreams.ErrAlreadyOpened)
	require.ErrorIs(t, m.Send(t.Context(), "slow", nil), buffstreams.ErrNotOpened)
	quick := buffstreams.ConnConfig{Address: "quick", Dial: func(context.Context) (net.Conn, error) { return w.dial() }}
	require.NoError(t, m.DialContext(t.Context(), quick))
	require.NoError(t, m.Send(t.Context(), "quick", nil))

	require.NoError(t, m.CloseWriter("slow"), "while it is dialled")
	close(release)
	require.ErrorIs(t, next(t, "Dial", dialled), buffstreams.ErrClosed)
	require.ErrorIs(t, m.Send(t.Context(), "slow", nil), buffstreams.ErrNotOpened)
	require.NoError(t, m.Close())
}

func TestManagerIsSafeForConcurrentUse(t *testing.T) {
	m := buffstreams.NewManager()
	address := freeAddress(t)
	in := newInbox()
	require.Equal(t, 1, succeed(20, func() error {
		return m.StartListening(buffstreams.TCPListenerConfig{Address: address, Callback: in.add})
	}))
	require.Equal(t, 1, succeed(20, func() error {
		return m.Dial(&buffstreams.TCPConnConfig{Address: address})
	}))
	var all sync.WaitGroup
	for id := range 20 {
		all.Go(func() {
			for n := range 100 {
				if _, err := m.Write(address, fmt.Appendf(nil, "%d %d", id, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, m.Shutdown(t.Context()))
	require.Len(t, in.all(), 2000)
}

// succeed returns how many of n goroutines could do it.
func succeed(n int, do func() error) int {
	var done atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if do() == nil {
				done.Add(1)
			}
		})
	}
	all.Wait()
	return int(done.Load())
}

func TestFormatAddress(t *testing.T) {
	require.Equal(t, ":5031", buffstreams.FormatAddress("", "5031"))
	require.Equal(t, "127.0.0.1:5031", buffstreams.FormatAddress("127.0.0.1", "5031"))
	require.Equal(t, "[::1]:5031", buffstreams.FormatAddress("::1", "5031"))
}
