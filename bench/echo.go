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
	callers int           // on each connection
	size    int           // of a body in bytes, at least minBody
	delay   time.Duration // of each handler
	hops    bool          // one caller uses all connections in turn
	json    bool          // with a Document, not with bytes
	stretch int           // how many times longer a run is, 0: once
}

func (w echo) Name() string { return w.name }

func (w echo) Title() string {
	what := fmt.Sprintf("%s bytes", thousands(float64(w.size)))
	if w.json {
		what = "a struct as JSON"
	}
	if w.hops {
		return fmt.Sprintf("%s, 1 caller that uses them in turn, %s, echo", plural(w.conns, "connection"), what)
	}
	title := fmt.Sprintf("%s, %s, %s, echo", plural(w.conns, "connection"), plural(w.callers, "caller"), what)
	if w.conns > 1 {
		title = fmt.Sprintf("%s, %s each, %s, echo", plural(w.conns, "connection"), plural(w.callers, "caller"), what)
	}
	if w.delay > 0 {
		title += fmt.Sprintf(" by a handler that takes %v", w.delay)
	}
	return title
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", thousands(float64(n)), what)
}

func (w echo) Server(task *serverTask) { task.Delay = w.delay }

func (w echo) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	if err := blocks(p); w.delay > 0 && err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	conns, err := dialAll(ctx, p, s.addr, w.conns)
	if err != nil {
		return err
	}
	defer conns.close()
	loops, err := w.loops(conns, m.Latency)
	if err != nil {
		return err
	}
	m.Stretch(max(1, w.stretch))
	return runLoops(ctx, fail, loops, func() error {
		if err := awaitBegun(ctx, loops); err != nil {
			return err
		}
		return m.Measure(ctx, func(state) uint64 { return total(loops) })
	})
}

// loops makes what calls: for each caller one.
func (w echo) loops(conns connections, latency *Latency) (loops []loop, err error) {
	if w.hops {
		l, err := newHops(conns, w.size, w.tally(0, 1, latency))
		return []loop{l}, err
	}
	total := w.conns * w.callers
	for _, conn := range conns {
		for range w.callers {
			l, err := w.loop(conn, w.tally(len(loops), total, latency))
			if err != nil {
				return nil, err
			}
			loops = append(loops, l)
		}
	}
	return loops, nil
}

// maxSampling keeps the clock from being read for each call of many callers.
const maxSampling = 64

func (w echo) tally(number, total int, latency *Latency) *tally {
	return &tally{id: uint64(number), latency: latency, every: uint64(min(total, maxSampling))}
}

func (w echo) loop(conn Conn, t *tally) (loop, error) {
	if w.json {
		c, ok := conn.(JSONConn)
		if !ok {
			return nil, unfit("no structs as JSON")
		}
		return newJSONLoop(c.JSONCaller(), t), nil
	}
	switch c := conn.(type) {
	case StartConn:
		return newStartLoop(c, w.size, t), nil
	case CallConn:
		return &callLoop{tally: t, caller: c.Caller(), req: newRequest(w.size, t.id)}, nil
	}
	return nil, errNoCalls
}

// callLoop is a caller that waits for each response.
type callLoop struct {
	*tally
	caller Caller
	req    []byte
}

func (l *callLoop) run(stop *atomic.Bool) error {
	return l.repeat(stop, l.call)
}

func (l *callLoop) call(n uint64) error {
	stamp(l.req, l.id, n)
	start := l.start(n)
	rsp, err := l.caller.Call(l.req)
	l.took(start)
	return check(l.req, rsp, err)
}

// newHops returns a caller that uses connections in turn.
func newHops(conns connections, size int, t *tally) (loop, error) {
	l := &hopLoop{callLoop: callLoop{tally: t, req: newRequest(size, t.id)}}
	for _, conn := range conns {
		c, ok := conn.(CallConn)
		if !ok {
			return nil, errNoCalls
		}
		l.callers = append(l.callers, c.Caller())
	}
	return l, nil
}

type hopLoop struct {
	callLoop
	callers []Caller
}

func (l *hopLoop) run(stop *atomic.Bool) error {
	return l.repeat(stop, func(n uint64) error {
		l.caller = l.callers[n%uint64(len(l.callers))]
		return l.call(n)
	})
}

// startLoop calls again when a response has come: one call is always on its way.
type startLoop struct {
	*tally
	conn  StartConn
	req   []byte
	reply func([]byte, error) // answered
	began time.Time
	n     uint64
	stop  *atomic.Bool
	ended chan error
}

func newStartLoop(conn StartConn, size int, t *tally) *startLoop {
	l := &startLoop{tally: t, conn: conn, req: newRequest(size, t.id), ended: make(chan error, 1)}
	l.reply = l.answered
	return l
}

func (l *startLoop) run(stop *atomic.Bool) error {
	l.stop = stop
	l.next()
	return <-l.ended
}

func (l *startLoop) next() {
	l.n++
	stamp(l.req, l.id, l.n)
	l.began = l.start(l.n)
	l.conn.Start(l.req, l.reply)
}

func (l *startLoop) answered(rsp []byte, err error) {
	l.took(l.began)
	if err := check(l.req, rsp, err); err != nil {
		l.ended <- l.failed(l.n, err)
		return
	}
	l.calls.Store(l.n)
	if l.stop.Load() {
		l.ended <- nil
		return
	}
	l.next()
}

// minBody is the length of the shortest body that stamp can mark.
const minBody = 24

func newRequest(size int, id uint64) []byte {
	req := make([]byte, size)
	for i := range req {
		req[i] = byte(i) ^ byte(id)
	}
	return req
}

// stamp makes a body that no other caller and no other call sends.
func stamp(req []byte, id, n uint64) {
	binary.LittleEndian.PutUint64(req, id)
	binary.LittleEndian.PutUint64(req[8:], n)
	binary.LittleEndian.PutUint64(req[len(req)-8:], n)
}

var errWrongAnswer = errors.New("wrong answer")

// check is for what a call returns.
func check(req, rsp []byte, err error) error {
	if err != nil {
		return err
	}
	if !bytes.Equal(req, rsp) {
		return fmt.Errorf("%w: sent %d bytes that begin with %.24x, got %d that begin with %.24x", errWrongAnswer, len(req), req, len(rsp), rsp)
	}
	if &req[0] == &rsp[0] {
		return fmt.Errorf("%w: the request itself", errWrongAnswer)
	}
	return nil
}

// connections are those of one run.
type connections []Conn

// dialAll dials n connections, which end with ctx, so that no call waits on.
func dialAll(ctx context.Context, p Participant, addr string, n int) (all connections, err error) {
	for range n {
		conn, err := p.Dial(addr)
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, conn)
	}
	context.AfterFunc(ctx, all.close)
	return all, nil
}

func (c connections) close() {
	var closing sync.WaitGroup
	for _, conn := range c {
		closing.Go(func() { conn.Close() })
	}
	closing.Wait()
}
