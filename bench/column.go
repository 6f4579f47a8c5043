package main

import (
	"fmt"
	"math"
)

// column is a figure of each row.
type column struct {
	title string
	cell  func(*Table, *Row) string
}

// figure makes a column of the median of something.
func figure(title string, print func(float64) string, of func(Result) float64) column {
	return column{title, func(_ *Table, r *Row) string { return print(r.median(of)) }}
}

func two(v float64) string { return fmt.Sprintf("%.2f", v) }

func clientCPU(r Result) float64    { return r.perCall(r.Client.CPU.Seconds()) }
func serverCPU(r Result) float64    { return r.perCall(r.Server.CPU.Seconds()) }
func clientAllocs(r Result) float64 { return r.perCall(float64(r.Client.Mallocs)) }
func serverAllocs(r Result) float64 { return r.perCall(float64(r.Server.Mallocs)) }

// compared is how many times faster the base is.
var compared = column{"ours / it", func(t *Table, r *Row) string {
	if v := ratio(t.row(t.Base), r, Result.Rate); v > 0 {
		return two(v)
	}
	return "-"
}}

func rates(unit string) []column {
	return []column{
		figure(unit, thousands, Result.Rate),
		{"spread", func(_ *Table, r *Row) string { return fmt.Sprintf("%.0f %%", 100*r.spread()) }},
	}
}

var latencies = []column{
	figure("p50", micros, func(r Result) float64 { return float64(r.P50) }),
	figure("p99", micros, func(r Result) float64 { return float64(r.P99) }),
}

var costs = []column{
	figure("CPU client", cpu, clientCPU),
	figure("CPU server", cpu, serverCPU),
	figure("allocs client", two, clientAllocs),
	figure("allocs server", two, serverAllocs),
	figure("peak client", mebi, func(r Result) float64 { return float64(r.Client.Peak) }),
	figure("peak server", mebi, func(r Result) float64 { return float64(r.Server.Peak) }),
}

// growth is the cost of a call beside that of the cheapest row of the same
// participant above it: more at once is cheaper for a while, since it shares
// reads and writes.
var growth = column{"growth", func(t *Table, r *Row) string { return two(t.growth(r)) }}

func (t *Table) growth(r *Row) float64 {
	least := math.Inf(1)
	for _, row := range t.measured() {
		if row.series() == r.series() {
			least = min(least, row.median(Result.cpu))
		}
		if row == r {
			break
		}
	}
	return r.median(Result.cpu) / max(least, 1e-12)
}

// series tells the rows of one curve from those of another.
func (r *Row) series() string {
	if o, ok := r.Participant.(ours); ok {
		o.routes, o.deep = 0, false
		return o.Name()
	}
	return r.Participant.Name()
}

var flatColumns = []column{
	figure("calls/s", thousands, Result.Rate),
	figure("CPU both ends", cpu, Result.cpu),
	growth,
	figure("p50", micros, func(r Result) float64 { return float64(r.P50) }),
	figure("allocs client", two, clientAllocs),
	figure("allocs server", two, serverAllocs),
}

// grown makes columns of how much one end has grown, for each of what a workload
// counts.
func grown(end string, of func(Result) Footprint) []column {
	each := func(part func(Footprint) int64) func(Result) float64 {
		return func(r Result) float64 { return r.perCall(float64(part(of(r)))) }
	}
	return []column{
		figure(end+", resident", thousands, each(func(f Footprint) int64 { return f.Resident })),
		figure(end+", heap and stacks", thousands, each(func(f Footprint) int64 { return f.Heap })),
		figure(end+", goroutines", two, each(func(f Footprint) int64 { return f.Goroutines })),
	}
}

func serverGrown(r Result) Footprint { return r.ServerGrown }
func clientGrown(r Result) Footprint { return r.ClientGrown }
