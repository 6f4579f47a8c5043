package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Table is what the rows of one comparison reached.
type Table struct {
	Name    string // such as "W1"
	Title   string
	Section string // of the report
	Columns []column
	Rows    []*Row
	// Base is the label of the row that others are compared with.
	Base string

	chart func(*Table) chart // nil: none
}

// Row is what one participant reached in one workload, a Result for each round.
type Row struct {
	Label       string
	Participant Participant
	Workload    Workload
	Results     []Result
	LeftOut     error // an errUnfit, or what went wrong
}

// Rate is in calls per second.
func (r Result) Rate() float64 { return float64(r.Calls) / max(1e-9, r.Elapsed.Seconds()) }

// perCall divides, also for a run without calls.
func (r Result) perCall(n float64) float64 { return n / float64(max(1, r.Calls)) }

// cpu is in seconds per call, of both ends.
func (r Result) cpu() float64 { return r.perCall((r.Client.CPU + r.Server.CPU).Seconds()) }

func (r *Row) median(figure func(Result) float64) float64 {
	var all []float64
	for _, res := range r.Results {
		all = append(all, figure(res))
	}
	return median(all)
}

// median is not a number for nothing.
func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
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

// failed says whether something went wrong, rather than was left out.
func (r *Row) failed() bool { return r.LeftOut != nil && !errors.Is(r.LeftOut, errUnfit) }

// measured is the rows that have results.
func (t *Table) measured() (rows []*Row) {
	for _, row := range t.Rows {
		if row.LeftOut == nil && len(row.Results) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// rated says whether the table is about how much is done in a time.
func (t *Table) rated() bool {
	rows := t.measured()
	return len(rows) > 0 && rows[0].Results[0].Elapsed > 0
}

// row returns the measured row of a label, nil if there is none.
func (t *Table) row(label string) *Row {
	for _, row := range t.measured() {
		if row.Label == label {
			return row
		}
	}
	return nil
}

// ratio is the median of the ratios inside each round, whose runs are close in
// time: a machine that is slower for a while is so for both. It is not a number
// when one of the rows is nil.
func ratio(over, under *Row, figure func(Result) float64) float64 {
	if over == nil || under == nil {
		return math.NaN()
	}
	var all []float64
	for i := range min(len(over.Results), len(under.Results)) {
		if d := figure(under.Results[i]); d != 0 {
			all = append(all, figure(over.Results[i])/d)
		}
	}
	return median(all)
}

// Markdown returns the table with its columns aligned, so that it reads well in
// a terminal too, and what was left out.
func (t *Table) Markdown() string {
	grid := [][]string{{""}}
	for _, c := range t.Columns {
		grid[0] = append(grid[0], c.title)
	}
	for _, row := range t.measured() {
		line := []string{row.Label}
		for _, c := range t.Columns {
			line = append(line, c.cell(t, row))
		}
		grid = append(grid, line)
	}
	return fmt.Sprintf("### %s: %s\n\n%s%s", t.Name, t.Title, align(grid), t.remarks())
}

// remarks says what the table does not show.
func (t *Table) remarks() string {
	var b strings.Builder
	for _, row := range t.Rows {
		if row.LeftOut != nil {
			fmt.Fprintf(&b, "- %s: %s%v.\n", row.Label, map[bool]string{true: "failed: "}[row.failed()], row.LeftOut)
		}
		if len(row.Results) > 0 && row.Results[0].Unordered {
			fmt.Fprintf(&b, "- %s: handlers run at the same time, in any order; that each message arrived once was checked.\n", row.Label)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n" + b.String()
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

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func micros(ns float64) string { return fmt.Sprintf("%.1f µs", ns/float64(time.Microsecond)) }

// mebi prints bytes as MiB, 0 as unknown.
func mebi(bytes float64) string {
	if bytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", bytes/(1<<20))
}

// cpu prints seconds per call as seconds per million calls, 0 as unknown.
func cpu(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", seconds*1e6)
}
