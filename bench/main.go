// Command bench measures this module and other RPC systems doing the same work:
// a client process, a server process, loopback TCP. See -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"
)

const (
	resultsFile = "RESULTS.md"
	chartsDir   = "charts"
)

func main() {
	if code, ok := playRole(known(suite()), os.Args[1:]); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	r := &Runner{Progress: out}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&r.Rounds, "rounds", 3, "rounds; the figures are medians")
	flags.DurationVar(&r.Duration, "duration", 800*time.Millisecond, "length of one run")
	flags.DurationVar(&r.Warmup, "warmup", 200*time.Millisecond, "warm-up before each run")
	flags.StringVar(&r.ProfileDir, "cpuprofile", "", "`directory` for CPU profiles of both ends, of the last round")
	flags.DurationVar(&r.Quiet, "quiet", 0, "how long each run may wait for an idle machine, and be repeated when other programs disturb it")
	only := flags.String("only", "", "`regexp` of the participants to measure, variants too")
	work := flags.String("workload", "", "`regexp` of the tables to measure")
	quick := flags.Bool("quick", false, "few participants, one short round")
	write := flags.Bool("write", false, "write "+resultsFile+" and "+chartsDir)
	list := flags.Bool("list", false, "list participants, variants and tables")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		printList(out)
		return nil
	}
	if *quick {
		r.Rounds, r.Duration, r.Warmup = 1, 300*time.Millisecond, 100*time.Millisecond
	}
	if r.Rounds < 1 || r.Duration <= 0 || r.Warmup < 0 || r.Quiet < 0 {
		return errors.New("-rounds and -duration must be positive, -warmup and -quiet not negative")
	}
	var err error
	if r.Tables, err = choose(*only, *work, *quick); err != nil {
		return err
	}
	return runAndReport(ctx, &Report{Runner: r, Args: args}, *write, out)
}

func runAndReport(ctx context.Context, report *Report, write bool, out io.Writer) error {
	if err := report.Runner.Run(ctx); err != nil {
		return err
	}
	fmt.Fprint(out, report)
	failures := report.failures()
	if write {
		failures = append(failures, report.Write(resultsFile, chartsDir))
	}
	return errors.Join(failures...)
}

// choose returns the tables and rows to measure. The variants are measured only
// by request.
func choose(only, work string, quick bool) (chosen []*Table, err error) {
	participant, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	table, err := regexp.Compile(work)
	if err != nil {
		return nil, err
	}
	for _, t := range suite() {
		if only != "" && t.Section == peerSection {
			t.addAll(variants, t.Rows[0].Workload)
		}
		t.Rows = slices.DeleteFunc(t.Rows, func(r *Row) bool {
			return !participant.MatchString(r.Label) || quick && !quickly(r)
		})
		if table.MatchString(t.Name) && len(t.Rows) > 0 {
			chosen = append(chosen, t)
		}
	}
	if chosen == nil {
		return nil, fmt.Errorf("no table is named like %q with a participant like %q: see -list", work, only)
	}
	return chosen, nil
}

// quickly says whether a row is worth a short look.
func quickly(r *Row) bool {
	switch p := r.Participant.(type) {
	case ours, grpcEcho, limitRaw:
		return true
	case lesismal:
		return p.variant == ""
	case limit:
		return r.Label == p.Name() // not those of series
	case oursPubSub, natsEcho:
		return r.Workload.Name() == publish{}.Name()
	}
	return false
}

func printList(out io.Writer) {
	for _, p := range slices.Concat(participants, variants) {
		fmt.Fprintf(out, "%s: %s\n", p.Name(), p.Setup())
	}
	for _, t := range suite() {
		fmt.Fprintf(out, "%s: %s\n", t.Name, t.Title)
	}
}
