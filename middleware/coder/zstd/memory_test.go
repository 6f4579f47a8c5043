//go:build !race

package zstd_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// The race detector has memory of its own, so this file is built without it.

// inUse returns how many bytes of memory are in use.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // what pools let go
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// What a coder keeps does not depend on how large its messages were.
func TestMemoryIsBounded(t *testing.T) {
	frame := codertest.Frame(bytes.Repeat(codertest.Orders(mib), 16))
	sealed := zstd.New().Encode(nil, codertest.Message(frame)).Buffer
	coder := zstd.New()
	before := inUse()
	for range 2 * runtime.GOMAXPROCS(0) {
		require.True(t, coder.Encode(nil, codertest.Message(frame)).IsFlagBitSet(6))
		require.NotNil(t, coder.Decode(nil, codertest.Message(sealed)))
	}
	require.Less(t, inUse()-before, int64(runtime.GOMAXPROCS(0)*2*mib))
	runtime.KeepAlive(coder)
	runtime.KeepAlive(frame)
	runtime.KeepAlive(sealed)
}
