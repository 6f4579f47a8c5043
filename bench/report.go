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
	Args   []string // of this program
}

func (r *Report) String() string { return r.text("") }

// text returns the report with the charts of a directory, without if it is empty.
func (r *Report) text(charts string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMachine: %s.\n\n%s\n", machine(), r.method())
	fmt.Fprintf(&b, "\n## Goals\n\n%s", goalTable(r.Runner.Tables))
	if charts != "" {
		fmt.Fprintf(&b, "\n![times faster](%s/times.svg)\n", charts)
	}
	r.tables(&b, charts)
	fmt.Fprintf(&b, "\n## Set-ups\n\n")
	for _, p := range r.participants() {
		fmt.Fprintf(&b, "- %s: %s.\n", p.Name(), p.Setup())
	}
	return b.String()
}

func (r *Report) tables(b *strings.Builder, charts string) {
	section := ""
	for _, t := range r.Runner.Tables {
		if t.Section != section {
			section = t.Section
			fmt.Fprintf(b, "\n## %s\n", section)
		}
		fmt.Fprintf(b, "\n%s", t.Markdown())
		if charts != "" && t.chart != nil {
			fmt.Fprintf(b, "\n![%s](%s/%[1]s.svg)\n", t.Name, charts)
		}
	}
}

func (r *Report) method() string {
	text := fmt.Sprintf("Medians of %s of %v after %v of warm-up, participants in turn, ratios inside each round; client and server in two processes, started anew for each run, over loopback TCP. "+
		"Every response is compared with its request, every notification and broadcast checked for its place in the sequence.\n\n"+
		"\"ours / it\" is how many times faster ours is, \"spread\" how far the best round was from the worst. CPU is seconds of user and system time for a million calls, \"growth\" that of both ends beside the cheapest row above. "+
		"Allocations are objects for a call, peaks are of the resident memory of the whole process, of which the program itself is most, and latencies are as the callers saw them. \"resident\", \"heap and stacks\" and \"goroutines\" are what an end has grown by, after a garbage collection, for each of what the table is about.",
		plural(r.Runner.Rounds, "round"), r.Runner.Duration, r.Runner.Warmup)
	if busiest := r.others(); busiest >= noisy {
		text += fmt.Sprintf("\nOther programs took up to %.2f processors during a run: measure again on an idle machine.", busiest)
	}
	return text
}

// participants are all that were measured, in order.
func (r *Report) participants() (all []Participant) {
	for _, t := range r.Runner.Tables {
		for _, row := range t.measured() {
			if find(all, row.series()) == nil {
				all = append(all, row.Participant)
			}
		}
	}
	return all
}

// others is the most that other programs took of the machine during a run.
func (r *Report) others() (most float64) {
	for _, t := range r.Runner.Tables {
		for _, row := range t.Rows {
			for _, res := range row.Results {
				most = max(most, res.Others)
			}
		}
	}
	return most
}

// failures are what went wrong, apart from what participants are not made for.
func (r *Report) failures() (all []error) {
	for _, t := range r.Runner.Tables {
		for _, row := range t.Rows {
			if row.failed() {
				all = append(all, fmt.Errorf("%s, %s: %w", t.Name, row.Label, row.LeftOut))
			}
		}
	}
	return all
}

// What stands between these lines of the file of results is written anew, the
// rest is kept.
const (
	beginMark = "<!-- measured -->"
	endMark   = "<!-- end -->"
)

// Write puts the report into the file, with charts beside it.
func (r *Report) Write(path, charts string) error {
	old, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := writeCharts(charts, r.Runner.Tables); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(merge(string(old), r.dated(charts))), 0o644)
}

func (r *Report) dated(charts string) string {
	command := strings.Join(append([]string{"go run ."}, r.Args...), " ")
	return fmt.Sprintf("Measured on %s with `%s`.\n%s", time.Now().Format(time.DateOnly), command, r.text(charts))
}

func merge(old, measured string) string {
	block := beginMark + "\n" + measured + endMark
	before, rest, ok := strings.Cut(old, beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !ok || !ended {
		return "# Results\n\n" + block + "\n"
	}
	return before + block + after
}
