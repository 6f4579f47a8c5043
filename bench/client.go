package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

// measureFlag as the first argument makes this program the client of a run, which
// starts its server. A clientTask as JSON follows.
const measureFlag = "-measure"

// clientTask says what a client is to do.
type clientTask struct {
	Workload         string        `json:"workload"`
	Participant      string        `json:"participant"`
	Warmup, Duration time.Duration `json:",omitempty"`
	ClientProfile    string        `json:"client_profile,omitempty"` // file of a CPU profile
	ServerProfile    string        `json:"server_profile,omitempty"`
}

// outcome is what a client's process writes when it is done, as JSON.
type outcome struct {
	Result Result `json:"result"`
	Error  string `json:"error,omitempty"`
	Unfit  bool   `json:"unfit,omitempty"` // the error is an errUnfit
}

// measureRole runs this process as a client.
func measureRole(known registry, arg string) error {
	signal.Ignore(os.Interrupt) // the parent decides
	out := os.Stdout
	os.Stdout = os.Stderr // for participants that log to it
	var task clientTask
	if err := json.Unmarshal([]byte(arg), &task); err != nil {
		return err
	}
	p, err := known.participant(task.Participant)
	if err != nil {
		return err
	}
	w, err := known.workload(task.Workload)
	if err != nil {
		return err
	}
	res, err := task.run(context.Background(), w, p)
	o := outcome{Result: res, Unfit: errors.Is(err, errUnfit)}
	if err != nil {
		o.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(o)
}

func (t clientTask) run(ctx context.Context, w Workload, p Participant) (res Result, err error) {
	task := serverTask{Participant: p.Name(), Profile: t.ServerProfile}
	w.Server(&task)
	s, err := startServer(ctx, task)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	stop, err := startProfile(t.ClientProfile)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	meter := newMeter(t.Warmup, t.Duration, &s.remote)
	err = w.Run(ctx, p, &s.remote, meter)
	return meter.result, err
}

// measure runs this program again as a client. It is killed when ctx ends, and its
// server ends with it.
func measure(ctx context.Context, task clientTask) (res Result, err error) {
	cmd, err := again(ctx, measureFlag, task)
	if err != nil {
		return res, err
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return res, errors.Join(context.Cause(ctx), err)
	}
	return readOutcome(&out)
}

func readOutcome(from io.Reader) (Result, error) {
	var o outcome
	if err := json.NewDecoder(from).Decode(&o); err != nil {
		return Result{}, fmt.Errorf("read what the client measured: %w", err)
	}
	switch {
	case o.Unfit:
		return o.Result, fmt.Errorf("%w%s", errUnfit, o.Error[len(errUnfit.Error()):])
	case o.Error != "":
		return o.Result, errors.New(o.Error)
	}
	return o.Result, nil
}
