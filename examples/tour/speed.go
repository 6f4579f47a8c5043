package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
)

// callsPerSecond counts calls over one connection. Client and server share the
// CPUs of this process.
func callsPerSecond(ctx context.Context, t *tour) error {
	const callers, size = 100, 128
	t.handler.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	t.line("%d callers on one connection, %d bytes each way, every answer compared", callers, size)

	requests := newBodies(callers, size)
	answers := make([][]byte, callers)
	begin := time.Now()
	counts, err := repeat(callers, t.measure, func(caller, n int) error {
		req, rsp := &requests[caller], &answers[caller]
		setNumber(*req, n)
		if err := t.client.CallWith(ctx, "/echo", req, rsp); err != nil {
			return err
		}
		if !bytes.Equal(*rsp, *req) {
			return fmt.Errorf("the answer differs from the request: % x", *rsp)
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.printRate("calls", counts, time.Since(begin))
	return nil
}

// notificationsPerSecond counts notifications as the server receives them.
func notificationsPerSecond(ctx context.Context, t *tour) error {
	const senders, size = 4, 110
	ticks := tickCounter{counts: make([]int, senders), last: make(chan struct{})}
	t.handler.Handle("/tick", ticks.tick)
	t.handler.Handle("/last-tick", func(*arpc.Context) { close(ticks.last) })
	t.line("%d senders on one connection, %d bytes, the order of each sender checked", senders, size)

	bodies := newBodies(senders, size)
	begin := time.Now()
	sent, err := repeat(senders, t.measure, func(sender, n int) error {
		setNumber(bodies[sender], n)
		return t.client.NotifyWith(ctx, "/tick", &bodies[sender])
	})
	if err != nil {
		return err
	}
	if err := t.client.NotifyWith(ctx, "/last-tick", nil); err != nil {
		return err
	}
	select {
	case <-ticks.last:
	case <-ctx.Done():
		return ctx.Err()
	}
	took := time.Since(begin)
	if err := ticks.check(sent); err != nil {
		return err
	}
	t.printRate("notifications", sent, took)
	return nil
}

// tickCounter counts what the server receives from each sender. It needs no
// lock: notifications of one connection are handled one at a time.
type tickCounter struct {
	counts []int
	wrong  int
	last   chan struct{} // closed behind the last one
}

func (c *tickCounter) tick(ctx *arpc.Context) {
	sender, n := numbers(ctx.Body())
	if n != c.counts[sender] {
		c.wrong++
	}
	c.counts[sender]++
}

// check compares what was received with what was sent.
func (c *tickCounter) check(sent []int) error {
	for sender, n := range sent {
		if n != c.counts[sender] {
			return fmt.Errorf("sender %d: %d notifications sent, %d received", sender, n, c.counts[sender])
		}
	}
	if c.wrong > 0 {
		return fmt.Errorf("%d notifications are not in order", c.wrong)
	}
	return nil
}

// repeat has workers call f again and again for a while, each with its own
// number and the number of its calls so far. It returns how many calls each made.
func repeat(workers int, length time.Duration, f func(worker, n int) error) ([]int, error) {
	var (
		all    sync.WaitGroup
		stop   atomic.Bool
		counts = make([]int, workers)
		errs   = make([]error, workers)
	)
	time.AfterFunc(length, func() { stop.Store(true) })
	for i := range workers {
		all.Go(func() {
			n := 0
			for !stop.Load() {
				if errs[i] = f(i, n); errs[i] != nil {
					break
				}
				n++
			}
			counts[i] = n
		})
	}
	all.Wait()
	return counts, errors.Join(errs...)
}

// newBodies returns a body for each worker, which begins with the worker's
// number and has room for another.
func newBodies(workers, size int) [][]byte {
	bodies := make([][]byte, workers)
	for i := range bodies {
		bodies[i] = make([]byte, size)
		binary.LittleEndian.PutUint64(bodies[i], uint64(i))
	}
	return bodies
}

func setNumber(body []byte, n int) {
	binary.LittleEndian.PutUint64(body[8:], uint64(n))
}

// numbers returns what newBodies and setNumber stored.
func numbers(body []byte) (worker, n int) {
	return int(binary.LittleEndian.Uint64(body)), int(binary.LittleEndian.Uint64(body[8:]))
}

func (t *tour) printRate(what string, counts []int, took time.Duration) {
	total := 0
	for _, n := range counts {
		total += n
	}
	rate := int(float64(total) / took.Seconds())
	left := fmt.Sprintf("%s %s in %.2f s, none lost or wrong", grouped(total), what, took.Seconds())
	t.line("%-56s %11s/s", left, grouped(rate))
}
