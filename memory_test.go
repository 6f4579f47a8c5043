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

// 10,000 peers announce 64 MiB and send nothing of it. Each costs less than
// 20 KiB. The peers live in a process of their own.
func TestHalfOpenHeadersAreCheap(t *testing.T) {
	connected := make(chan struct{}, halfOpenPeers)
	s, addr := serve(t, arpc.WithReadTimeout(time.Minute))
	s.Handler.HandleConnected(func(*arpc.Client) { connected <- struct{}{} })
	before := usedMemory()

	peers := exec.Command(os.Args[0], "-test.run=^TestHalfOpenPeers$")
	peers.Env = append(os.Environ(), "ARPC_TEST_HALF_OPEN="+addr)
	peers.Stderr = os.Stderr
	stdin, err := peers.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, peers.Start())
	exited := make(chan error, 1)
	go func() { exited <- peers.Wait() }()
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
	require.NoError(t, stdin.Close())
	require.NoError(t, <-exited)
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
