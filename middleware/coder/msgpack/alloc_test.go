//go:build !race

package msgpack_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
)

// Without values, encoding allocates the new frame and decoding nothing.
func TestAlloc(t *testing.T) {
	coder := msgpack.New()
	frame := codertest.Frame(codertest.Orders(1000))
	var m arpc.Message
	require.Less(t, testing.AllocsPerRun(500, func() {
		m.Buffer = frame
		coder.Decode(nil, coder.Encode(nil, &m))
	}), 2.0)
}
