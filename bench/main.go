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

const resultsFile = "RESULTS.md"

func main() {
	if code, ok := serveRole(slices.Concat(participants, variants), os.Args[1:]); ok {
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
	flags.DurationVar(&r.Duration, "duration", 1200*time.Millisecond, "length of one run")
	flags.DurationVar(&r.Warmup, "warmup", 300*time.Millisecond, "warm-up before each run")
	flags.StringVar(&r.ProfileDir, "cpuprofile", "", "`directory` for CPU profiles of both ends, of the last round")
	flags.DurationVar(&r.Quiet, "quiet", 0, "how long each run may wait for an idle machine, and be repeated when other programs disturb it")
	only := flags.String("only", "", "`regexp` of the participants to measure, variants too")
	work := flags.String("workload", "", "`regexp` of the workloads")
	write := flags.Bool("write", false, "write the results into "+resultsFile)
	list := flags.Bool("list", false, "list participants, variants and workloads")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *list {
		printList(out)
		return nil
	}
	if r.Rounds < 1 || r.Duration <= 0 || r.Warmup < 0 || r.Quiet < 0 {
		return errors.New("-rounds and -duration must be positive, -warmup and -quiet not negative")
	}
	if err := r.choose(*only, *work); err != nil {
		return err
	}
	return measure(ctx, r, *write, out)
}

func measure(ctx context.Context, r *Runner, write bool, out io.Writer) error {
	tables, err := r.Run(ctx)
	if err != nil {
		return err
	}
	report := &Report{Runner: r, Tables: tables}
	fmt.Fprint(out, report)
	if !write {
		return nil
	}
	return report.Write(resultsFile)
}

// choose sets what to measure. The variants are measured only by request.
func (r *Runner) choose(only, work string) error {
	from := participants
	if only != "" {
		from = slices.Concat(participants, variants)
	}
	var err, err2 error
	r.Participants, err = matching(from, only)
	r.Workloads, err2 = matching(workloads, work)
	return errors.Join(err, err2)
}

func matching[T interface{ Name() string }](list []T, pattern string) (chosen []T, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		if re.MatchString(x.Name()) {
			chosen = append(chosen, x)
		}
	}
	if chosen == nil {
		err = fmt.Errorf("nothing is named like %q: see -list", pattern)
	}
	return chosen, err
}

func printList(out io.Writer) {
	for _, p := range slices.Concat(participants, variants) {
		fmt.Fprintf(out, "%s: %s\n", p.Name(), p.Setup())
	}
	for _, w := range workloads {
		fmt.Fprintf(out, "%s: %s\n", w.Name(), w.Title())
	}
}
