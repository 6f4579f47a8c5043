package arpc_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/stretchr/testify/require"
)

// Calls of 100,000 are in flight at the same time on one connection, and each
// gets its own answer, once.
func TestManyCallsInFlight(t *testing.T) {
	const calls = 100_000
	s, addr := serve(t, arpc.WithMaxInflight(2*calls), arpc.WithMaxInflightBytes(1<<30))
	var mu sync.Mutex
	held := make([]*arpc.Context, 0, calls)
	all := make(chan struct{})
	s.Handler.Handle("/hold", func(ctx *arpc.Context) {
		d := ctx.Detach()
		mu.Lock()
		defer mu.Unlock()
		held = append(held, d)
		if len(held) == calls {
			close(all)
		}
	})
	c := dial(t, addr)
	answers := make([]atomic.Int32, calls)
	var left sync.WaitGroup
	left.Add(calls)
	for i := range calls {
		req := binary.LittleEndian.AppendUint64(nil, uint64(i))
		err := c.CallAsync("/hold", req, func(ctx *arpc.Context) {
			defer left.Done()
			var rsp []byte
			if err := ctx.Bind(&rsp); err != nil || binary.LittleEndian.Uint64(rsp) != uint64(i)*3 {
				t.Errorf("call %d: answer %x, error %v", i, rsp, err)
			}
			answers[i].Add(1)
		}, time.Minute)
		require.NoError(t, err)
	}
	<-all
	rand.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	for _, ctx := range held {
		n := binary.LittleEndian.Uint64(ctx.Body())
		require.NoError(t, ctx.WriteBytes(binary.LittleEndian.AppendUint64(nil, n*3)))
	}
	left.Wait()
	for i := range answers {
		require.EqualValues(t, 1, answers[i].Load(), "call %d", i)
	}
}

// The connection is cut at random points, in either direction and in the middle
// of frames, 1,000 times under load. Every call ends once: with its own answer,
// or with an error that says whether it may be sent again.
func TestCutsUnderLoad(t *testing.T) {
	const cuts = 1000
	ln := memconn.Listen()
	s := arpc.NewServer()
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	ran := make([]atomic.Int32, 1<<20)
	s.Handler.Handle("/triple", func(ctx *arpc.Context) {
		n := binary.LittleEndian.Uint64(ctx.Body())
		ran[n].Add(1)
		ctx.WriteBytes(binary.LittleEndian.AppendUint64(nil, n*3))
	})
	soon := func(nc net.Conn) { nc.(*memconn.Conn).CutAfter(rand.Int64N(3000)) }
	var dials atomic.Int32
	s.Handler.HandleConnected(func(c *arpc.Client) {
		if dials.Load() > 1 {
			soon(c.Conn())
		}
	})

	done := make(chan struct{})
	c, err := arpc.NewClient(func() (net.Conn, error) {
		nc, err := ln.Dial()
		if err != nil {
			return nil, err
		}
		switch dials.Add(1) {
		case 1: // NewClient would fail
		case cuts:
			close(done)
			fallthrough
		default:
			soon(nc)
		}
		return nc, nil
	}, arpc.WithReconnect(time.Microsecond, time.Microsecond, arpc.Forever))
	require.NoError(t, err)
	soon(c.Conn())
	t.Cleanup(c.Stop)

	var next, answered, lost, unsent, asyncPending atomic.Int64
	check := func(n uint64, rsp []byte, err error) {
		switch {
		case err == nil && binary.LittleEndian.Uint64(rsp) == n*3:
			answered.Add(1)
			if got := ran[n].Load(); got != 1 {
				t.Errorf("call %d was answered and ran %d times", n, got)
			}
		case err == nil:
			t.Errorf("call %d got the answer of another: %x", n, rsp)
		case arpc.SafeToRetry(err):
			unsent.Add(1)
		case arpc.CodeOf(err) == arpc.CodeUnavailable:
			lost.Add(1)
		default:
			t.Errorf("call %d: %v", n, err)
		}
	}
	unsentNumbers := make(chan uint64, 1<<20)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				n := uint64(next.Add(1))
				if n >= uint64(len(ran)) {
					t.Error("the cuts take too many calls")
					return
				}
				req := binary.LittleEndian.AppendUint64(nil, n)
				if n%4 == 0 {
					asyncPending.Add(1)
					err := c.CallAsync("/triple", req, func(ctx *arpc.Context) {
						var rsp []byte
						err := ctx.Bind(&rsp)
						if arpc.SafeToRetry(err) {
							unsentNumbers <- n
						}
						check(n, rsp, err)
						asyncPending.Add(-1)
					}, time.Minute)
					if err != nil {
						asyncPending.Add(-1)
						check(n, nil, err)
					}
					continue
				}
				var rsp []byte
				err := c.Call("/triple", req, &rsp, time.Minute)
				for arpc.SafeToRetry(err) && c.State() != arpc.StateClosed {
					runtime.Gosched()
					err = c.Call("/triple", req, &rsp, time.Minute) // cannot run twice
				}
				check(n, rsp, err)
			}
		})
	}
	callers.Wait()
	require.Eventually(t, func() bool { return asyncPending.Load() == 0 }, 10*time.Second, time.Millisecond)
	c.Stop()
	s.Stop()
	close(unsentNumbers)
	for n := range unsentNumbers {
		require.Zero(t, ran[n].Load(), "call %d ran although it is said that it was not sent", n)
	}
	for n := range ran {
		require.LessOrEqual(t, ran[n].Load(), int32(1), "call %d ran more than once", n)
	}
	t.Logf("%d cuts: %d answered, %d lost, %d not sent", cuts, answered.Load(), lost.Load(), unsent.Load())
	require.NotZero(t, answered.Load())
	require.NotZero(t, lost.Load())
}
