//go:build !race

package tracing_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
)

// A message without a value costs nothing.
func TestAlloc(t *testing.T) {
	coder := tracing.New("trace")
	var m arpc.Message
	frame := codertest.Frame(codertest.Orders(1000))
	require.Zero(t, testing.AllocsPerRun(500, func() {
		m.Buffer = frame
		coder.Decode(nil, coder.Encode(nil, &m))
	}))
}
