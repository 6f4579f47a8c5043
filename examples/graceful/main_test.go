package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 5)
	require.Equal(t, "3 calls under way: shutting down", lines[0])
	require.ElementsMatch(t, []string{
		"answered: here is your soup",
		"answered: here is your omelette",
		"answered: here is your cake",
	}, lines[1:4])
	require.Equal(t, "a call after that: Unavailable", lines[4])
}
