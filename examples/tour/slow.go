package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

// slowHandlers: on one connection, handlers that take their time are overtaken
// by those that do not. There is nothing to configure.
func slowHandlers(ctx context.Context, t *tour) error {
	const (
		slowCalls = 100
		nap       = 300 * time.Millisecond
	)
	asleep := make(chan struct{}, slowCalls)
	t.handler.Handle("/slow", func(ctx *arpc.Context) {
		asleep <- struct{}{}
		time.Sleep(nap)
		ctx.Write(nil)
	})
	t.handler.Handle("/fast", func(ctx *arpc.Context) { ctx.Write(nil) })

	// Fast calls alone, for as long as a slow one takes.
	quiet, cancel := context.WithTimeout(ctx, nap)
	defer cancel()
	alone, err := fastCalls(ctx, t.client, quiet.Done())
	if err != nil {
		return err
	}

	// Slow calls, until all of them are being handled.
	begin := time.Now()
	var slow sync.WaitGroup
	errs := make([]error, slowCalls)
	for i := range errs {
		slow.Go(func() { errs[i] = t.client.CallWith(ctx, "/slow", nil, nil) })
	}
	awake := make(chan struct{})
	go func() {
		slow.Wait()
		close(awake)
	}()
	for range slowCalls {
		select {
		case <-asleep:
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	// Fast calls among them.
	among, err := fastCalls(ctx, t.client, awake)
	<-awake
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	t.timed(begin, "%d calls whose handlers sleep for %v: all answered in", slowCalls, nap)
	t.line("%-34s %7s %9s %9s %10s", "fast calls on the same connection", "number", "median", "99 %", "slowest")
	t.printLatencies("before them", alone)
	t.printLatencies("while they sleep", among)
	return nil
}

// fastCalls makes one call after the other until end is closed, and returns how
// long each took, the shortest first.
func fastCalls(ctx context.Context, client *arpc.Client, end <-chan struct{}) ([]time.Duration, error) {
	var took []time.Duration
	for {
		select {
		case <-end:
			slices.Sort(took)
			return took, nil
		default:
		}
		begin := time.Now()
		if err := client.CallWith(ctx, "/fast", nil, nil); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
}

// printLatencies prints a line about sorted latencies.
func (t *tour) printLatencies(title string, sorted []time.Duration) {
	n := len(sorted)
	if n == 0 {
		t.line("%-34s %7d", title, n)
		return
	}
	t.line("%-34s %7s %9v %9v %10v", title, grouped(n), short(sorted[n/2]), short(sorted[n*99/100]), short(sorted[n-1]))
}
