package main

import (
	"context"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the server that a test starts.
func TestMain(m *testing.M) {
	list := append(slices.Concat(participants, variants), corrupting{}, unable{})
	if code, ok := serveRole(list, os.Args[1:]); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// serveHere runs a participant's server in this process.
func serveHere(t *testing.T, p Participant) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Serve(ctx, ln)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return ln.Addr().String()
}
