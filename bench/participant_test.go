package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParticipantsAnswer(t *testing.T) {
	for _, p := range slices.Concat(participants, variants) {
		t.Run(p.Name(), func(t *testing.T) {
			require.NotEmpty(t, p.Setup())
			conn, err := p.Dial(serveHere(t, p))
			require.NoError(t, err)
			defer conn.Close()
			errs := make(chan error)
			const callers = 8
			for id := range uint64(callers) {
				c := &echoCaller{caller: conn.Caller(), id: id, latency: newLatency()}
				go func() { errs <- growing(c) }()
			}
			for range callers {
				require.NoError(t, <-errs)
			}
		})
	}
}

// growing makes calls of 24 bytes to 192 KiB.
func growing(c *echoCaller) error {
	for n := range uint64(14) {
		req := bytes.Repeat([]byte{byte(c.id)}, 24<<n)
		stamp(req, c.id, n)
		if err := c.call(req, true); err != nil {
			return err
		}
	}
	return nil
}

// A run that is given up must not wait for answers that never come. arpc 1.2.17
// ends its calls too, with data races that are its own.
func TestCloseEndsCalls(t *testing.T) {
	for _, p := range []Participant{ours{}, grpcEcho{}, limit{}} {
		t.Run(p.Name(), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			w := echo{name: "T", conns: 2, callers: 4, size: 64}
			measured := make(chan struct{})
			meter := newMeter(0, time.Hour, func() (Usage, error) {
				close(measured)
				return Usage{}, nil
			})
			go func() {
				<-measured
				cancel()
			}()
			require.ErrorIs(t, w.Run(ctx, p, serveHere(t, p), meter), context.Canceled)
		})
	}
}

func TestNamesSayTheVersions(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	require.Contains(t, string(mod), "github.com/lesismal/arpc v1.2.17")
	require.Contains(t, lesismal{}.Name(), "1.2.17")
	require.Contains(t, string(mod), "google.golang.org/grpc v1.85.0")
	require.Contains(t, grpcEcho{}.Name(), "1.85.0")
}

func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range slices.Concat(participants, variants) {
		require.False(t, seen[p.Name()], p.Name())
		seen[p.Name()] = true
	}
	require.Equal(t, oursName, participants[0].Name())
}
