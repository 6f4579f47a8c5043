package pubsub

import "time"

// memorySweeper evicts what is over its age though nobody publishes or reads where it
// is. It is one timer for all history, guarded by keptLane.mu.
type memorySweeper struct {
	timer *time.Timer // nil: never needed yet
	armed bool
	at    time.Duration // when it fires, by the clock of the history
}

const (
	sweepPause = 100 * time.Millisecond // between two sweeps
	sweepMost  = 4096                   // messages of a rule at a time: some milliseconds
	sweepGoOn  = time.Millisecond       // until the next, if there were more
)

// sweepAt has a sweep made at a time, or earlier.
func (b *MemoryBroker) sweepAt(at, now time.Duration) {
	s := &b.sweeper
	if s.armed && s.at <= at || b.closed.Load() {
		return
	}
	s.armed, s.at = true, at
	if s.timer == nil {
		s.timer = time.AfterFunc(at-now, b.sweep)
	} else {
		s.timer.Reset(at - now)
	}
}

func (b *MemoryBroker) sweep() {
	b.keptLane.mu.Lock()
	defer b.keptLane.mu.Unlock()
	b.sweeper.armed = false
	now := b.kept.now()
	for _, r := range b.kept.rules {
		all := b.kept.expire(r, now, sweepMost)
		switch oldest := r.log.oldest(); {
		case r.Age == 0 || oldest == nil:
		case !all:
			b.sweepAt(now+sweepGoOn, now)
		default:
			b.sweepAt(max(now+sweepPause, oldest.arrived+r.Age), now)
		}
	}
}

func (b *MemoryBroker) stopSweeping() {
	b.keptLane.mu.Lock()
	defer b.keptLane.mu.Unlock()
	if b.sweeper.timer != nil {
		b.sweeper.timer.Stop()
	}
}
