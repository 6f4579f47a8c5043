package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 8)

	before := time.Second
	for i, name := range []string{"A", "B", "C"} {
		left := strings.TrimSuffix(strings.TrimPrefix(lines[1+i], name+" has "), " left")
		budget, err := time.ParseDuration(left)
		require.NoError(t, err, lines[1+i])
		require.Less(t, budget, before)
		before = budget
	}
	require.Equal(t, []string{
		"the client gives up: arpc: the call was canceled",
		"C gives up: arpc: the caller gave up (code Canceled)",
		"the ticket is late: DeadlineExceeded",
		"nobody was waiting for it, so C did not run it: [a book a letter]",
	}, lines[4:])
}
