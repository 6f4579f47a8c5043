package arpc

import "sync"

// orderedQueue holds the ordered messages of a connection that arrived while an
// earlier one was still in hand. Its length is bounded by WithMaxInflight.
type orderedQueue struct {
	mu    sync.Mutex
	busy  bool   // somebody runs ordered handlers and will look again
	jobs  []*job // guarded by mu
	next  int    // jobs[:next] are done
	final func() // runs after the last job
}

// claim puts the queue in the hands of a handler that lost the baton. It reports
// false if somebody has it already.
func (q *orderedQueue) claim() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	free := !q.busy
	q.busy = true
	return free
}

func (q *orderedQueue) isBusy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy
}

// push appends a job and starts to work on the queue if nobody does.
func (q *orderedQueue) push(c *conn, j *job) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	start := !q.busy
	q.busy = true
	q.mu.Unlock()
	if start {
		go q.drain(c)
	}
}

// finally runs f after all jobs, on this goroutine if there are none.
func (q *orderedQueue) finally(c *conn, f func()) {
	q.mu.Lock()
	q.final = f
	start := !q.busy
	q.busy = true
	q.mu.Unlock()
	if start {
		q.drain(c)
	}
}

// drain runs the jobs until there are none. The caller has set busy.
func (q *orderedQueue) drain(c *conn) {
	for {
		j, final := q.pop()
		switch {
		case j != nil:
			j.run()
		case final != nil:
			final()
		default:
			return
		}
	}
}

// pop returns what to do next, and marks the queue as free if that is nothing.
func (q *orderedQueue) pop() (*job, func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next < len(q.jobs) {
		j := q.jobs[q.next]
		q.jobs[q.next] = nil
		q.next++
		return j, nil
	}
	q.jobs, q.next = nil, 0
	final := q.final
	q.final = nil
	q.busy = final != nil
	return nil, final
}
