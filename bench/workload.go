package main

import (
	"context"
	"errors"
	"fmt"
)

// Workload is what a run has the client do. Each kind lives in a file of its
// own; the tables of the suite say who does which.
type Workload interface {
	// Name tells this workload from all others.
	Name() string
	// Title says what is done, such as "1 connection, 100 callers, 128 bytes".
	Title() string
	// Server completes what the server is told before it starts.
	Server(*serverTask)
	// Run works on a server until the meter has its figures. A wrong answer is an
	// error; an errUnfit says that the participant is not made for this.
	Run(ctx context.Context, p Participant, s *remote, m *Meter) error
}

// Blocker is a participant whose handlers run where it reads, so that a slow one
// holds up its connection. It is left out of workloads with slow handlers.
type Blocker interface{ Blocks() bool }

var errUnfit = errors.New("left out")

func unfit(why string) error { return fmt.Errorf("%w: %s", errUnfit, why) }

var errNoCalls = unfit("no calls")

// blocks says whether slow handlers are too much for p.
func blocks(p Participant) error {
	if b, ok := p.(Blocker); ok && b.Blocks() {
		return unfit("its handlers run on the reader, where a slow one blocks")
	}
	return nil
}
