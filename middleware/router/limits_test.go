package router

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/markdown"
)

// limitDefaults are the limits of docs/LIMITS.md as the code has them. Those of
// constructors have to be said.
func limitDefaults() map[string]string {
	const none = "none"
	g := &NewAdaptive().gradient
	queue := "0: no queue"
	if n := NewBulkhead(1).queue; n != 0 {
		queue = fmt.Sprint(n)
	}
	return map[string]string{
		"NewRateLimit": none,
		"WithMaxKeys":  fmt.Sprint(NewRateLimit(ByPeer(), 1, 1).buckets.max),
		"NewTimeout":   none,
		"NewBulkhead":  none,
		"WithQueue":    queue,
		"WithLimits":   fmt.Sprintf("%v, %v, %v", g.lowest, g.limit, g.highest),
	}
}

// noLimits are the options that limit nothing.
var noLimits = map[string]bool{"WithLogger": true, "WithLevel": true, "WithSampling": true}

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/LIMITS.md")
	require.NoError(t, err)
	tables := markdown.Tables(markdown.Section(string(text), "## Middleware around handlers"))
	require.Len(t, tables, 1)
	rows := make(map[string]string)
	for _, row := range tables[0].Rows {
		require.Len(t, row.Cells, 6, "line %d", row.Line)
		name := strings.TrimPrefix(markdown.Code(row.Cells[0])[0], "router.")
		require.NotContains(t, rows, name)
		rows[name] = row.Cells[1]
	}
	require.Equal(t, limitDefaults(), rows)
}

func TestLimitsTableHasEveryOption(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, option := range regexp.MustCompile(`(?m)^func (With\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			_, limited := limitDefaults()[option[1]]
			require.NotEqual(t, limited, noLimits[option[1]], "is %s a limit?", option[1])
		}
	}
}
