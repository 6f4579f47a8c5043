package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func results(calls ...uint64) (all []Result) {
	for _, n := range calls {
		all = append(all, Result{
			Calls:   n,
			Elapsed: time.Second,
			Client:  Usage{CPU: time.Duration(n) * time.Microsecond, Mallocs: 2 * n, Peak: 20 << 20},
			P50:     1500 * time.Nanosecond,
		})
	}
	return all
}

// fixed is a table with results.
func fixed(w Workload, rates map[Participant][]uint64, list ...Participant) *Table {
	t := echoTable(w)
	t.Rows = nil
	t.addAll(list, w)
	for _, row := range t.Rows {
		row.Results = results(rates[row.Participant]...)
	}
	return t
}

func TestTable(t *testing.T) {
	w := echo{name: "T", conns: 2, callers: 1, size: 24}
	table := fixed(w, map[Participant][]uint64{ours{}: {900, 3000, 1000}, limit{}: {4000, 2000, 500}}, ours{}, limit{}, grpcEcho{}, lesismal{})
	table.Rows[2].LeftOut = unfit("no calls")
	table.Rows[3].LeftOut = errors.New("it broke")
	require.Equal(t, `### T: 2 connections, 1 caller each, 24 bytes, echo

|                         | ours / it | calls/s | spread |    p50 |    p99 | CPU client | CPU server | allocs client | allocs server | peak client | peak server |
| ----------------------- | --------: | ------: | -----: | -----: | -----: | ---------: | ---------: | ------------: | ------------: | ----------: | ----------: |
| ours                    |      1.00 |   1,000 |  210 % | 1.5 µs | 0.0 µs |       1.00 |          - |          2.00 |          0.00 |    20.0 MiB |           - |
| limit, blocking callers |      1.50 |   2,000 |  175 % | 1.5 µs | 0.0 µs |       1.00 |          - |          2.00 |          0.00 |    20.0 MiB |           - |

- gRPC 1.85.0: left out: no calls.
- arpc 1.2.17, inline handlers: failed: it broke.
`, table.Markdown())
}

func TestTableWithoutOurs(t *testing.T) {
	table := fixed(small, map[Participant][]uint64{limit{}: {1}}, limit{})
	require.Contains(t, table.Markdown(), "| limit, blocking callers |         - |")
}

func TestGrowthIsBesideTheCheapestAbove(t *testing.T) {
	table := &Table{}
	for _, p := range []Participant{ours{}, limit{}} {
		for i, n := range []int{1, 10, 100} {
			table.add(p, plural(n, "call"), small)
			cost := []time.Duration{8, 2, 3}[i] * time.Millisecond
			row := table.Rows[len(table.Rows)-1]
			row.Results = []Result{{Calls: 1000, Elapsed: time.Second, Server: Usage{CPU: cost}}}
		}
	}
	for i, want := range []float64{1, 1, 1.5, 1, 1, 1.5} {
		require.InDelta(t, want, table.growth(table.Rows[i]), 1e-9, table.Rows[i].Label)
	}
	require.InDelta(t, 1.5, ownGrowth(table), 1e-9)
	require.InDelta(t, 1, growthBesideLimit(table), 1e-9)
}

func TestMemoryTable(t *testing.T) {
	table := idleTable(idle{name: "T", conns: 10, rest: 3 * time.Second})
	table.Rows = table.Rows[:1]
	table.Rows[0].Results = []Result{{Calls: 10, ServerGrown: Footprint{Resident: 41_000, Heap: 30_000, Goroutines: 10}}}
	require.Equal(t, `### T: 10 connections that have made a call and rested for 3s, bytes for each

|      | server, resident | server, heap and stacks | server, goroutines | client, resident | client, heap and stacks | client, goroutines |
| ---- | ---------------: | ----------------------: | -----------------: | ---------------: | ----------------------: | -----------------: |
| ours |            4,100 |                   3,000 |               1.00 |                0 |                       0 |               0.00 |
`, table.Markdown())
}

func TestGoals(t *testing.T) {
	w := echo{name: "W2", conns: 1, callers: 100, size: 128}
	table := fixed(w, map[Participant][]uint64{
		ours{}:                     {800, 840},
		lesismal{}:                 {200, 200},
		lesismal{concurrent: true}: {100, 100},
		limit{}:                    {1000, 1000},
	}, ours{}, lesismal{}, lesismal{concurrent: true}, limit{})
	text := goalTable([]*Table{table})
	for goal, end := range map[string]string{
		"W2: rate against arpc, its better mode":                   "| at least 4.00 | 4.10 | yes |",
		"W2: rate against the limit with blocking callers":         "| at least 1.00 | 0.82 | **no** |",
		"W2: rate against gRPC":                                    "| at least 16.00 | not measured | - |",
		"W2: allocations of the client":                            "| at most 1.00 | 2.00 | **no** |",
		"W2: allocations of the server":                            "| at most 0.00 | 0.00 | yes |",
		"W2: CPU of both ends against arpc, its better mode":       "| at most 0.20 | 1.00 | **no** |",
		"W8: bytes of the server for an idle connection, resident": "| at most 5,000 | not measured | - |",
		"in-flight: growth of the cost of a call":                  "| at most 1.25 | not measured | - |",
	} {
		require.Contains(t, squeeze(text), "| "+goal+" "+end)
	}
}

// squeeze makes many spaces one.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestGoalsNameWhatIsMeasured(t *testing.T) {
	tables := suite()
	for _, g := range goals() {
		require.NotNil(t, findTable(tables, g.table), g.table)
	}
}

func TestChartsAreWellFormed(t *testing.T) {
	rates := map[Participant][]uint64{ours{}: {2000}, lesismal{}: {1000}, grpcEcho{}: {100}, limit{}: {4000}, limitRaw{}: {90_000}}
	table := fixed(echo{name: "W2", conns: 1, callers: 100, size: 128}, rates, ours{}, lesismal{}, grpcEcho{}, limit{}, limitRaw{})
	table.Section = peerSection
	all := charts([]*Table{table})
	require.Contains(t, all, "W2.svg")
	require.Contains(t, all, "times.svg")
	for name, c := range all {
		svg := c.SVG()
		decoder := xml.NewDecoder(strings.NewReader(svg))
		var err error
		for err == nil {
			_, err = decoder.Token()
		}
		require.ErrorIs(t, err, io.EOF, name)
		require.NotContains(t, svg, "NaN")
	}
	var order []string
	for _, b := range all["W2.svg"].bars {
		order = append(order, b.label+" "+b.text+" "+b.kind)
	}
	require.Equal(t, []string{"limit, blocking callers 4,000 limit", "ours 2,000 ours", "arpc 1.2.17, inline handlers 1,000 peer", "gRPC 1.85.0 100 peer"}, order)
	require.Equal(t, "20.0 ×", all["times.svg"].bars[0].text)
}
