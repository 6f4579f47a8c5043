package buffstreams_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// Connections cut anywhere, again and again: with Retry each message arrives, once
// and in order.
func TestRetryDeliversEachMessageOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.fault = func(f arpctest.Faults) { f.CutAfter(rand.Int64N(400)) }
		c := n.connect(t, buffstreams.ConnConfig{SendQueue: 2000, Retry: buffstreams.Retry{Attempts: buffstreams.Forever}})
		want := numbered("message", 1000)
		sendAll(t, c, want)
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, want, n.in.wait(t, len(want)))
		stats := c.Stats()
		require.Equal(t, 1000, int(stats.Sent))
		require.Greater(t, int(stats.Reopened), 10)
		require.Zero(t, stats.Undelivered)
	})
}

// An outage: Send goes on queueing up to the bound, attempts are paced, and when the
// server is back all arrives.
func TestRetryOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := n.connect(t, buffstreams.ConnConfig{SendQueue: 1000, Retry: buffstreams.Retry{Attempts: buffstreams.Forever}})
		n.setDown(errDown)
		start := len(n.log())
		began := time.Now()
		var want []string
		for i := 0; ; i++ {
			message := numbered("message", i+1)[i]
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := c.Send(ctx, []byte(message))
			cancel()
			if err != nil {
				require.ErrorIs(t, err, buffstreams.ErrQueueFull)
				break
			}
			want = append(want, message)
		}
		require.Greater(t, len(want), 50)
		require.LessOrEqual(t, c.Stats().Queued, 1000)
		time.Sleep(10 * time.Minute)
		checkPauses(t, n.log()[start:], began.Sub(n.start))
		n.setDown(nil)
		require.Equal(t, want, n.in.wait(t, len(want)))
	})
}

// checkPauses looks at when a server that was down for ten minutes was dialled, with
// the default pauses: random, up to 100 ms at first and 10 s in the end.
func checkPauses(t *testing.T, dials []time.Duration, began time.Duration) {
	require.InDelta(t, 128, len(dials), 50)
	ceiling, short, long := 100*time.Millisecond, 0, 0
	last := began
	for i, at := range dials {
		pause := at - last
		last = at
		require.LessOrEqual(t, pause, ceiling, "before attempt %d", i+1)
		ceiling = min(2*ceiling, 10*time.Second)
		switch {
		case pause < 3*time.Second:
			short++
		case pause > 7*time.Second:
			long++
		}
	}
	require.Greater(t, short, 15, "the pauses are random")
	require.Greater(t, long, 15, "the pauses are random")
}

// When the attempts are used up what waits is handed over, in order, and the next
// Send begins anew.
func TestRetryGivesUpAfterItsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var causes []error
		lost := newInbox()
		c := n.connect(t, buffstreams.ConnConfig{
			Retry: buffstreams.Retry{Attempts: 4},
			Undelivered: func(message []byte, cause error) {
				causes = append(causes, cause)
				lost.add(message)
			},
		})
		for round := range 2 {
			n.setDown(errDown)
			before := len(n.log())
			want := numbered("message", 30)
			sendAll(t, c, want)
			require.Equal(t, want, lost.wait(t, 30*(round+1))[30*round:])
			for _, cause := range causes {
				require.ErrorIs(t, cause, errDown)
			}
			attempts := len(n.log()) - before
			require.LessOrEqual(t, attempts, 4)
			require.GreaterOrEqual(t, attempts, 3)
			n.setDown(nil)
			sendAll(t, c, []string{"after"})
			require.Equal(t, "after", n.in.wait(t, round+1)[round])
			require.NoError(t, c.Flush(t.Context()))
		}
		require.Equal(t, uint64(60), c.Stats().Undelivered)
	})
}

// A callback may send what it gets again, also on the same Conn.
func TestUndeliveredMaySendAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.fault = func(f arpctest.Faults) { f.CutAfter(100) }
		var c *buffstreams.Conn
		ready := make(chan struct{})
		failed := newInbox()
		c = n.connect(t, buffstreams.ConnConfig{SendQueue: 1000, Undelivered: func(message []byte, cause error) {
			<-ready
			n.mu.Lock()
			n.fault = func(arpctest.Faults) {}
			n.mu.Unlock()
			if err := c.Send(background, message); err != nil {
				failed.add(message)
			}
		}})
		close(ready)
		want := numbered("message", 20)
		for _, message := range want {
			for c.Send(t.Context(), []byte(message)) != nil {
				time.Sleep(time.Second)
			}
		}
		require.ElementsMatch(t, want, n.in.wait(t, 20))
		require.Empty(t, failed.all())
	})
}

// While a callback is busy with messages, others wait for room: nothing grows.
func TestBusyCallbackHoldsSendersUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.fault = func(f arpctest.Faults) { f.CutAfter(0) }
		release := make(chan struct{})
		lost := newInbox()
		c := n.connect(t, buffstreams.ConnConfig{SendQueue: 500, Undelivered: func(message []byte, _ error) {
			<-release
			lost.add(message)
		}})
		accepted := 0
		var err error
		for !errors.Is(err, buffstreams.ErrQueueFull) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err = c.Send(ctx, []byte("0123456789")); err == nil {
				accepted++
			}
			cancel()
			require.LessOrEqual(t, c.Stats().Queued, 500)
		}
		close(release)
		lost.wait(t, accepted)
		synctest.Wait()
		require.Len(t, lost.all(), accepted)
	})
}

func TestCallbackThatPanicsOrExitsMissesNothing(t *testing.T) {
	for name, leave := range map[string]func(){
		"panic":  func() { panic("on purpose") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			lost := newInbox()
			down := &brokenConn{fail: make(chan struct{})}
			down.Conn, _ = arpctest.Pipe()
			c, err := buffstreams.NewConn(down, buffstreams.ConnConfig{Undelivered: func(message []byte, _ error) {
				lost.add(message)
				leave()
			}})
			require.NoError(t, err)
			closeLater(t, c)
			want := numbered("message", 10)
			sendAll(t, c, want)
			close(down.fail)
			require.Equal(t, want, lost.wait(t, 10))
		})
	}
}

// A dial function that ends its goroutine is an attempt that failed.
func TestDialThatExitsHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := arpctest.Pipe()
		n := newNetwork()
		var calls atomic.Int64
		c, err := buffstreams.NewConn(near, buffstreams.ConnConfig{
			Retry: buffstreams.Retry{Attempts: 10},
			Dial: func(ctx context.Context) (net.Conn, error) {
				switch calls.Add(1) {
				case 1:
					runtime.Goexit()
				case 2:
					panic("on purpose")
				}
				return n.dial(ctx)
			},
		})
		require.NoError(t, err)
		far.Close()
		sendAll(t, c, []string{"a", "b"})
		require.Equal(t, []string{"a", "b"}, n.in.wait(t, 2))
		require.Equal(t, int64(3), calls.Load())
		require.NoError(t, c.Close())
		<-c.Done()
		n.ended.Wait()
	})
}

// A server that accepts and closes at once, as one does that is full, is not dialled
// in a loop.
func TestConnectionsThatEndAtOnceArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := n.connect(t, buffstreams.ConnConfig{Retry: buffstreams.Retry{Attempts: buffstreams.Forever}})
		n.mu.Lock()
		n.fault = func(f arpctest.Faults) { f.CutAfter(0) }
		n.mu.Unlock()
		n.setDown(errDown)
		n.setDown(nil)
		sendAll(t, c, []string{"message"})
		time.Sleep(time.Minute)
		require.Less(t, len(n.log()), 60)
	})
}

// Connections that end before anything was handed to them count as attempts.
func TestRetryGivesUpOnConnectionsThatEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		lost := newInbox()
		n.fault = func(f arpctest.Faults) { f.CutAfter(2) } // less than a header
		c := n.connect(t, buffstreams.ConnConfig{Retry: buffstreams.Retry{Attempts: 4}, Undelivered: lost.undelivered})
		sendAll(t, c, []string{"a", "b"})
		require.Equal(t, []string{"a", "b"}, lost.wait(t, 2))
		require.Len(t, n.log(), 4)
	})
}
