package cbor_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/cbor"
)

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/LIMITS.md")
	require.NoError(t, err)
	require.Contains(t, string(text), fmt.Sprintf("\n| `cbor.WithMaxDepth` | %d |", cbor.DefaultMaxDepth))
	require.Contains(t, string(text), "\n| `cbor.WithMaxElements` | what fits into the body |")

	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x81}, n-1), 0x80) }
	require.NoError(t, cbor.Codec{}.Unmarshal(nested(cbor.DefaultMaxDepth), new(any)))
	require.ErrorContains(t, cbor.Codec{}.Unmarshal(nested(cbor.DefaultMaxDepth+1), new(any)), "WithMaxDepth")
	require.NoError(t, cbor.Codec{}.Unmarshal(listOf(t, 1<<20), new(any)))
}

// listOf returns a payload of n zeros.
func listOf(t *testing.T, n int) []byte {
	t.Helper()
	data, err := cbor.Codec{}.Marshal(make([]int, n))
	require.NoError(t, err)
	return data
}
