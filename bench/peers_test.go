package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A run that is given up must not wait for answers that never come.
func TestCloseEndsCallsInFlight(t *testing.T) {
	for _, p := range slices.Concat(peers, peerVariants, []Participant{ours{}, grpcEcho{}}) {
		t.Run(p.Name(), func(t *testing.T) {
			skipRacy(t, p)
			s := serveHere(t, p, held{})
			defer s.tell(command{Do: doRelease})
			conn, err := p.Dial(s.addr)
			require.NoError(t, err)
			defer conn.Close()
			callers, ok := conn.(CallConn)
			if !ok {
				t.Skip("it has no calls")
			}
			const calls = 8
			ended := make(chan error, calls)
			call := func() error {
				_, err := callers.Caller().Call(newRequest(128, 0))
				return err
			}
			for range calls {
				go func() { ended <- call() }()
			}
			require.Eventually(t, func() bool {
				now, err := s.ask(doState)
				return err == nil && now.Waiting > 0
			}, patience, look)
			conn.Close()
			for range calls {
				require.Error(t, <-ended)
			}
			require.Error(t, call())
		})
	}
}

// Some systems dial more where many call at once before the first is answered.
func TestCallersShareOneConnection(t *testing.T) {
	for _, p := range slices.Concat(peers, peerVariants, []Participant{ours{}, grpcEcho{}}) {
		t.Run(p.Name(), func(t *testing.T) {
			skipRacy(t, p)
			s := serveHere(t, p, small)
			first, err := p.Dial(s.addr) // the server is there
			require.NoError(t, err)
			defer first.Close()
			if _, ok := first.(CallConn); !ok {
				t.Skip("it has no calls")
			}
			if d, ok := p.(drpcEcho); ok && !d.single {
				t.Skip("it has a pool of connections, as its Setup says")
			}
			counted, err := newDam(s.addr)
			require.NoError(t, err)
			defer counted.close()
			conn, err := p.Dial(counted.addr())
			require.NoError(t, err)
			defer conn.Close()
			const callers = 200
			errs := make(chan error, callers)
			for range callers {
				go func() { errs <- useOnce(conn, newRequest(128, 0)) }()
			}
			for range callers {
				require.NoError(t, <-errs)
			}
			counted.mu.Lock()
			defer counted.mu.Unlock()
			require.Len(t, counted.conns, 2) // both ends of it
		})
	}
}

func TestNewsroomPassesOverThoseThatDoNotRead(t *testing.T) {
	var room newsroom
	reads, stands := make(chan int), make(chan struct{})
	done := make(chan error)
	ready := make(chan struct{}, 2)
	join := func(send func([]byte) error) {
		done <- room.deliver(t.Context(), func() error { ready <- struct{}{}; return nil }, send)
	}
	errEnough := errors.New("enough")
	go join(func([]byte) error { <-stands; return errEnough })
	go join(func(body []byte) error {
		reads <- int(body[0])
		if body[0] == 9 {
			return errEnough
		}
		return nil
	})
	<-ready
	<-ready
	body := make([]byte, 1)
	for n := range 10 {
		body[0] = byte(n)
		require.NoError(t, room.broadcast(body))
		require.Equal(t, n, <-reads)
	}
	for range 2 * maxAhead {
		require.NoError(t, room.broadcast(body))
	}
	require.ErrorIs(t, <-done, errEnough)
	close(stands)
	require.ErrorIs(t, <-done, errEnough)
	require.Empty(t, room.queues)
}
