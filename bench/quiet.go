package main

import (
	"context"
	"fmt"
	"time"
)

// quietLook is how long other programs are watched before a run.
const quietLook = 500 * time.Millisecond

// undisturbed makes a run on an idle machine: it waits for that, and tries again
// when other programs worked meanwhile. Once r.Quiet is over it takes what it
// gets.
func (r *Runner) undisturbed(ctx context.Context, row *Row) (Result, error) {
	end := time.Now().Add(r.Quiet)
	for {
		if err := awaitIdle(ctx, end); err != nil {
			return Result{}, err
		}
		res, err := r.one(ctx, row)
		if err != nil || res.Others < noisy || !time.Now().Before(end) {
			return res, err
		}
		fmt.Fprintf(r.Progress, "once more  %s  %s%s\n", row.Workload.Name(), row.Label, busy(res))
	}
}

// awaitIdle waits until other programs rest, or until end.
func awaitIdle(ctx context.Context, end time.Time) error {
	for time.Now().Before(end) {
		before := machineCPU()
		if err := wait(ctx, quietLook); err != nil {
			return err
		}
		if before < 0 || (machineCPU()-before).Seconds() < noisy*quietLook.Seconds() {
			return nil
		}
	}
	return nil
}
