package arpc

import (
	"slices"
	"sync"
	"time"
)

// workerRest is after how long a worker that was not needed ends, or up to twice that.
const workerRest = 2 * time.Second

// workers run the jobs of a connection, each on a goroutine of its own. A goroutine
// that is through with its job waits for another: a new one would start with a small
// stack, which nearly every handler outgrows, so that it is copied once per request.
// No more of them wait than have run at the same time: WithMaxInflight limits both.
type workers struct {
	mu     sync.Mutex
	idle   []*worker   // the one that waits longest comes first
	unused int         // so many were idle all the time since the last trim
	timer  *time.Timer // until the next trim, nil before there is anything to trim
	armed  bool        // it runs
	over   bool        // the connection has ended: nobody waits any more
}

type worker struct {
	workers *workers
	jobs    chan *job // nil: end
}

// start has a goroutine run the job.
func (w *workers) start(j *job) {
	w.mu.Lock()
	n := len(w.idle) - 1
	if n < 0 {
		w.mu.Unlock()
		go (&worker{workers: w}).run(j)
		return
	}
	k := w.idle[n]
	w.idle[n] = nil
	w.idle = w.idle[:n]
	w.unused = min(w.unused, n)
	w.mu.Unlock()
	k.jobs <- j // which has room
}

func (k *worker) run(j *job) {
	for j != nil {
		j.run()
		if !k.workers.rest(k) {
			return
		}
		j = <-k.jobs
	}
}

// rest has a worker wait for its next job, and reports false if it is not to.
func (w *workers) rest(k *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	if k.jobs == nil {
		k.jobs = make(chan *job, 1)
	}
	w.idle = append(w.idle, k)
	switch {
	case w.timer == nil:
		w.timer = time.AfterFunc(workerRest, w.trim)
	case !w.armed:
		w.timer.Reset(workerRest)
	}
	w.armed = true
	return true
}

// trim ends the workers that nobody has needed since it ran last.
func (w *workers) trim() {
	w.mu.Lock()
	unused := w.idle[:w.unused]
	w.idle = slices.Clone(w.idle[w.unused:])
	w.unused = len(w.idle)
	w.armed = w.unused > 0 && !w.over
	if w.armed {
		w.timer.Reset(workerRest)
	}
	w.mu.Unlock()
	dismiss(unused)
}

// end has all that wait end, and the others when their jobs are done.
func (w *workers) end() {
	w.mu.Lock()
	idle := w.idle
	w.idle, w.unused, w.over = nil, 0, true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	dismiss(idle)
}

func dismiss(idle []*worker) {
	for _, k := range idle {
		k.jobs <- nil
	}
}
