package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runner measures for 200 ms, with a server process of its own.
func runner(p ...Participant) *Runner {
	return &Runner{
		Participants: p,
		Workloads:    []Workload{echo{name: "T", conns: 1, callers: 10, size: 128}},
		Rounds:       1,
		Duration:     200 * time.Millisecond,
		Progress:     io.Discard,
	}
}

func TestTwoProcesses(t *testing.T) {
	t.Chdir(t.TempDir())
	var out bytes.Buffer
	err := run(t.Context(), []string{"-rounds=1", "-duration=200ms", "-warmup=10ms", "-only=^ours$", "-workload=W2", "-write", "-cpuprofile=."}, &out)
	require.NoError(t, err, out.String())
	written, err := os.ReadFile(resultsFile)
	require.NoError(t, err)
	for _, text := range []string{out.String(), string(written)} {
		require.Contains(t, text, "W2: 1 connection, 100 callers, 128 bytes")
		require.Contains(t, text, "| ours |")
		require.NotContains(t, text, "NaN")
	}
	for _, end := range []string{"client", "server"} {
		profile, err := os.Stat("W2-ours-" + end + ".pprof")
		require.NoError(t, err)
		require.NotZero(t, profile.Size())
	}
}

func TestRunCountsBothEnds(t *testing.T) {
	tables, err := runner(ours{}, limit{}).Run(t.Context())
	require.NoError(t, err)
	require.Len(t, tables, 1)
	require.Len(t, tables[0].Rows, 2)
	for _, row := range tables[0].Rows {
		require.Len(t, row.Results, 1)
		res := row.Results[0]
		require.NotZero(t, res.Calls)
		require.NotZero(t, res.Client.Mallocs)
		require.NotZero(t, res.Server.Mallocs)
		require.NotZero(t, res.P50)
	}
}

func TestQuietTakesWhatItGets(t *testing.T) {
	r := runner(limit{})
	r.Quiet = time.Nanosecond
	tables, err := r.Run(t.Context())
	require.NoError(t, err)
	require.Len(t, tables[0].Rows[0].Results, 1)
}

func TestAwaitIdle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, awaitIdle(ctx, time.Now()))
	cancel()
	require.ErrorIs(t, awaitIdle(ctx, time.Now().Add(time.Hour)), context.Canceled)
}

func TestRunEndsWithTheFirstError(t *testing.T) {
	_, err := runner(corrupting{}).Run(t.Context())
	require.ErrorIs(t, err, errWrongAnswer)
	_, err = runner(unable{}).Run(t.Context())
	require.ErrorContains(t, err, "unable")
}

func TestInterruptStopsTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := startServer(ctx, ours{}, "")
	require.NoError(t, err)
	_, err = s.usage()
	require.NoError(t, err)
	cancel()
	require.Error(t, s.stop())
	require.NotNil(t, s.cmd.ProcessState)
}

func TestServerEndsWithItsInput(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, serve(limit{}, strings.NewReader("usage\nusage\n"), &out))
	require.Equal(t, 3, strings.Count(out.String(), "\n"))
	require.ErrorContains(t, serve(limit{}, strings.NewReader("dance\n"), io.Discard), "dance")
}

func TestServeRole(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		ok   bool
	}{
		"nothing":        {nil, false},
		"a flag of ours": {[]string{"-rounds", "3"}, false},
		"too few":        {[]string{serveFlag, "ours"}, false},
		"unknown name":   {[]string{serveFlag, "nobody", ""}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := serveRole(nil, c.args)
			require.Equal(t, c.ok, ok)
		})
	}
}

func TestFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown participant": {"-only=nobody"},
		"unknown workload":    {"-workload=W99"},
		"broken regexp":       {"-only=("},
		"no rounds":           {"-rounds=0"},
		"no duration":         {"-duration=0"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, run(t.Context(), args, io.Discard))
		})
	}
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-list"}, &out))
	require.Contains(t, out.String(), "limit, blocking callers")
}

func TestWriteKeepsTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), resultsFile)
	r := &Report{Runner: runner(ours{})}
	require.NoError(t, r.Write(path))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(first, "What made the difference.\n"...), 0o600))
	require.NoError(t, r.Write(path))
	second, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(first)+"What made the difference.\n", string(second))
}
