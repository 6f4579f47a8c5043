//go:build !race

package s2_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/s2"
)

// The race detector empties pools at random, so this file is built without it.

// Encoding allocates nothing, decoding the decoded frame.
func TestAlloc(t *testing.T) {
	coder := s2.New()
	frame := codertest.Frame(codertest.Orders(20 << 10))
	sealed := coder.Encode(nil, codertest.Message(frame)).Buffer
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
