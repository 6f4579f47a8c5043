package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what one run has measured.
type Result struct {
	Calls    uint64        `json:"calls"` // or messages, or deliveries: see Workload
	Elapsed  time.Duration `json:"elapsed"`
	Client   Usage         `json:"client"` // of the run alone
	Server   Usage         `json:"server"` // of the run alone
	P50, P99 time.Duration
	// Others is the processors' time that other programs took meanwhile, in
	// processors, negative where unknown.
	Others float64 `json:"others"`
	// ClientGrown and ServerGrown are by how much the ends have grown, in
	// workloads that measure memory.
	ClientGrown Footprint `json:"client_grown"`
	ServerGrown Footprint `json:"server_grown"`
	// Unordered is whether the order of notifications could not be checked.
	Unordered bool `json:"unordered,omitempty"`
}

// Meter takes the figures of one run.
type Meter struct {
	Latency *Latency

	warmup, duration time.Duration
	patience         time.Duration // with what should be there at the end
	server           *remote
	result           Result
}

func newMeter(warmup, duration time.Duration, server *remote) *Meter {
	return &Meter{Latency: newLatency(), warmup: warmup, duration: duration, patience: patience, server: server}
}

var errMissing = errors.New("some are still missing")

// patiently returns a context for waiting until all is there.
func (m *Meter) patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.patience, errMissing)
}

// Stretch makes the run longer, for work whose round takes long.
func (m *Meter) Stretch(times int) {
	m.warmup *= time.Duration(times)
	m.duration *= time.Duration(times)
}

// Measure waits for the warm-up and then for the duration of the run, during
// which count tells what is done. It returns the cause when ctx ends before.
func (m *Meter) Measure(ctx context.Context, count func(state) uint64) error {
	if err := wait(ctx, m.warmup); err != nil {
		return err
	}
	m.Latency.reset()
	before, err := m.take(count)
	if err != nil {
		return err
	}
	if err := wait(ctx, m.duration); err != nil {
		return err
	}
	after, err := m.take(count)
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

func (m *Meter) take(count func(state) uint64) (reading, error) {
	server, err := m.server.ask(doState)
	return reading{time.Now(), count(server), ownUsage(), server.Usage, machineCPU()}, err
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

// footprints are of both ends at one moment, when nothing is left to collect.
type footprints struct{ client, server Footprint }

func (m *Meter) settled() (f footprints, err error) {
	s, err := m.server.ask(doSettle)
	settle()
	return footprints{ownUsage().Now, s.Now}, err
}

// Grown takes the figures of a workload that measures memory, shared by so many.
func (m *Meter) Grown(before, after footprints, by int) error {
	s, err := m.server.ask(doState)
	m.result = Result{
		Calls:       uint64(by),
		Client:      ownUsage(),
		Server:      s.Usage,
		Others:      -1,
		ClientGrown: after.client.since(before.client),
		ServerGrown: after.server.since(before.server),
	}
	return err
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
