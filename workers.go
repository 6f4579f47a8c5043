package arpc

import (
	"slices"
	"sync"
	"time"
)

// workerRest is after how long a worker that was not needed ends, or up to twice that.
const workerRest = 2 * time.Second

// task is what a worker does: a job, or a write that may have to wait.
type task interface{ run() }

// workers run the tasks of a connection, each on a goroutine of its own. A goroutine
// that is through with one waits for another: a new one would start with a small
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
	tasks   chan task // nil: end
}

// start has a goroutine run the task.
func (w *workers) start(t task) {
	w.mu.Lock()
	n := len(w.idle) - 1
	if n < 0 {
		w.mu.Unlock()
		go (&worker{workers: w}).run(t)
		return
	}
	k := w.idle[n]
	w.idle[n] = nil
	w.idle = w.idle[:n]
	w.unused = min(w.unused, n)
	w.mu.Unlock()
	k.tasks <- t // which has room
}

func (k *worker) run(t task) {
	for t != nil {
		t.run()
		if !k.workers.rest(k) {
			return
		}
		t = <-k.tasks
	}
}

// rest has a worker wait for its next task, and reports false if it is not to.
func (w *workers) rest(k *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	if k.tasks == nil {
		k.tasks = make(chan task, 1)
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

// end has all that wait end, and the others when their tasks are done.
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
		k.tasks <- nil
	}
}
