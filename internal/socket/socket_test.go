//go:build unix

package socket

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A process that has slept is woken by bytes, and what it does then keeps the only
// processor busy: somebody has to take it away.
func TestOthersRunBesideABusyGoroutine(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	nc, far := pair(t)
	child := exec.Command("sh", "-c", "sleep 0.2; echo a; sleep 0.2; echo b")
	child.Stdout = far
	require.NoError(t, child.Start())
	defer child.Wait()
	for range 2 {
		require.Equal(t, 2, receive(t, Of(nc)))
		var ran atomic.Bool
		start := time.Now()
		go func() { ran.Store(true) }()
		for !ran.Load() && time.Since(start) < 5*time.Second {
		}
		require.True(t, ran.Load(), "it waited until the other was through")
	}
}

func TestTransfer(t *testing.T) {
	nc, far := pair(t)
	conn, err := net.FileConn(far)
	require.NoError(t, err)
	defer conn.Close()
	var out Writer
	out.Init(Of(nc))
	big := make([]byte, 32<<20)
	n, err := out.TryWrite(big)
	require.NoError(t, err)
	require.Less(t, n, len(big), "what the socket does not take is left")
	again, err := out.TryWrite(big)
	require.NoError(t, err)
	require.Zero(t, again)
	nc.Close()
	_, err = out.TryWrite(big)
	require.ErrorIs(t, err, net.ErrClosed)
	for got := 0; got < n; {
		k := receive(t, Of(conn))
		require.NotZero(t, k)
		got += k
	}
	require.Zero(t, receive(t, Of(conn)), "the end")
	in := Writer{}
	in.Init(Of(conn))
	_, err = in.TryWrite([]byte("nobody reads it"))
	require.ErrorIs(t, err, syscall.EPIPE)
}

// A socket may block although Go never made it so: files share the flag.
func TestABlockingSocketDoesNotBlock(t *testing.T) {
	nc, _ := pair(t)
	file, err := nc.(*net.UnixConn).File()
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, syscall.SetNonblock(int(file.Fd()), false))
	if !neverBlocks {
		t.Skip("this build reads with the flag of the socket")
	}
	done := make(chan error, 1)
	go func() {
		done <- Of(nc).Read(func(fd uintptr) bool {
			_, err = Read(fd, make([]byte, 1))
			return true
		})
	}()
	select {
	case failed := <-done:
		require.NoError(t, failed)
		require.ErrorIs(t, err, syscall.EAGAIN)
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
}

func pair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close()
	t.Cleanup(func() { far.Close() })
	nc, err := net.FileConn(near)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	return nc, far
}

// receive waits for bytes and returns how many came, 0 at the end.
func receive(t *testing.T, rc syscall.RawConn) (n int) {
	t.Helper()
	b := make([]byte, 64<<10)
	var failed error
	require.NoError(t, rc.Read(func(fd uintptr) bool {
		n, failed = Read(fd, b)
		return failed != syscall.EAGAIN && failed != syscall.EINTR
	}))
	require.NoError(t, failed)
	return n
}
