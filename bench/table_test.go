package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func results(calls ...uint64) (all []Result) {
	for _, n := range calls {
		all = append(all, Result{
			Calls:   n,
			Elapsed: time.Second,
			Client:  Usage{CPU: time.Duration(n) * time.Microsecond, Mallocs: 2 * n},
			P50:     1500 * time.Nanosecond,
		})
	}
	return all
}

func TestTable(t *testing.T) {
	table := &Table{
		Workload: echo{name: "T", conns: 2, callers: 1, size: 24},
		Rows: []*Row{
			{Participant: ours{}, Results: results(900, 3000, 1000)},
			{Participant: limit{}, Results: results(4000, 2000, 500)},
		},
	}
	require.Equal(t, `T: 2 connections, 1 caller, 24 bytes, echo

|                         | ours / it | calls/s | spread |    p50 |    p99 | CPU client | CPU server | allocs client | allocs server |
| ----------------------- | --------: | ------: | -----: | -----: | -----: | ---------: | ---------: | ------------: | ------------: |
| ours                    |      1.00 |   1,000 |  210 % | 1.5 µs | 0.0 µs |       1.00 |          - |          2.00 |          0.00 |
| limit, blocking callers |      1.50 |   2,000 |  175 % | 1.5 µs | 0.0 µs |       1.00 |          - |          2.00 |          0.00 |
`, table.Markdown())
}

func TestTableWithoutOurs(t *testing.T) {
	table := &Table{Workload: workloads[0], Rows: []*Row{{Participant: limit{}, Results: make([]Result, 1)}}}
	require.Contains(t, table.Markdown(), "| limit, blocking callers |         - |")
}
