package main

import "context"

// Workload is what a run has the client do. Each kind lives in a file of its
// own and is listed in workloads.
type Workload interface {
	Name() string
	// Title says what is done, such as "1 connection, 100 callers, 128 bytes".
	Title() string
	// Run works on the server at addr until meter.Measure returns. A wrong
	// answer is an error.
	Run(ctx context.Context, p Participant, addr string, meter *Meter) error
}

var workloads = []Workload{
	echo{name: "W1", conns: 1, callers: 1, size: 128},
	echo{name: "W2", conns: 1, callers: 100, size: 128},
}
