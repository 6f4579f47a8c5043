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

// runner measures for 100 ms, with processes of its own.
func runner(list ...Participant) *Runner {
	return &Runner{
		Tables:   []*Table{echoless(list...)},
		Rounds:   1,
		Duration: 100 * time.Millisecond,
		Progress: io.Discard,
	}
}

// echoless is a table of the small echo with no more participants than asked for.
func echoless(list ...Participant) *Table {
	t := echoTable(small)
	t.Rows = nil
	t.addAll(list, small)
	return t
}

func TestTwoProcesses(t *testing.T) {
	t.Chdir(t.TempDir())
	var out bytes.Buffer
	err := run(t.Context(), []string{"-rounds=1", "-duration=200ms", "-warmup=10ms", "-only=^ours$|limit", "-workload=W2", "-write", "-cpuprofile=."}, &out)
	require.NoError(t, err, out.String())
	written, err := os.ReadFile(resultsFile)
	require.NoError(t, err)
	for _, text := range []string{out.String(), string(written)} {
		require.Contains(t, text, "W2: 1 connection, 100 callers, 128 bytes")
		require.Contains(t, text, "| ours ")
		require.NotContains(t, text, "NaN")
	}
	require.Contains(t, string(written), "(charts/W2.svg)")
	require.FileExists(t, filepath.Join(chartsDir, "W2.svg"))
	for _, end := range []string{"client", "server"} {
		profile, err := os.Stat("W2-ours-" + end + ".pprof")
		require.NoError(t, err)
		require.NotZero(t, profile.Size())
	}
}

func TestRunCountsBothEnds(t *testing.T) {
	r := runner(ours{}, limit{})
	require.NoError(t, r.Run(t.Context()))
	rows := r.Tables[0].measured()
	require.Len(t, rows, 2)
	for _, row := range rows {
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
	require.NoError(t, r.Run(t.Context()))
	require.Len(t, r.Tables[0].Rows[0].Results, 1)
}

func TestAwaitIdle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, awaitIdle(ctx, time.Now()))
	cancel()
	require.ErrorIs(t, awaitIdle(ctx, time.Now().Add(time.Hour)), context.Canceled)
}

// What goes wrong with one does not lose the figures of others.
func TestFailuresAreReported(t *testing.T) {
	r := runner(corrupting{}, unable{}, limit{})
	r.Tables = append(r.Tables, noticeTable(notify{name: "W5", senders: 1, size: 110}))
	r.Tables[1].Rows = r.Tables[1].Rows[:0]
	r.Tables[1].addAll([]Participant{limit{}}, notify{name: "W5"})
	require.NoError(t, r.Run(t.Context()))
	report := &Report{Runner: r}
	failures := report.failures()
	require.Len(t, failures, 2)
	require.ErrorContains(t, failures[0], "T, corrupting: caller")
	require.ErrorContains(t, failures[0], errWrongAnswer.Error())
	require.ErrorContains(t, failures[1], "T, unable: ")
	require.Contains(t, report.String(), "- corrupting: failed: ")
	require.Contains(t, report.String(), "- limit, blocking callers: left out: no notifications.")
	require.Contains(t, report.String(), "| limit, blocking callers |")
}

func TestInterruptEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := runner(ours{})
	r.Duration = time.Hour
	time.AfterFunc(100*time.Millisecond, cancel)
	require.ErrorIs(t, r.Run(ctx), context.Canceled)
}

func TestInterruptStopsTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := startServer(ctx, serverTask{Participant: oursName})
	require.NoError(t, err)
	_, err = s.ask(doSettle)
	require.NoError(t, err)
	cancel()
	require.Error(t, s.cmd.Wait(), "it is killed while its input is open")
	require.NotNil(t, s.cmd.ProcessState)
	s.in.Close()
}

func TestServerEndsWithItsInput(t *testing.T) {
	var out bytes.Buffer
	ask := `{"do":"state"}` + "\n"
	require.NoError(t, serve(limit{}, newWork(0, false), strings.NewReader(ask+ask), &out))
	require.Equal(t, 3, strings.Count(out.String(), "\n"))
	require.ErrorContains(t, serve(limit{}, newWork(0, false), strings.NewReader(`{"do":"dance"}`), io.Discard), "dance")
}

func TestRoles(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		ok   bool
	}{
		"nothing":          {nil, false},
		"a flag of ours":   {[]string{"-rounds", "3"}, false},
		"too few":          {[]string{serveFlag}, false},
		"unknown server":   {[]string{serveFlag, `{"participant":"nobody"}`}, true},
		"unknown client":   {[]string{measureFlag, `{"participant":"nobody"}`}, true},
		"unknown workload": {[]string{measureFlag, `{"participant":"ours","workload":"W99"}`}, true},
		"no task":          {[]string{serveFlag, ``}, true},
	} {
		t.Run(name, func(t *testing.T) {
			code, ok := playRole(registry{participants: participants}, c.args)
			require.Equal(t, c.ok, ok)
			if ok {
				require.Equal(t, 1, code)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown participant": {"-only=nobody"},
		"unknown workload":    {"-workload=W99"},
		"broken regexp":       {"-only=("},
		"another":             {"-workload=("},
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

func TestVariantsAreMeasuredByRequest(t *testing.T) {
	tables, err := choose("", "^W3$", false)
	require.NoError(t, err)
	require.Len(t, tables, 1)
	require.Len(t, tables[0].Rows, len(participants))
	tables, err = choose("stream workers", "^W3$", false)
	require.NoError(t, err)
	require.Len(t, tables[0].Rows, 1)
	tables, err = choose("", "", true)
	require.NoError(t, err)
	require.Len(t, tables, len(suite()))
}

func TestWriteKeepsTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), resultsFile)
	charts := filepath.Join(t.TempDir(), chartsDir)
	r := &Report{Runner: runner(ours{})}
	require.NoError(t, r.Write(path, charts))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(first, "What made the difference.\n"...), 0o600))
	require.NoError(t, r.Write(path, charts))
	second, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(first)+"What made the difference.\n", string(second))
}
