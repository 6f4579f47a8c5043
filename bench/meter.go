package main

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Usage is what a process has used since it started.
type Usage struct {
	CPU     time.Duration `json:"cpu"`     // user and system, 0 where unknown
	Mallocs uint64        `json:"mallocs"` // objects allocated
}

func ownUsage() Usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Usage{CPU: processCPU(), Mallocs: m.Mallocs}
}

// Result is what one run has measured.
type Result struct {
	Calls    uint64
	Elapsed  time.Duration
	Client   Usage // of the run alone
	Server   Usage // of the run alone
	P50, P99 time.Duration
	// Others is the processors' time that other programs took meanwhile, in
	// processors, negative where unknown.
	Others float64
}

// Meter takes the figures of one run.
type Meter struct {
	Latency *Latency

	warmup, duration time.Duration
	server           func() (Usage, error)
	result           Result
}

func newMeter(warmup, duration time.Duration, server func() (Usage, error)) *Meter {
	return &Meter{Latency: newLatency(), warmup: warmup, duration: duration, server: server}
}

// Measure waits for the warm-up and then for the duration of the run, during
// which calls counts what is done. It returns the cause when ctx ends before.
func (m *Meter) Measure(ctx context.Context, calls func() uint64) error {
	if err := wait(ctx, m.warmup); err != nil {
		return err
	}
	m.Latency.reset()
	before, err := m.take(calls)
	if err != nil {
		return err
	}
	if err := wait(ctx, m.duration); err != nil {
		return err
	}
	after, err := m.take(calls)
	if err != nil {
		return err
	}
	m.result = after.since(before)
	m.result.P50, m.result.P99 = m.Latency.quantiles()
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reading is the state of the counters at one moment.
type reading struct {
	at             time.Time
	calls          uint64
	client, server Usage
	machine        time.Duration // -1: unknown
}

func (m *Meter) take(calls func() uint64) (reading, error) {
	server, err := m.server()
	return reading{time.Now(), calls(), ownUsage(), server, machineCPU()}, err
}

func (r reading) since(before reading) Result {
	res := Result{
		Calls:   r.calls - before.calls,
		Elapsed: r.at.Sub(before.at),
		Client:  r.client.since(before.client),
		Server:  r.server.since(before.server),
		Others:  -1,
	}
	if before.machine >= 0 && r.machine >= 0 {
		others := r.machine - before.machine - res.Client.CPU - res.Server.CPU
		res.Others = max(0, others.Seconds()/res.Elapsed.Seconds())
	}
	return res
}

func (u Usage) since(before Usage) Usage {
	return Usage{CPU: u.CPU - before.CPU, Mallocs: u.Mallocs - before.Mallocs}
}

// Latency collects how long calls took. Its methods may be called from any
// goroutine.
type Latency struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
}

func newLatency() *Latency {
	return &Latency{hist: hdrhistogram.New(1, int64(time.Minute), 3)}
}

// Record adds one call.
func (l *Latency) Record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hist.RecordValue(max(1, min(int64(d), int64(time.Minute))))
}

func (l *Latency) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hist.Reset()
}

func (l *Latency) quantiles() (p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.hist.ValueAtQuantile(50)), time.Duration(l.hist.ValueAtQuantile(99))
}
