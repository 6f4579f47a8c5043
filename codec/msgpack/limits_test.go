package msgpack_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/msgpack"
)

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/LIMITS.md")
	require.NoError(t, err)
	require.Contains(t, string(text), fmt.Sprintf("\n| `msgpack.WithMaxDepth` | %d |", msgpack.DefaultMaxDepth))
	require.Contains(t, string(text), "\n| `msgpack.WithMaxElements` | what fits into the body |")

	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n-1), 0x90) }
	require.NoError(t, msgpack.Codec{}.Unmarshal(nested(msgpack.DefaultMaxDepth), new(any)))
	require.ErrorContains(t, msgpack.Codec{}.Unmarshal(nested(msgpack.DefaultMaxDepth+1), new(any)), "WithMaxDepth")
	require.NoError(t, msgpack.Codec{}.Unmarshal(listOf(t, 1<<20), new(any)))
}

// listOf returns a payload of n zeros.
func listOf(t *testing.T, n int) []byte {
	t.Helper()
	data, err := msgpack.Codec{}.Marshal(make([]int, n))
	require.NoError(t, err)
	return data
}
