package call

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
	var r *retry
	Retry(retryOption(func(made *retry) { r = made }))
	var h *hedge
	Hedge(hedgeOption(func(made *hedge) { h = made }))
	var l *rateLimit
	RateLimit(1, 1, func(made *rateLimit) { l = made })
	b := NewBreaker("peers")
	return map[string]string{
		"Timeout":         none,
		"RateLimit":       none,
		"WithMaxWait":     l.maxWait.String(),
		"WithMaxAttempts": fmt.Sprint(r.attempts),
		"WithBackoff":     fmt.Sprintf("%v, %v", r.base, r.max),
		"WithBudget":      fmt.Sprintf("%s of `Retry`; %s of `Hedge`", limitOf(r.budget), limitOf(h.budget)),
		"WithFailureRate": fmt.Sprintf("%v, %d, %v", b.rate, b.calls, b.window),
		"WithOpenFor":     b.openFor.String(),
		"WithProbes":      fmt.Sprint(b.probes),
	}
}

func limitOf(b *Budget) string {
	return fmt.Sprintf("%v, %d", float64(b.share)/one, b.reserve/one)
}

// noLimits are the options that limit nothing.
var noLimits = map[string]bool{
	"WithClassify": true, "WithDelay": true, "WithIdempotent": true, "WithOnChange": true, "WithQuantile": true, "WithScope": true,
}

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/LIMITS.md")
	require.NoError(t, err)
	section := markdown.Section(string(text), "## Interceptors around calls")
	require.Contains(t, section, fmt.Sprintf("a `Hedge` measures %d methods", maxMethods))
	require.Contains(t, section, fmt.Sprintf("a `Breaker` has circuits for %d methods", maxMethods))
	tables := markdown.Tables(section)
	require.Len(t, tables, 1)
	rows := make(map[string]string)
	for _, row := range tables[0].Rows {
		require.Len(t, row.Cells, 5, "line %d", row.Line)
		name := strings.TrimPrefix(markdown.Code(row.Cells[0])[0], "call.")
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
