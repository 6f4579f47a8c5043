package memconn

import "time"

// transit is the way from the writer to the reader, without the bytes: it knows
// up to which place in the stream they have landed, and when the others will.
// The mutex of its stream guards it.
type transit struct {
	landed  int64    // places before this one are with the reader
	parcels []parcel // under way, in order of place and of time
	delay   time.Duration
	stalled bool
	timer   *time.Timer // lands the first parcel; nil until there is one
	wake    func()      // called by the timer; never changed
}

// parcel is what was sent at one time: all places before end that the parcel
// before it does not hold.
type parcel struct {
	end int64
	at  time.Time // when it lands; zero for as soon as it may
}

// send sends the places before end on their way and reports whether they landed
// at once.
func (t *transit) send(end int64) bool {
	if t.delay == 0 && !t.stalled && len(t.parcels) == 0 {
		t.landed = end
		return true
	}
	t.push(parcel{end: end, at: t.landingTime()})
	return t.release()
}

// landingTime never comes before that of the last parcel: the order is kept when
// the delay shrinks.
func (t *transit) landingTime() time.Time {
	var at, last time.Time
	if t.delay > 0 {
		at = time.Now().Add(t.delay)
	}
	if n := len(t.parcels); n > 0 {
		last = t.parcels[n-1].at
	}
	if last.After(at) {
		return last
	}
	return at
}

func (t *transit) push(p parcel) {
	if n := len(t.parcels); n > 0 && t.parcels[n-1].at.Equal(p.at) {
		t.parcels[n-1] = p
		return
	}
	t.parcels = append(t.parcels, p)
}

// release lands the parcels that are due, reports whether there were any, and
// sets the timer for the next.
func (t *transit) release() bool {
	if t.stalled || len(t.parcels) == 0 {
		return false
	}
	before, now := t.landed, time.Now()
	for len(t.parcels) > 0 && !t.parcels[0].at.After(now) {
		t.landed = t.parcels[0].end
		t.parcels = t.parcels[1:]
	}
	if len(t.parcels) > 0 {
		t.wakeIn(t.parcels[0].at.Sub(now))
	}
	return t.landed > before
}

func (t *transit) wakeIn(d time.Duration) {
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.wake)
		return
	}
	t.timer.Reset(d)
}

// drop forgets the parcels: they never land.
func (t *transit) drop() {
	t.parcels = nil
	if t.timer != nil {
		t.timer.Stop()
	}
}
