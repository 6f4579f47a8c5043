package pubsub

import (
	"sync"
	"sync/atomic"
)

// turn has work done whenever somebody asks for it, by one goroutine at a time. Who
// asks while another is at it leaves it to him, and waits for nobody.
type turn struct {
	work    func() // set before the first use, never changed
	asked   atomic.Bool
	helpers sync.WaitGroup

	mu     sync.Mutex // held while work runs
	closed bool       // guarded by mu
}

// turnRounds is how often one who asks does the work for others before he has a
// goroutine take over.
const turnRounds = 16

func (t *turn) ask() {
	t.asked.Store(true)
	for rounds := 0; t.asked.Load(); rounds++ {
		switch t.once(rounds) {
		case turnElsewhere:
			return
		case turnTooLong:
			go func() {
				defer t.helpers.Done()
				t.ask()
			}()
			return
		}
	}
}

type turnEnd int

const (
	turnDone      turnEnd = iota
	turnElsewhere         // another is at it, or nothing is to be done any more
	turnTooLong           // helpers counts one who is to take over
)

func (t *turn) once(rounds int) turnEnd {
	if !t.mu.TryLock() {
		return turnElsewhere
	}
	defer t.mu.Unlock()
	t.asked.Store(false)
	if t.closed {
		return turnElsewhere
	}
	t.work()
	if rounds < turnRounds || !t.asked.Load() {
		return turnDone
	}
	t.helpers.Add(1)
	return turnTooLong
}

// locked calls fn while no work is done. It must not be called from work.
func (t *turn) locked(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fn()
}

// close returns when no work is done any more, fn having been called.
func (t *turn) close(fn func()) {
	t.locked(func() {
		t.closed = true
		fn()
	})
	t.helpers.Wait()
}
