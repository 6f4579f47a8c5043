package arpc_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

func usedMemory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

const halfOpenPeers = 10_000

// peersApart runs a test of this package in a process of its own, so that what its
// ends of the connections take is not counted here. It returns what ends them.
func peersApart(t *testing.T, test, variable, addr string) (exited <-chan error, end func()) {
	t.Helper()
	peers := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	peers.Env = append(os.Environ(), variable+"="+addr)
	peers.Stderr = os.Stderr
	stdin, err := peers.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, peers.Start())
	ended := make(chan error, 1)
	go func() { ended <- peers.Wait() }()
	return ended, func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, <-ended)
	}
}

// 10,000 peers announce 64 MiB and send nothing of it. Each costs less than
// 20 KiB. The peers live in a process of their own.
func TestHalfOpenHeadersAreCheap(t *testing.T) {
	connected := make(chan struct{}, halfOpenPeers)
	s, addr := serve(t, arpc.WithReadTimeout(time.Minute))
	s.Handler.HandleConnected(func(*arpc.Client) { connected <- struct{}{} })
	before := usedMemory()

	exited, end := peersApart(t, "TestHalfOpenPeers", "ARPC_TEST_HALF_OPEN", addr)
	for range halfOpenPeers {
		select {
		case <-connected:
		case err := <-exited:
			require.FailNow(t, "the peers ended", "%v", err)
		}
	}
	each := (usedMemory() - before) / halfOpenPeers
	t.Logf("%d bytes a connection", each)
	require.Less(t, each, int64(20<<10))
	require.Len(t, s.Clients(), halfOpenPeers)
	end()
}

// TestHalfOpenPeers is the other process of the test above; by itself it does
// nothing.
func TestHalfOpenPeers(t *testing.T) {
	addr := os.Getenv("ARPC_TEST_HALF_OPEN")
	if addr == "" {
		return
	}
	for range halfOpenPeers {
		nc, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer nc.Close()
		_, err = nc.Write([]byte{0xf0, 0xff, 0xff, 0x03})
		require.NoError(t, err)
	}
	io.Copy(io.Discard, os.Stdin) // until the test has measured
}
