package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// goal is a figure that ours is to reach beside another.
type goal struct {
	table  string
	what   string
	wanted float64
	most   bool // the figure is to be at most what is wanted, otherwise at least
	// reached returns the figure, not a number if it was not measured.
	reached func(*Table) float64
	slack   float64 // for figures that the harness itself adds a little to
}

// Others that goals name.
var (
	oldArpcName = "arpc " + moduleVersion("github.com/lesismal/arpc")
	oldArpc     = []string{lesismal{}.Name(), lesismal{concurrent: true}.Name()}
	blocking    = limit{}.Name()
)

// stray is what the harness itself allocates and starts now and then.
const stray = 0.05

// goals are in the order of the report.
func goals() []goal {
	return slices.Concat(rateGoals(), commandGoals(), pollGoals(), costGoals(), flatGoals(), memoryGoals())
}

func rateGoals() (all []goal) {
	for _, g := range []struct {
		table               string
		arpc, grpc, blocked float64 // 0: none
	}{
		{"W1", 1.25, 2.8, 1},
		{"W2", 4, 16, 1},
		{"W3", 4, 20, 0.75},
		{"W4", 5, 18, 1.3},
		{"W4b", 4, 13, 1},
		{"W5", 3, 8, 0},
		{"W6", 1.15, 2, 0.97},
		{"W7", 2.4, 8, 0.55},
		{"JSON", 3, 0, 0},
		{"broadcast", 3, 0, 0},
	} {
		all = append(all,
			goal{g.table, "rate against arpc, its better mode", g.arpc, false, against(oldArpc...), 0},
			goal{g.table, "rate against gRPC", g.grpc, false, against(grpcEcho{}.Name()), 0},
			goal{g.table, "rate against the limit with blocking callers", g.blocked, false, against(blocking), 0})
	}
	all = append(all,
		goal{"W5", "rate against BuffStreams", 10, false, against(named("BuffStreams")), 0},
		goal{"W5", "rate with BuffStreams framing against BuffStreams", 10, false, rateOf(oursBuff{}.Name(), named("BuffStreams")), 0})
	nats := []string{natsEcho{}.Name(), natsEcho{concurrent: true}.Name()}
	all = append(all,
		goal{"broadcast", "rate of pub/sub against NATS", 2, false, rateOf(oursPubSub{}.Name(), nats...), 0},
		goal{"publish", "rate of pub/sub against NATS", 1, false, rateOf(oursPubSub{}.Name(), nats...), 0})
	return slices.DeleteFunc(all, func(g goal) bool { return g.wanted == 0 })
}

func pollGoals() []goal {
	polling := ours{busyPoll: true}.Name()
	return []goal{
		{"W1", "rate with busy poll against arpc, its better mode", 3, false, rateOf(polling, oldArpc...), 0},
		{"W1", "rate with busy poll against gRPC", 6, false, rateOf(polling, grpcEcho{}.Name()), 0},
		{"W1", "rate with busy poll against the limit with blocking callers", 3, false, rateOf(polling, blocking), 0},
	}
}

// named returns the label of the participant whose name begins so.
func named(prefix string) string {
	for _, p := range participants {
		if strings.HasPrefix(p.Name(), prefix) {
			return p.Name()
		}
	}
	return prefix
}

// against is the rate of ours beside the best of others.
func against(others ...string) func(*Table) float64 { return rateOf(oursName, others...) }

func rateOf(label string, others ...string) func(*Table) float64 {
	return func(t *Table) float64 {
		return ratio(t.row(label), t.best(others, Result.Rate), Result.Rate)
	}
}

// best is the row with the highest figure, nil if none was measured.
func (t *Table) best(labels []string, figure func(Result) float64) (best *Row) {
	for _, label := range labels {
		if r := t.row(label); r != nil && (best == nil || r.median(figure) > best.median(figure)) {
			best = r
		}
	}
	return best
}

func costGoals() (all []goal) {
	for _, g := range []struct {
		table       string
		cpu         float64 // of what arpc takes
		allocations float64 // of the client for a call, negative: any
	}{
		{"W1", 0, 1},
		{"W2", 1.0 / 5, 1},
		{"W3", 1.0 / 4, 1},
		{"W4", 1.0 / 4, 1},
		{"W4b", 0, 1},
		{"W5", 0, 0},
		{"W7", 1.0 / 2, -1},
	} {
		if g.cpu > 0 {
			all = append(all, goal{g.table, "CPU of both ends against arpc, its better mode", g.cpu, true, cpuAgainstArpc, 0})
		}
		if g.allocations >= 0 {
			all = append(all,
				goal{g.table, "allocations of the client", g.allocations, true, ownFigure(clientAllocs), stray},
				goal{g.table, "allocations of the server", 0, true, ownFigure(serverAllocs), stray})
		}
	}
	return all
}

func cpuAgainstArpc(t *Table) float64 {
	return ratio(t.row(oursName), t.best(oldArpc, Result.Rate), Result.cpu)
}

func ownFigure(of func(Result) float64) func(*Table) float64 {
	return func(t *Table) float64 {
		r := t.row(oursName)
		if r == nil {
			return math.NaN()
		}
		return r.median(of)
	}
}

func flatGoals() []goal {
	const flat, beside = "growth of the cost of a call", "growth of the cost of a call beside that of the limit"
	return []goal{
		{"in-flight", flat, 1.25, true, ownGrowth, 0},
		{"in-flight", beside, 1.25, true, growthBesideLimit, 0},
		{"routes", flat, 4.0 / 3, true, ownGrowth, 0},
		{"connections", flat, 4.0 / 3, true, ownGrowth, 0},
		{"connections", beside, 4.0 / 3, true, growthBesideLimit, 0},
		{"spread", beside, 4.0 / 3, true, growthBesideLimit, 0},
		{"modes", "TLS against plain TCP", 0.7, false, mode(ours{tls: true}), 0},
		{"modes", "the middleware of a server in production against none", 0.8, false, mode(ours{guarded: true}), 0},
		{"modes", "4 middlewares that do nothing against none", 0.97, false, mode(ours{middlewares: 4}), 0},
		{"modes", "a client of version 1 against version 2", 0.9, false, mode(ours{oldClient: true}), 0},
		{"modes", "a server of version 1 against version 2", 0.9, false, mode(ours{oldServer: true}), 0},
	}
}

func ownGrowth(t *Table) float64 { return t.worstGrowth(oursName) }

func growthBesideLimit(t *Table) float64 { return t.worstGrowth(oursName) / t.worstGrowth(blocking) }

// worstGrowth is the greatest of a series, not a number if it was not measured.
func (t *Table) worstGrowth(series string) float64 {
	var all []float64
	for _, r := range t.measured() {
		if r.series() == series {
			all = append(all, t.growth(r))
		}
	}
	if all == nil {
		return math.NaN()
	}
	return slices.Max(all)
}

func mode(o ours) func(*Table) float64 {
	return func(t *Table) float64 { return ratio(t.row(o.Name()), t.row(oursName), Result.Rate) }
}

func memoryGoals() []goal {
	each := func(part func(Footprint) int64) func(*Table) float64 {
		return ownFigure(func(r Result) float64 { return r.perCall(float64(part(r.ServerGrown))) })
	}
	return []goal{
		{"W8", "bytes of the server for an idle connection, resident", 5000, true, each(func(f Footprint) int64 { return f.Resident }), 0},
		{"W8", "goroutines of the server for an idle connection", 1, true, each(func(f Footprint) int64 { return f.Goroutines }), stray},
		{"stalled", "memory for a peer that does not read beside the limit of 16 MiB for its queue", 1.1, true, func(t *Table) float64 {
			return each(func(f Footprint) int64 { return f.Resident })(t) / (16 << 20)
		}, 0},
	}
}

// met compares as many digits as are printed.
func (g goal) met(reached float64) bool {
	reached = math.Round(100*reached) / 100
	if g.most {
		return reached <= g.wanted+g.slack
	}
	return reached >= g.wanted
}

// goalTable sets what was reached beside what was wanted.
func goalTable(tables []*Table) string {
	grid := [][]string{{"", "wanted", "reached", "met"}}
	for _, g := range goals() {
		wanted := "at least "
		if g.most {
			wanted = "at most "
		}
		line := []string{g.table + ": " + g.what, wanted + short(g.wanted), "not measured", "-"}
		if reached := g.in(tables); !math.IsNaN(reached) {
			line[2], line[3] = short(reached), map[bool]string{true: "yes", false: "**no**"}[g.met(reached)]
		}
		grid = append(grid, line)
	}
	return align(grid)
}

func (g goal) in(tables []*Table) float64 {
	if t := findTable(tables, g.table); t != nil {
		return g.reached(t)
	}
	return math.NaN()
}

func short(v float64) string {
	if v >= 100 {
		return thousands(v)
	}
	return fmt.Sprintf("%.2f", v)
}

func findTable(tables []*Table, name string) *Table {
	for _, t := range tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}
