package main

import (
	"fmt"
	"slices"
	"time"
)

const peerSection = "Beside other systems"

// suite returns all tables, in the order of the report, without results.
func suite() []*Table {
	return slices.Concat(
		section(peerSection, slices.Concat(peerTables(), commandTables())),
		section("Other set-ups of ours", ownTables()),
		section("How flat the cost of a call is", flatTables()),
		section("Memory", memoryTables()),
	)
}

func section(title string, tables []*Table) []*Table {
	for _, t := range tables {
		t.Section = title
	}
	return tables
}

// peerTables compare ours with the other systems.
func peerTables() []*Table {
	inline, concurrent := lesismal{variant: "as it comes", small: true}, lesismal{concurrent: true, variant: "as it comes", small: true}
	return []*Table{
		echoTable(echo{name: "W1", conns: 1, callers: 1, size: 128}, ours{busyPoll: true}, inline, concurrent),
		echoTable(echo{name: "W2", conns: 1, callers: 100, size: 128}, inline, concurrent),
		echoTable(echo{name: "W3", conns: 1, callers: 1000, size: 1 << 10}),
		echoTable(echo{name: "W4", conns: 64, callers: 16, size: 1 << 10}),
		echoTable(echo{name: "W4b", conns: 8, callers: 10, size: 128}),
		noticeTable(notify{name: "W5", senders: 4, size: 110}, oursBuff{}),
		echoTable(echo{name: "W6", conns: 1, callers: 8, size: 1 << 20}),
		echoTable(echo{name: "W7", conns: 4, callers: 5000, size: 128, delay: 30 * time.Millisecond}, limitSpawn{}),
		idleTable(idle{name: "W8", conns: 2000, rest: 3 * time.Second}),
		echoTable(echo{name: "JSON", conns: 1, callers: 100, json: true}),
		noticeTable(broadcast{name: "broadcast", subscribers: 1000, size: 110, ahead: 64}, oursPubSub{}, oursPubSub{history: true}, limitCast{}),
		noticeTable(broadcast{name: "broadcast-1", subscribers: 1000, size: 110, ahead: 1}, oursPubSub{}, oursPubSub{history: true}, limitCast{}),
		publishTable(),
	}
}

// newTable has a row for each participant.
func newTable(w Workload, columns []column, list ...Participant) *Table {
	t := &Table{Name: w.Name(), Title: w.Title(), Columns: columns, Base: oursName}
	t.addAll(list, w)
	return t
}

// addAll adds a row for each participant that has none.
func (t *Table) addAll(list []Participant, w Workload) {
	for _, p := range list {
		has := slices.ContainsFunc(t.Rows, func(r *Row) bool { return r.Label == p.Name() })
		if !has {
			t.Rows = append(t.Rows, &Row{Label: p.Name(), Participant: p, Workload: w})
		}
	}
}

func echoTable(w Workload, more ...Participant) *Table {
	columns := slices.Concat([]column{compared}, rates("calls/s"), latencies, costs)
	t := newTable(w, columns, slices.Concat(participants, more)...)
	t.chart = func(t *Table) chart { return tableChart(t, "calls per second", Result.Rate, thousands, false) }
	return t
}

// publishTable has those that have topics.
func publishTable() *Table {
	t := newTable(publish{publishers: 4, size: 110}, slices.Concat([]column{compared}, rates("messages/s"), costs),
		oursPubSub{}, oursPubSub{history: true}, natsEcho{})
	t.Base = oursPubSub{}.Name()
	return t
}

func noticeTable(w Workload, more ...Participant) *Table {
	t := newTable(w, slices.Concat([]column{compared}, rates("messages/s"), costs), slices.Concat(participants, more)...)
	t.chart = func(t *Table) chart { return tableChart(t, "messages per second", Result.Rate, thousands, false) }
	return t
}

func idleTable(w Workload) *Table {
	t := newTable(w, slices.Concat(grown("server", serverGrown), grown("client", clientGrown)), participants...)
	t.chart = func(t *Table) chart {
		resident := func(r Result) float64 { return r.perCall(float64(r.ServerGrown.Resident)) }
		return tableChart(t, "bytes of server memory for an idle connection, less is better", resident, thousands, true)
	}
	return t
}

// ownTables compare set-ups of ours.
func ownTables() []*Table {
	columns := slices.Concat([]column{compared}, rates("calls/s"), latencies, costs)
	modes := newTable(echo{name: "modes", conns: 1, callers: 100, size: 128}, columns,
		ours{}, ours{async: true}, ours{ordered: true}, ours{middlewares: 4}, ours{guarded: true}, ours{busyPoll: true}, ours{tls: true}, ours{oldClient: true}, ours{oldServer: true})
	return []*Table{modes}
}

// flatTables show what a call costs as things grow.
func flatTables() []*Table {
	inFlight := &Table{Name: "in-flight", Title: "calls in flight on 1 connection, 128 bytes, echo", Columns: flatColumns}
	routes := &Table{Name: "routes", Title: "registered routes that calls use in turn, 1 connection, 100 callers, 128 bytes, echo", Columns: flatColumns}
	turns := &Table{Name: "connections", Title: "connections that 1 caller uses in turn, 128 bytes, echo: nothing can share a read or a write", Columns: flatColumns}
	spread := &Table{Name: "spread", Title: "connections that share 1,000 callers, 128 bytes, echo: fewer and fewer share a read or a write", Columns: flatColumns}
	for _, p := range []Participant{ours{deep: true}, limit{}} {
		for _, n := range []int{1, 10, 100, 1000, 10_000, 100_000, 200_000} {
			inFlight.add(p, plural(n, "call"), echo{conns: 1, callers: n, size: 128, stretch: 1 + n/100_000})
		}
	}
	for _, p := range []Participant{ours{}, limit{}} {
		for _, n := range []int{1, 10, 100, 1000} {
			turns.add(p, plural(n, "connection"), echo{conns: n, hops: true, size: 128})
			spread.add(p, plural(n, "connection"), echo{conns: n, callers: 1000 / n, size: 128})
		}
	}
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		routes.add(ours{routes: n}, "", echo{conns: 1, callers: 100, size: 128})
	}
	return []*Table{inFlight, routes, turns, spread}
}

// add adds a row of a series, and names its workload after it.
func (t *Table) add(p Participant, step string, w echo) {
	label := p.Name()
	w.name = t.Name
	if step != "" {
		label += ", " + step
		w.name += ", " + step
	}
	t.Rows = append(t.Rows, &Row{Label: label, Participant: p, Workload: w})
}

// memoryTables show what is held.
func memoryTables() []*Table {
	both := slices.Concat(grown("server", serverGrown), grown("client", clientGrown))
	return []*Table{
		newTable(held{name: "held", conns: 20, callers: 5000, size: 128}, both, ours{}, ours{async: true}, lesismal{concurrent: true}),
		newTable(stalled{name: "stalled", peers: 10, size: 16 << 10, total: 128 << 20}, grown("server", serverGrown), ours{}, lesismal{}),
	}
}

// registry is what the processes of a run find by name.
type registry struct {
	participants []Participant
	workloads    []Workload
}

// known is all that is listed and all that tables have.
func known(tables []*Table) registry {
	r := registry{participants: slices.Concat(participants, variants)}
	for _, t := range tables {
		for _, row := range t.Rows {
			r.participants = append(r.participants, row.Participant)
			r.workloads = append(r.workloads, row.Workload)
		}
	}
	return r
}

func (r registry) participant(name string) (Participant, error) {
	if p := find(r.participants, name); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no participant %q", name)
}

func (r registry) workload(name string) (Workload, error) {
	for _, w := range r.workloads {
		if w.Name() == name {
			return w, nil
		}
	}
	return nil, fmt.Errorf("no workload %q", name)
}
