package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, 50*time.Millisecond))
	text := out.String()

	for i, section := range sections {
		require.Contains(t, text, fmt.Sprintf("\n%2d. %s\n", i+1, section.title))
	}
	for _, want := range []string{
		`/greet     ->  "hello, gopher"`,
		`/greet-me  ->  "hello, gopher"`,
		"their sum is 55",
		"10,000 received, 0 out of order",
		"received by 100 of 100 clients",
		"received by  50 of 100 clients",
		"1 3 6 10 15 21 28 36 45 55, end",
		"sleep for 300ms: all answered in",
		"the handler reports an error       NotFound          server",
		"Unimplemented",
		"the deadline passes                DeadlineExceeded  client",
		"a call may take 100ms: its handler gets ",
		"its handler ends:   context deadline exceeded",
		"its handler ends:   arpc: the caller gave up",
		"a call fails at once (Unavailable), it is safe to retry",
		`a call is answered ("hello, gopher")`,
		"calls in",
		"notifications in",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "<nil>", "a cause is missing")
	require.NotContains(t, text, "%!", "a format is wrong")
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 80+len("\n"), line)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567"} {
		require.Equal(t, want, grouped(n))
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                        "0s",
		999:                      "999ns",
		1234:                     "1.23µs",
		45_678_901:               "45.7ms",
		1_234 * time.Millisecond: "1.23s",
	} {
		require.Equal(t, want, short(d).String())
	}
}
