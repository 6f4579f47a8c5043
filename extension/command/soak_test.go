package command_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

var soakFor = flag.Duration("soak", 0, "how long TestSoak goes on; 0 leaves it out")

// storm is the stress that the authors of cmd-stream-go put their system under, made
// stricter: sessions send tasks over a pool of four connections to a server that goes up
// and down, and each task is accounted for.
type storm struct {
	sessions int
	rest     time.Duration // of a session between tasks, at most
	up, down time.Duration // of the server, at most
	redial   time.Duration // of the clients, at most
	listen   func() (net.Listener, error)
	dial     arpc.DialerFunc
	// wentDown is called each time, when the server is gone; nil: nobody wants to know.
	wentDown func(*ledger)
}

func tasks() *command.Registry[*ledger] {
	reg := command.NewRegistry[*ledger]()
	command.Register[*ledger, task](reg)
	return reg
}

// run lets it blow for so long.
func (w storm) run(t *testing.T, d time.Duration) {
	l := newLedger(w.sessions)
	stop := make(chan struct{})
	first, weather := make(chan struct{}), sync.WaitGroup{}
	weather.Go(func() { w.server(t, l, stop, sync.OnceFunc(func() { close(first) })) })
	<-first
	pool, err := arpc.NewClientPool(w.dial, 4, arpc.WithReconnect(time.Millisecond, w.redial, arpc.Forever))
	require.NoError(t, err)
	var sessions sync.WaitGroup
	for id := range w.sessions {
		s := &session{ledger: l, sender: tasks().Sender(pool), id: id, rest: w.rest, stop: stop, random: rand.New(rand.NewPCG(uint64(id), 1))}
		sessions.Go(func() { s.run(context.Background()) })
	}
	time.Sleep(d)
	close(stop)
	sessions.Wait()
	pool.Stop()
	weather.Wait()

	t.Log(l)
	require.Empty(t, l.faults.all())
	require.Equal(t, l.sent.Load(), l.ended(), "each has ended, with its results or an error")
	require.Positive(t, l.complete.Load())
	require.Positive(t, l.asFated.Load())
	require.Positive(t, l.unsent.Load()+l.lost.Load(), "there were outages")
}

// server goes up and down, by a Stop or a Shutdown that is cut short, and is down in the
// end.
func (w storm) server(t *testing.T, l *ledger, stop <-chan struct{}, isUp func()) {
	for {
		s := arpc.NewServer()
		tasks().Handle(s.Handler, l)
		ln, err := w.listen()
		if err != nil {
			t.Errorf("listen again: %v", err)
			return
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		isUp()
		stopped := pause(w.up, stop)
		if !stopped && rand.IntN(2) == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), w.down)
			s.Shutdown(ctx)
			cancel()
		}
		s.Stop()
		<-served
		if stopped || pause(w.down, stop) {
			return
		}
		if w.wentDown != nil {
			w.wentDown(l)
		}
	}
}

// pause waits for some time, up to most. It reports whether stop was closed.
func pause(most time.Duration, stop <-chan struct{}) bool {
	select {
	case <-time.After(rand.N(most) + time.Microsecond):
		return false
	case <-stop:
		return true
	}
}

// The storm of minutes, in fake time: up to 20 s up and up to 5 s down.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ln atomic.Pointer[arpctest.MemoryListener]
		storm{
			sessions: 20, rest: 400 * time.Millisecond, up: 20 * time.Second, down: 5 * time.Second, redial: time.Second,
			listen: func() (net.Listener, error) {
				ln.Store(arpctest.ListenMemory())
				return ln.Load(), nil
			},
			dial: func() (net.Conn, error) { return ln.Load().Dial() },
		}.run(t, 90*time.Second)
	})
}

// onTCP returns what listens on and dials one address, again and again.
func onTCP(t *testing.T) (func() (net.Listener, error), arpc.DialerFunc) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	return func() (net.Listener, error) { return net.Listen("tcp", addr) }, func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

// A storm over sockets, of seconds.
func TestStormOverTCP(t *testing.T) {
	listen, dial := onTCP(t)
	before := openFiles()
	storm{
		sessions: 16, rest: 8 * time.Millisecond, up: 400 * time.Millisecond, down: 100 * time.Millisecond, redial: 10 * time.Millisecond,
		listen: listen, dial: dial,
	}.run(t, 2*time.Second)
	require.Eventually(t, func() bool { return openFiles() <= before }, guard, time.Millisecond, "no descriptor is left")
}

// The storm as it is meant, for hours: go test -run TestSoak -soak=12h -timeout=13h.
// Nothing is unaccounted for, and nothing grows.
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("it takes as long as -soak says")
	}
	listen, dial := onTCP(t)
	var weights []weight
	storm{
		sessions: 64, rest: 100 * time.Millisecond, up: 20 * time.Second, down: 5 * time.Second, redial: time.Second, listen: listen, dial: dial,
		wentDown: func(l *ledger) {
			weights = append(weights, weigh())
			t.Log(weights[len(weights)-1], l)
			if f := l.faults.all(); len(f) > 0 && !t.Failed() {
				t.Error(f)
			}
		},
	}.run(t, *soakFor)
	checkFlat(t, weights)
}

// weight is what the process takes while the server is away.
type weight struct {
	Goroutines, Files int
	Heap              uint64 // in bytes
}

func weigh() weight {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return weight{runtime.NumGoroutine(), openFiles(), m.HeapAlloc}
}

// openFiles counts the descriptors of the process, 0 where the system does not say.
func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// checkFlat compares the last third with the first, of which each must have a few.
func checkFlat(t *testing.T, weights []weight) {
	third := len(weights) / 3
	if third < 3 {
		t.Logf("too short a time to see whether anything grows: %d samples", len(weights))
		return
	}
	for what, of := range map[string]func(weight) float64{
		"goroutines":  func(w weight) float64 { return float64(w.Goroutines) },
		"descriptors": func(w weight) float64 { return float64(w.Files) },
		"heap":        func(w weight) float64 { return float64(w.Heap) },
	} {
		first, last := median(weights[:third], of), median(weights[len(weights)-third:], of)
		t.Logf("%s: %.0f at first, %.0f at last", what, first, last)
		slack := 10.0
		if what == "heap" {
			slack = 4 << 20
		}
		require.LessOrEqual(t, last, 1.2*first+slack, what)
	}
}

func median(list []weight, of func(weight) float64) float64 {
	var all []float64
	for _, w := range list {
		all = append(all, of(w))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
