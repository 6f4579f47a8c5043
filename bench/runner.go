package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Runner measures participants in interleaved rounds: each round has one run of
// every participant, with a server process of its own.
type Runner struct {
	Participants     []Participant
	Workloads        []Workload
	Rounds           int
	Warmup, Duration time.Duration
	// Quiet is how long each run may wait for an idle machine, and be repeated
	// when other programs disturb it. 0: run at once, and once.
	Quiet      time.Duration
	ProfileDir string    // of CPU profiles of both ends, empty: none
	Progress   io.Writer // one line for each run
}

// Run returns the results of each workload. It ends with the first error.
func (r *Runner) Run(ctx context.Context) ([]*Table, error) {
	var tables []*Table
	for _, w := range r.Workloads {
		t := &Table{Workload: w}
		for _, p := range r.Participants {
			t.Rows = append(t.Rows, &Row{Participant: p})
		}
		tables = append(tables, t)
	}
	for round := range r.Rounds {
		for _, t := range tables {
			for _, row := range t.Rows {
				res, err := r.undisturbed(ctx, t.Workload, row.Participant)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", t.Workload.Name(), row.Participant.Name(), err)
				}
				row.Results = append(row.Results, res)
				fmt.Fprintf(r.Progress, "round %d/%d  %s  %-44s %10.0f calls/s%s\n", round+1, r.Rounds, t.Workload.Name(), row.Participant.Name(), res.Rate(), busy(res))
			}
		}
	}
	return tables, nil
}

// noisy is from how many processors on the work of others is worth a word.
const noisy = 0.1

func busy(res Result) string {
	if res.Others < noisy {
		return ""
	}
	return fmt.Sprintf("  (other programs: %.2f processors)", res.Others)
}

// grace is what a run may take beyond its warm-up and duration.
const grace = 30 * time.Second

func (r *Runner) one(ctx context.Context, w Workload, p Participant) (res Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Warmup+r.Duration+grace)
	defer cancel()
	s, err := startServer(ctx, p, profilePath(r.ProfileDir, w, p, "server"))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	stop, err := startProfile(profilePath(r.ProfileDir, w, p, "client"))
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	runtime.GC() // what the run before has left
	meter := newMeter(r.Warmup, r.Duration, s.usage)
	err = w.Run(ctx, p, s.addr, meter)
	return meter.result, err
}
