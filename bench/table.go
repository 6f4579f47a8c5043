package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Table is what the participants reached in one workload.
type Table struct {
	Workload Workload
	Rows     []*Row
}

// Row is what one participant reached, a Result for each round.
type Row struct {
	Participant Participant
	Results     []Result
}

// Rate is in calls per second.
func (r Result) Rate() float64 { return float64(r.Calls) / r.Elapsed.Seconds() }

// perCall divides, also for a run without calls.
func (r Result) perCall(n float64) float64 { return n / float64(max(1, r.Calls)) }

func (r *Row) median(figure func(Result) float64) float64 {
	var all []float64
	for _, res := range r.Results {
		all = append(all, figure(res))
	}
	return median(all)
}

func median(all []float64) float64 {
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// spread is the distance of the best and the worst round, as a part of the
// median.
func (r *Row) spread() float64 {
	byRate := func(a, b Result) int { return int(a.Rate() - b.Rate()) }
	worst, best := slices.MinFunc(r.Results, byRate), slices.MaxFunc(r.Results, byRate)
	return (best.Rate() - worst.Rate()) / max(1, r.median(Result.Rate))
}

var columns = []struct {
	title string
	cell  func(*Row) string
}{
	{"calls/s", func(r *Row) string { return thousands(r.median(Result.Rate)) }},
	{"spread", func(r *Row) string { return fmt.Sprintf("%.0f %%", 100*r.spread()) }},
	{"p50", func(r *Row) string { return micros(r.median(func(x Result) float64 { return float64(x.P50) })) }},
	{"p99", func(r *Row) string { return micros(r.median(func(x Result) float64 { return float64(x.P99) })) }},
	{"CPU client", func(r *Row) string {
		return cpu(r.median(func(x Result) float64 { return x.perCall(x.Client.CPU.Seconds()) }))
	}},
	{"CPU server", func(r *Row) string {
		return cpu(r.median(func(x Result) float64 { return x.perCall(x.Server.CPU.Seconds()) }))
	}},
	{"allocs client", func(r *Row) string {
		return fmt.Sprintf("%.2f", r.median(func(x Result) float64 { return x.perCall(float64(x.Client.Mallocs)) }))
	}},
	{"allocs server", func(r *Row) string {
		return fmt.Sprintf("%.2f", r.median(func(x Result) float64 { return x.perCall(float64(x.Server.Mallocs)) }))
	}},
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func micros(ns float64) string { return fmt.Sprintf("%.1f µs", ns/float64(time.Microsecond)) }

// cpu prints seconds per call as seconds per million calls.
func cpu(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", seconds*1e6)
}

// Markdown returns the table with its columns aligned, so that it reads well in
// a terminal too.
func (t *Table) Markdown() string {
	grid := [][]string{{"", "ours / it"}}
	for _, c := range columns {
		grid[0] = append(grid[0], c.title)
	}
	base := t.base()
	for _, row := range t.Rows {
		line := []string{row.Participant.Name(), ratio(base, row)}
		for _, c := range columns {
			line = append(line, c.cell(row))
		}
		grid = append(grid, line)
	}
	return fmt.Sprintf("%s: %s\n\n%s", t.Workload.Name(), t.Workload.Title(), align(grid))
}

// base is the row the others are compared with, nil if it was not measured.
func (t *Table) base() *Row {
	for _, row := range t.Rows {
		if row.Participant.Name() == oursName {
			return row
		}
	}
	return nil
}

// ratio is the median of the ratios inside each round, whose runs are close in
// time: a machine that is slower for a while is so for both.
func ratio(base, row *Row) string {
	if base == nil {
		return "-"
	}
	var all []float64
	for i, res := range row.Results {
		all = append(all, base.Results[i].Rate()/max(1, res.Rate()))
	}
	return fmt.Sprintf("%.2f", median(all))
}

// align writes a Markdown table. Its first line is the head; its first column
// goes to the left, the others to the right.
func align(grid [][]string) string {
	widths := make([]int, len(grid[0]))
	for _, line := range grid {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)), 3)
		}
	}
	var b strings.Builder
	for n, line := range grid {
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				fmt.Fprintf(&b, "| %s%s ", cell, pad)
			} else {
				fmt.Fprintf(&b, "| %s%s ", pad, cell)
			}
		}
		b.WriteString("|\n")
		if n == 0 {
			b.WriteString(rule(widths))
		}
	}
	return b.String()
}

func rule(widths []int) string {
	var b strings.Builder
	for i, w := range widths {
		if i == 0 {
			fmt.Fprintf(&b, "| %s ", strings.Repeat("-", w))
		} else {
			fmt.Fprintf(&b, "| %s: ", strings.Repeat("-", w-1))
		}
	}
	return b.String() + "|\n"
}
