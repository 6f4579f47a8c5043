package codec_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/markdown"
)

// The rows of the other codecs are tested beside them: packages that import this
// one need not know their libraries.
func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../docs/LIMITS.md")
	require.NoError(t, err)
	tables := markdown.Tables(markdown.Section(string(text), "## Codecs"))
	require.Len(t, tables, 1)
	var names []string
	for _, row := range tables[0].Rows {
		require.Len(t, row.Cells, 3, "line %d", row.Line)
		names = append(names, markdown.Code(row.Cells[0])[0])
	}
	require.Equal(t, []string{
		"codec.JSON", "cbor.WithMaxDepth", "cbor.WithMaxElements", "msgpack.WithMaxDepth", "msgpack.WithMaxElements", "protobuf.WithMaxDepth",
	}, names)

	const depth = 10_000
	require.Equal(t, fmt.Sprint(depth), tables[0].Rows[0].Cells[1])
	nested := func(n int) []byte {
		return append(bytes.Repeat([]byte("["), n), bytes.Repeat([]byte("]"), n)...)
	}
	for _, c := range []codec.Codec{codec.JSON{}, codec.StdJSON{}} {
		require.NoError(t, c.Unmarshal(nested(depth), new(any)))
		require.Error(t, c.Unmarshal(nested(depth+1), new(any)))
	}
}
