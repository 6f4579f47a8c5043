package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// idle measures what connections cost that have made a call and then rest.
type idle struct {
	name  string
	conns int
	rest  time.Duration // for so long before they are looked at
}

func (w idle) Name() string { return w.name }

func (w idle) Title() string {
	return fmt.Sprintf("%s that have made a call and rested for %v, bytes for each", plural(w.conns, "connection"), w.rest)
}

func (w idle) Server(*serverTask) {}

// before is how many connections there are before the first look, so that what
// all connections share is not counted.
const before = 100

func (w idle) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	first, err := dialUsed(ctx, p, s.addr, before)
	if err != nil {
		return err
	}
	defer first.close()
	if err := wait(ctx, w.rest); err != nil {
		return err
	}
	few, err := m.settled()
	if err != nil {
		return err
	}
	rest, err := dialUsed(ctx, p, s.addr, w.conns)
	if err != nil {
		return err
	}
	defer rest.close()
	if err := wait(ctx, w.rest); err != nil {
		return err
	}
	many, err := m.settled()
	if err != nil {
		return err
	}
	return m.Grown(few, many, w.conns)
}

// dialUsed dials connections each of which has made a call.
func dialUsed(ctx context.Context, p Participant, addr string, n int) (connections, error) {
	conns, err := dialAll(ctx, p, addr, n)
	for _, conn := range conns {
		if err = useOnce(conn, newRequest(128, 0)); err != nil {
			conns.close()
			return nil, err
		}
	}
	return conns, err
}

func useOnce(conn Conn, req []byte) error {
	stamp(req, 0, 1)
	switch c := conn.(type) {
	case StartConn:
		answered := make(chan error, 1)
		c.Start(req, func(rsp []byte, err error) { answered <- check(req, rsp, err) })
		return <-answered
	case CallConn:
		rsp, err := c.Caller().Call(req)
		return check(req, rsp, err)
	}
	return errNoCalls
}

// held measures what calls cost while handlers hold all of them.
type held struct {
	name    string
	conns   int
	callers int // on each connection
	size    int // of a body in bytes, at least minBody
}

func (w held) Name() string { return w.name }

func (w held) Title() string {
	return fmt.Sprintf("%s of %d bytes in the hands of handlers, %s, bytes for each", plural(w.conns*w.callers, "call"), w.size, plural(w.conns, "connection"))
}

func (w held) Server(task *serverTask) { task.Held = true }

func (w held) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	if err := blocks(p); err != nil {
		return err
	}
	conns, err := dialAll(ctx, p, s.addr, w.conns)
	if err != nil {
		return err
	}
	defer conns.close()
	none, err := m.settled()
	if err != nil {
		return err
	}
	calls, err := w.calls(conns)
	if err != nil {
		return err
	}
	return errors.Join(w.measure(ctx, s, m, none, calls), calls.wait())
}

// measure looks when handlers have all calls, and lets them go.
func (w held) measure(ctx context.Context, s *remote, m *Meter, none footprints, calls *singleCalls) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*patience, errors.New("not all calls reach their handlers"))
	defer cancel()
	for waiting := int64(0); waiting < int64(w.conns*w.callers); {
		if err := wait(ctx, look); err != nil {
			return errors.Join(fmt.Errorf("%w: %d of %d", err, waiting, w.conns*w.callers), s.tell(command{Do: doRelease}))
		}
		now, err := s.ask(doState)
		if err != nil {
			return err
		}
		waiting = now.Waiting
	}
	all, err := m.settled()
	return errors.Join(err, m.Grown(none, all, w.conns*w.callers), s.tell(command{Do: doRelease}))
}

// singleCalls are callers that call once.
type singleCalls struct {
	running sync.WaitGroup
	fault   atomic.Pointer[error] // one of them
}

func (w held) calls(conns connections) (*singleCalls, error) {
	all := &singleCalls{}
	var number uint64
	for _, conn := range conns {
		for range w.callers {
			req := newRequest(w.size, number)
			number++
			stamp(req, number, 1)
			switch c := conn.(type) {
			case StartConn:
				all.running.Add(1)
				c.Start(req, func(rsp []byte, err error) {
					all.answered(req, rsp, err)
					all.running.Done()
				})
			case CallConn:
				all.running.Go(func() {
					rsp, err := c.Caller().Call(req)
					all.answered(req, rsp, err)
				})
			default:
				return nil, errNoCalls
			}
		}
	}
	return all, nil
}

func (s *singleCalls) answered(req, rsp []byte, err error) {
	if err := check(req, rsp, err); err != nil {
		s.fault.Store(&err)
	}
}

func (s *singleCalls) wait() error {
	s.running.Wait()
	if err := s.fault.Load(); err != nil {
		return *err
	}
	return nil
}
