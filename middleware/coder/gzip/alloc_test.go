//go:build !race

package gzip_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

// The race detector empties pools at random, so this file is built without it.

// Encoding allocates nothing, decoding the decoded frame.
func TestAlloc(t *testing.T) {
	coder := gzip.New()
	frame := frameOf(orders(20 << 10))
	sealed := seal(t, frame)
	var m arpc.Message
	buf := make([]byte, len(frame))
	require.Less(t, testing.AllocsPerRun(500, func() {
		m.Buffer = append(buf[:0], frame...)
		coder.Encode(nil, &m)
	}), 1.0)
	require.Less(t, testing.AllocsPerRun(500, func() {
		m.Buffer = sealed
		coder.Decode(nil, &m)
	}), 2.0)
}
