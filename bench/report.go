package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Report is everything that is to be known about the figures.
type Report struct {
	Runner *Runner
	Tables []*Table
}

func (r *Report) String() string {
	var b strings.Builder
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n%s", t.Markdown())
	}
	fmt.Fprintf(&b, "\nSet-ups:\n\n")
	for _, p := range r.Runner.Participants {
		fmt.Fprintf(&b, "- %s: %s.\n", p.Name(), p.Setup())
	}
	fmt.Fprintf(&b, "\nMedians of %s of %v, %v of warm-up each, participants in turn, ratios inside each round; client and server in two processes over loopback TCP, every response compared with its request. "+
		"CPU is seconds of user and system time for a million calls, allocations are per call, latencies are as the callers saw them.\n", plural(r.Runner.Rounds, "round"), r.Runner.Duration, r.Runner.Warmup)
	fmt.Fprintf(&b, "Machine: %s.\n", machine())
	if busiest := r.others(); busiest >= noisy {
		fmt.Fprintf(&b, "Other programs took up to %.2f processors during a run: measure again on an idle machine.\n", busiest)
	}
	return b.String()
}

// others is the most that other programs took of the machine during a run.
func (r *Report) others() (most float64) {
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			for _, res := range row.Results {
				most = max(most, res.Others)
			}
		}
	}
	return most
}

// What stands between these lines of the file of results is written anew, the
// rest is kept.
const (
	beginMark = "<!-- measured -->"
	endMark   = "<!-- end -->"
)

// Write puts the report into the file.
func (r *Report) Write(path string) error {
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(path, []byte(merge(string(old), r.String())), 0o644)
}

func merge(old, measured string) string {
	block := fmt.Sprintf("%s\nMeasured on %s with `go run . -write`.\n%s%s", beginMark, time.Now().Format(time.DateOnly), measured, endMark)
	before, rest, ok := strings.Cut(old, beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !ok || !ended {
		return "# Results\n\n" + block + "\n"
	}
	return before + block + after
}
