package protobuf_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/protobuf"
)

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/LIMITS.md")
	require.NoError(t, err)
	require.Contains(t, string(text), fmt.Sprintf("\n| `protobuf.WithMaxDepth` | %d |", protobuf.DefaultMaxDepth))
	_, err = protobuf.Codec{}.Marshal(treeOf(protobuf.DefaultMaxDepth))
	require.NoError(t, err)
	_, err = protobuf.Codec{}.Marshal(treeOf(protobuf.DefaultMaxDepth + 1))
	require.Error(t, err)
}
