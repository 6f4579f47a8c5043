package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// loop is one of those that work at the same time in a run, until told to stop.
type loop interface {
	run(stop *atomic.Bool) error
	done() uint64
}

// tally counts what one loop has done.
type tally struct {
	_       [128]byte // loops share no cache line
	calls   atomic.Uint64
	id      uint64
	latency *Latency
	every   uint64 // how many calls have one whose time is taken
	_       [128]byte
}

func (t *tally) done() uint64 { return t.calls.Load() }

func (t *tally) repeat(stop *atomic.Bool, call func(n uint64) error) error {
	for n := uint64(1); !stop.Load(); n++ {
		if err := call(n); err != nil {
			return t.failed(n, err)
		}
		t.calls.Store(n)
	}
	return nil
}

func (t *tally) failed(n uint64, err error) error {
	return fmt.Errorf("caller %d, call %d: %w", t.id, n, err)
}

// start returns the time if that of call n is taken. Loops take turns, so that
// short runs have some too.
func (t *tally) start(n uint64) time.Time {
	if (n+t.id)%t.every != 0 {
		return time.Time{}
	}
	return time.Now()
}

func (t *tally) took(start time.Time) {
	if !start.IsZero() {
		t.latency.Record(time.Since(start))
	}
}

// patience is how long loops may take to end once they are told to.
const patience = 10 * time.Second

var errStuck = errors.New("calls did not end")

// runLoops has loops at work while something is measured. fail ends ctx, and with
// it the connections.
func runLoops(ctx context.Context, fail context.CancelCauseFunc, loops []loop, measure func() error) error {
	var stop atomic.Bool
	var running sync.WaitGroup
	for _, l := range loops {
		running.Go(func() {
			if err := l.run(&stop); err != nil {
				fail(err)
			}
		})
	}
	err := measure()
	stop.Store(true)
	defer time.AfterFunc(patience, func() { fail(errStuck) }).Stop()
	running.Wait()
	return cmp.Or(context.Cause(ctx), err)
}

// awaitBegun waits until each loop has done something, but not for long: many take
// a while to start.
func awaitBegun(ctx context.Context, loops []loop) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		idle := slices.IndexFunc(loops, func(l loop) bool { return l.done() == 0 })
		if idle < 0 {
			return nil
		}
		loops = loops[idle:]
		if err := wait(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func total(loops []loop) (n uint64) {
	for _, l := range loops {
		n += l.done()
	}
	return n
}
