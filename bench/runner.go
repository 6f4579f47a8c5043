package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Runner measures the rows of tables in interleaved rounds: each round has one
// run of every row, with two processes of its own.
type Runner struct {
	Tables           []*Table
	Rounds           int
	Warmup, Duration time.Duration
	// Quiet is how long each run may wait for an idle machine, and be repeated
	// when other programs disturb it. 0: run at once, and once.
	Quiet      time.Duration
	ProfileDir string    // of CPU profiles of both ends, empty: none
	Progress   io.Writer // one line for each run

	began time.Time
	runs  int
}

// Run fills in the results. What a participant is not made for and what goes
// wrong is noted in its row, which is not measured any more; the rest goes on. It
// returns an error when ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	r.began = time.Now()
	for round := range r.Rounds {
		for _, t := range r.Tables {
			for _, row := range t.Rows {
				if row.LeftOut != nil {
					continue
				}
				res, err := r.undisturbed(ctx, row)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				r.runs++
				row.add(res, err)
				fmt.Fprintf(r.Progress, "%s  round %d/%d  %-11s  %s\n", r.left(), round+1, r.Rounds, t.Name, row.last())
			}
		}
	}
	return nil
}

func (r *Row) add(res Result, err error) {
	if err != nil {
		r.LeftOut = err
		return
	}
	r.Results = append(r.Results, res)
}

// last describes the last run of a row.
func (r *Row) last() string {
	if r.LeftOut != nil {
		return fmt.Sprintf("%-44s %v", r.Label, r.LeftOut)
	}
	res := r.Results[len(r.Results)-1]
	if res.Elapsed == 0 {
		return fmt.Sprintf("%-44s %10s bytes each, resident on the server", r.Label, thousands(res.perCall(float64(res.ServerGrown.Resident))))
	}
	return fmt.Sprintf("%-44s %10s/s%s", r.Label, thousands(res.Rate()), busy(res))
}

// left says how many of the runs are done, and about how long the others take.
func (r *Runner) left() string {
	todo := 0
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			if row.LeftOut == nil {
				todo += r.Rounds - len(row.Results)
			}
		}
	}
	each := time.Since(r.began) / time.Duration(r.runs)
	return fmt.Sprintf("[%d done, %d to do, %v left]", r.runs, todo, (each * time.Duration(todo)).Round(time.Second))
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
const grace = 2 * time.Minute

var errSlow = errors.New("the run took too long")

func (r *Runner) one(ctx context.Context, row *Row) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Warmup+r.Duration+grace, errSlow)
	defer cancel()
	return measure(ctx, clientTask{
		Workload:      row.Workload.Name(),
		Participant:   row.Participant.Name(),
		Warmup:        r.Warmup,
		Duration:      r.Duration,
		ClientProfile: profilePath(r.ProfileDir, row, "client"),
		ServerProfile: profilePath(r.ProfileDir, row, "server"),
	})
}
