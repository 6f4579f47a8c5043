package memconn

import (
	"sync"
	"time"
)

// deadline ends the waiting on a condition. The mutex of that condition guards it.
type deadline struct {
	at    time.Time   // zero for none
	timer *time.Timer // wakes whoever waits; nil until there was a deadline to come
}

// set replaces the deadline; those who wait on c look again.
func (d *deadline) set(t time.Time, c *sync.Cond) {
	d.stop()
	if t.IsZero() {
		return
	}
	// On the clock of the timer: a change of the wall clock, which t may stand
	// for, must not let the timer fire before the deadline has passed.
	now := time.Now()
	left := t.Sub(now)
	d.at = now.Add(left)
	if left <= 0 {
		c.Broadcast()
		return
	}
	if d.timer != nil {
		d.timer.Reset(left)
		return
	}
	d.timer = time.AfterFunc(left, func() {
		c.L.Lock() // whoever found the deadline not passed is waiting by now
		defer c.L.Unlock()
		c.Broadcast()
	})
}

func (d *deadline) stop() {
	d.at = time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) passed() bool {
	return !d.at.IsZero() && !time.Now().Before(d.at)
}
