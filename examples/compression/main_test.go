package main

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))

	lines := regexp.MustCompile(`(?m)^  (.{30}) +(\d+) there, +(\d+) back$`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, lines, 9, out.String())
	sent := func(line int) int {
		n, err := strconv.Atoi(lines[line][2])
		require.NoError(t, err)
		back, err := strconv.Atoi(lines[line][3])
		require.NoError(t, err)
		require.InDelta(t, n, back, 10_000, "both ways alike, but for the deadlines of calls")
		return n
	}
	plain := sent(0)
	require.Less(t, sent(1), plain*6/10, "s2")
	require.Less(t, sent(2), sent(1), "zstd")
	require.LessOrEqual(t, sent(3), sent(2), "level 9")
	require.InDelta(t, sent(1), sent(4), 100, "the client knows s2 only")
	require.GreaterOrEqual(t, sent(5), plain-100, "the client knows none")

	short := sent(6)
	require.Less(t, sent(8), short*8/10, "with a dictionary")
	require.Less(t, sent(8), sent(7))
}
