package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var figures = regexp.MustCompile(`^(.*):
  p50 (\S+), p99 (\S+), (\d+) more requests, (\d+) handlers were told to stop
`)

// How long calls take depends on the machine: what does not is checked.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	rest := out.Bytes()
	for i := range 3 {
		found := figures.FindSubmatch(rest)
		require.NotNil(t, found, "%s", rest)
		rest = rest[len(found[0]):]
		p99, err := time.ParseDuration(string(found[3]))
		require.NoError(t, err)
		if i == 0 {
			require.GreaterOrEqual(t, p99, stall, "one in twenty stalls")
			require.Equal(t, "0", string(found[4]))
		} else if i == 1 {
			require.NotEqual(t, "0", string(found[4]))
		}
	}
	require.Empty(t, rest)
}
