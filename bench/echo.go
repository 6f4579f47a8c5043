package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// echo has callers that call, compare the response with their request, and call
// again. No two requests of a run are the same.
type echo struct {
	name    string
	conns   int
	callers int // on each connection
	size    int // of a body in bytes, at least 24
}

func (w echo) Name() string { return w.name }

func (w echo) Title() string {
	return fmt.Sprintf("%s, %s, %d bytes, echo", plural(w.conns, "connection"), plural(w.callers, "caller"), w.size)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// patience is how long callers may take to end once they are told to.
const patience = 10 * time.Second

var errStuck = errors.New("calls did not end")

func (w echo) Run(ctx context.Context, p Participant, addr string, meter *Meter) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var callers []*echoCaller
	for range w.conns {
		conn, err := p.Dial(addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })() // so that no call waits on
		for range w.callers {
			callers = append(callers, &echoCaller{
				caller:  conn.Caller(),
				id:      uint64(len(callers)),
				size:    w.size,
				latency: meter.Latency,
				every:   uint64(min(w.conns*w.callers, maxSampling)),
			})
		}
	}
	var stop atomic.Bool
	var running sync.WaitGroup
	for _, c := range callers {
		running.Go(func() {
			if err := c.run(&stop); err != nil {
				fail(err)
			}
		})
	}
	err := meter.Measure(ctx, func() (n uint64) {
		for _, c := range callers {
			n += c.calls.Load()
		}
		return n
	})
	stop.Store(true)
	defer time.AfterFunc(patience, func() { fail(errStuck) }).Stop()
	running.Wait()
	return errors.Join(err, context.Cause(ctx))
}

// maxSampling keeps the clock from being read for each call of many callers.
const maxSampling = 64

type echoCaller struct {
	_       [128]byte // callers share no cache line
	calls   atomic.Uint64
	caller  Caller
	id      uint64
	size    int
	latency *Latency
	every   uint64 // how many calls have one whose time is taken
	_       [128]byte
}

func (c *echoCaller) run(stop *atomic.Bool) error {
	req := make([]byte, c.size)
	for i := range req {
		req[i] = byte(i) ^ byte(c.id)
	}
	for n := uint64(1); !stop.Load(); n++ {
		stamp(req, c.id, n)
		if err := c.call(req, n%c.every == 0); err != nil {
			return fmt.Errorf("caller %d, call %d: %w", c.id, n, err)
		}
		c.calls.Store(n)
	}
	return nil
}

// stamp makes a request that no other caller and no other call sends.
func stamp(req []byte, id, n uint64) {
	binary.LittleEndian.PutUint64(req, id)
	binary.LittleEndian.PutUint64(req[8:], n)
	binary.LittleEndian.PutUint64(req[len(req)-8:], n)
}

func (c *echoCaller) call(req []byte, timed bool) error {
	var start time.Time
	if timed {
		start = time.Now()
	}
	rsp, err := c.caller.Call(req)
	if timed {
		c.latency.Record(time.Since(start))
	}
	if err != nil {
		return err
	}
	return compare(req, rsp)
}

var errWrongAnswer = errors.New("wrong answer")

func compare(req, rsp []byte) error {
	if !bytes.Equal(req, rsp) {
		return fmt.Errorf("%w: sent %d bytes that begin with %.24x, got %d that begin with %.24x", errWrongAnswer, len(req), req, len(rsp), rsp)
	}
	if &req[0] == &rsp[0] {
		return fmt.Errorf("%w: the request itself", errWrongAnswer)
	}
	return nil
}
