package main

import (
	"bufio"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakes are participants that are wrong in some way, and workloads that are
// short.
var (
	fakes = []Participant{corrupting{}, unable{}}
	small = echo{name: "T", conns: 1, callers: 10, size: 128}
)

// TestMain lets the test binary be the ends that a test starts.
func TestMain(m *testing.M) {
	all := known(suite())
	all.participants = append(all.participants, fakes...)
	all.workloads = append(all.workloads, small)
	if code, ok := playRole(all, os.Args[1:]); ok {
		os.Exit(code)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the ends: they end often
	os.Exit(m.Run())
}

// serveHere runs a participant's server in this process, for a workload.
func serveHere(t *testing.T, p Participant, w Workload) *remote {
	t.Helper()
	var task serverTask
	w.Server(&task)
	commands, in := io.Pipe()
	out, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serve(p, newWork(task.Delay, task.Held), commands, answers) }()
	t.Cleanup(func() {
		in.Close()
		require.NoError(t, <-ended)
	})
	r := &remote{in: in, out: bufio.NewReader(out)}
	line, err := r.out.ReadString('\n')
	require.NoError(t, err)
	r.addr = strings.TrimSpace(line)
	return r
}
