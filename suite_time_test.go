package arpc_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteBubble runs body on a fake clock, over memory.
func suiteBubble(t *testing.T, body func(t *testing.T, p *arpctest.Pair), opts ...arpctest.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		body(t, arpctest.New(t, arpctest.Memory(), append(opts, arpctest.Setup(suiteWithStreams))...))
	})
}

// suiteSilence makes the network between the two ends dead.
func suiteSilence(p *arpctest.Pair) {
	arpctest.FaultsOf(p.Client.Conn()).Stall()
	arpctest.FaultsOf(p.Peer().Conn()).Stall()
}

var (
	suiteNoReconnect = arpc.WithReconnect(0, 0, 0)
	suiteNoKeepalive = arpc.WithKeepalive(0, 0)
)

// A peer that is silent for the interval is pinged, and given up when nothing
// comes for the timeout after that. A hello would be a sign of life.
func TestSuiteKeepaliveDeadPeer(t *testing.T) {
	ends := map[string]struct {
		opts arpctest.Option
		who  func(p *arpctest.Pair) *arpc.Client
		want time.Duration
	}{
		"client": {
			arpctest.ClientOptions(arpc.WithKeepalive(10*time.Second, 3*time.Second)),
			func(p *arpctest.Pair) *arpc.Client { return p.Client }, 13 * time.Second,
		},
		"server": {
			arpctest.ServerOptions(arpc.WithKeepalive(10*time.Second, 3*time.Second)),
			(*arpctest.Pair).Peer, 13 * time.Second,
		},
		"clientByDefault": {
			arpctest.ClientOptions(),
			func(p *arpctest.Pair) *arpc.Client { return p.Client }, 45 * time.Second,
		},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
				start := time.Now()
				c := test.who(p)
				suiteSilence(p)
				<-c.Done()
				require.ErrorIs(t, c.Err(), arpc.ErrKeepalive)
				require.Equal(t, test.want, time.Since(start))
			}, test.opts, arpctest.ClientOptions(suiteNoReconnect, arpc.WithVersions(1, 1)))
		})
	}
}

// After traffic a dead peer is found within the interval, once more.
func TestSuiteKeepaliveAfterTraffic(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		for range 10 {
			time.Sleep(7 * time.Second)
			suiteAlive(t, p)
		}
		start := time.Now()
		suiteSilence(p)
		call := suiteAsync(t, p.Client, "/echo", nil)
		<-p.Client.Done()
		require.ErrorIs(t, p.Client.Err(), arpc.ErrKeepalive)
		require.GreaterOrEqual(t, time.Since(start), 13*time.Second)
		require.LessOrEqual(t, time.Since(start), 23*time.Second)
		require.ErrorIs(t, (<-call).err, arpc.ErrKeepalive, "the calls end with the connection")
	}, arpctest.ClientOptions(suiteNoReconnect, arpc.WithKeepalive(10*time.Second, 3*time.Second)))
}

// A live peer is kept, however long it has nothing to say, also when its answers
// are slow or its handlers are.
func TestSuiteKeepaliveIdlePeer(t *testing.T) {
	keepalive := arpc.WithKeepalive(10*time.Second, 3*time.Second)
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		conn := p.Client.Conn()
		arpctest.FaultsOf(conn).Delay(time.Second)
		arpctest.FaultsOf(p.Peer().Conn()).Delay(time.Second)
		time.Sleep(24 * time.Hour)
		suiteAlive(t, p)
		require.Same(t, conn, p.Client.Conn())
	}, arpctest.ClientOptions(keepalive), arpctest.ServerOptions(keepalive))
}

// An end that does not read because its handlers are at the limit is not a
// reason to take the peer for dead.
func TestSuiteKeepaliveAtTheLimit(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		handled := make(chan int, 3)
		p.Client.Handler.Handle("/slow", func(ctx *arpc.Context) {
			suiteSleep(ctx, 5*time.Minute)
			handled <- 1
		}, true)
		conn := p.Client.Conn()
		for range cap(handled) {
			require.NoError(t, p.Peer().Notify("/slow", nil, suitePatience))
		}
		for range cap(handled) {
			require.Equal(t, 1, suiteNextOrEnd(handled, p.Client), "the client ended: %v", p.Client.Err())
		}
		require.Same(t, conn, p.Client.Conn())
		suiteAlive(t, p)
	}, arpctest.ClientOptions(arpc.WithMaxInflight(1), suiteNoReconnect))
}

// suiteSleep sleeps until the connection ends: a bubble has no place for who
// sleeps on.
func suiteSleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// The wait before an attempt is random, between nothing and a bound that doubles
// up to the limit.
func TestSuiteBackOff(t *testing.T) {
	const base, limit, attempts = 100 * time.Millisecond, 2 * time.Second, 12
	below := make([]bool, attempts) // a wait in the lower half was seen
	above := make([]bool, attempts)
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			waits := suiteWaits(t, arpc.WithReconnect(base, limit, attempts))
			require.Len(t, waits, attempts)
			for i, wait := range waits {
				bound := min(base<<i, limit)
				require.LessOrEqual(t, wait, bound)
				below[i] = below[i] || wait < bound/2
				above[i] = above[i] || wait > bound/2
			}
		})
	}
	for i := range attempts {
		require.True(t, below[i] && above[i], "attempt %d is not random", i+1)
	}
}

// suiteWaits returns the waits of a client that cannot connect again, until it
// gives up.
func suiteWaits(t *testing.T, opt arpc.Option) (waits []time.Duration) {
	t.Helper()
	p := arpctest.New(t, arpctest.Memory())
	h := arpc.NewHandler(opt)
	var last time.Time
	h.HandleReconnect(func(*arpc.Client, int, error) {
		waits = append(waits, time.Since(last))
		last = time.Now()
	})
	c, line := suiteOnLine(t, p, arpc.WithHandler(h))
	line.lead(nil)
	last = time.Now()
	c.Conn().Close()
	<-c.Done()
	require.ErrorIs(t, c.Err(), errSuiteNowhere)
	return waits
}

// A server that accepts and closes at once is not dialled in a loop, also when it
// says hello before.
func TestSuiteBackOffOfUselessConnections(t *testing.T) {
	for name, test := range map[string]struct {
		version  int
		politely func(dial int) bool // whether the hello is answered
	}{
		"version 1":       {1, func(int) bool { return false }},
		"closes":          {2, func(dial int) bool { return dial == 0 }},
		"hello and close": {2, func(int) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := arpctest.ListenMemory()
				dialled, connected := make(chan time.Time, 1000), make(chan struct{})
				go suiteUseless(ln, test.politely, dialled, connected)
				c, err := arpc.NewClient(ln.Dial, arpc.WithVersions(1, test.version), arpc.WithReconnect(time.Second, 8*time.Second, arpc.Forever))
				require.NoError(t, err)
				defer c.Stop()
				close(connected)
				time.Sleep(10 * time.Minute)
				ln.Close()
				require.Greater(t, len(dialled), 60)
				require.Less(t, len(dialled), 300, "4 seconds between two on average")
			})
		})
	}
}

// suiteUseless closes what it accepts at once, but for the first connection, which
// it closes when the client has come to know it.
func suiteUseless(ln net.Listener, politely func(dial int) bool, dialled chan<- time.Time, connected <-chan struct{}) {
	for n := 0; ; n++ {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		dialled <- time.Now()
		if politely(n) {
			nc.Write(oldPong)
		}
		if n == 0 {
			<-connected
		}
		nc.Close()
	}
}

// Every call ends at its own deadline.
func TestSuiteDeadlinesExactly(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		suiteSilence(p)
		start := time.Now()
		took := make(chan [2]time.Duration)
		for i := range 100 {
			timeout := time.Duration(100-i) * time.Second
			go func() {
				err := suiteCallSomehow(p.Client, i, timeout)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the error is %v", err)
				}
				took <- [2]time.Duration{timeout, time.Since(start)}
			}()
		}
		for range 100 {
			times := <-took
			require.Equal(t, times[0], times[1])
		}
	}, arpctest.ClientOptions(suiteNoKeepalive))
}

// suiteCallSomehow calls in one of the ways there are, and returns the outcome.
func suiteCallSomehow(c *arpc.Client, i int, timeout time.Duration) error {
	switch i % 3 {
	case 0:
		return c.Call("/echo", nil, nil, timeout)
	case 1:
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return c.CallWith(ctx, "/echo", nil, nil)
	}
	outcome := make(chan error, 1)
	if err := c.CallAsync("/echo", nil, func(ctx *arpc.Context) { outcome <- ctx.Bind(nil) }, timeout); err != nil {
		return err
	}
	return <-outcome
}

// The deadline of a call counts from its beginning, also while it waits for room
// to send.
func TestSuiteDeadlineWhileWaitingForRoom(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		suiteSilence(p)
		body := make([]byte, 64<<10)
		for p.Client.Notify("/n", body, arpc.TimeZero) == nil {
			synctest.Wait() // the flusher takes what it can
		}
		sends := map[string]func() error{
			"notify": func() error { return p.Client.Notify("/n", body, time.Second) },
			"call":   func() error { return p.Client.Call("/n", body, nil, time.Second) },
			"async":  func() error { return p.Client.CallAsync("/n", body, suiteNever(t), time.Second) },
			"with": func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				return p.Client.NotifyWith(ctx, "/n", body)
			},
		}
		for name, send := range sends {
			start := time.Now()
			err := send()
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			suiteUnsent(t, err, arpc.CodeDeadlineExceeded)
			require.Equal(t, time.Second, time.Since(start), name)
		}
	}, arpctest.ClientOptions(suiteNoKeepalive, arpc.WithSendQueue(4, 1<<20), arpc.WithWriteTimeout(0)))
}

// Shutdown of an idle end takes no time to speak of; of a busy one it takes as
// long as its context allows.
func TestSuiteShutdownTakes(t *testing.T) {
	suiteBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/slow", func(ctx *arpc.Context) { suiteSleep(ctx, time.Hour) })
		idle, busy := p.Dial(), p.Dial()
		start := time.Now()
		require.NoError(t, idle.Shutdown(t.Context()))
		require.Less(t, time.Since(start), time.Second)

		suiteAsync(t, busy, "/slow", nil)
		synctest.Wait()
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.ErrorIs(t, busy.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}
