package router

import (
	"math"
	"slices"
	"sync"
	"time"
)

// gradient finds the limit of an Adaptive. It works in rounds. A round has one
// limit, takes the median time of handlers that begin in it, and ends with the
// next limit:
//
//   - While the median is under one and a half times of usual, the limit grows,
//     above it shrinks, in proportion. So it settles at one and a half times of
//     what is handled at once before anything waits.
//   - usual, the time when nothing waits, is the lowest median so far, or the last
//     one at less than half of the limit. As either may be wrong, it is measured
//     anew every now and then, and when the limit has shrunk a lot: by halving the
//     limit, again and again if that makes handlers quicker, for a round each.
type gradient struct {
	lowest, highest float64 // set by NewAdaptive

	// Guarded by mu.
	mu     sync.Mutex
	limit  float64
	inHand int

	usual    time.Duration // 0: not known
	last     time.Duration // the median of the round before
	before   float64       // the limit from before usual is measured; 0: it is not
	top      float64       // the highest limit since usual was measured
	rounds   int           // under load, since then
	interval int           // rounds until it is measured again

	round uint64 // number of the one in hand
	began time.Duration
	peak  int  // most in hand
	full  bool // something was turned away
	n     int  // of times
	times [maxTimes]time.Duration
}

const (
	// A round has at least minTimes messages and takes at least minRound.
	minTimes = 16
	maxTimes = 64
	minRound = 50 * time.Millisecond

	// tooLong is by how much a time is above the usual one when the limit is
	// too high.
	tooLong = 1.5
	// leastLeft is what a round leaves of the limit: a single one may have been
	// disturbed.
	leastLeft = 0.75
	// neverLong is a time that is never too long.
	neverLong = time.Millisecond
	// quicker is what a round at half of the limit takes of the time before
	// if messages were waiting.
	quicker = 0.6
	// maxInterval is the most rounds between two measurements.
	maxInterval = 60
)

// enter lets a message through, in a round, if there is room.
func (g *gradient) enter(now time.Duration) (round uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inHand >= int(g.limit) {
		g.full = true
		return 0, false
	}
	if g.inHand == 0 && g.n == 0 {
		g.began = now
	}
	g.inHand++
	g.peak = max(g.peak, g.inHand)
	return g.round, true
}

// leave is called when a message was handled. Its time counts if it tells of the
// load.
func (g *gradient) leave(round uint64, start, now time.Duration, tells bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inHand--
	if round != g.round || !tells {
		return
	}
	if g.n < maxTimes {
		g.times[g.n] = now - start
		g.n++
	}
	if g.n >= minTimes && now-g.began >= minRound {
		g.adjust(now)
	}
}

func (g *gradient) state() (limit, inHand int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int(g.limit), g.inHand
}

// adjust ends a round. Guarded by mu.
func (g *gradient) adjust(now time.Duration) {
	times := g.times[:g.n]
	slices.Sort(times)
	median := times[len(times)/2]
	switch {
	case g.before > 0:
		g.measured(median)
	case g.full:
		g.learn(median)
		g.loaded(median)
	default:
		g.learn(median)
	}
	g.last = median
	g.round++
	g.began, g.peak, g.full, g.n = now, 0, false, 0
}

// learn looks whether a median is the usual one.
func (g *gradient) learn(median time.Duration) {
	light := !g.full && float64(g.peak) < g.limit/2
	if g.usual == 0 || median < g.usual || light {
		g.usual = median
	}
}

// loaded sets the limit after a round in which it was reached.
func (g *gradient) loaded(median time.Duration) {
	wanted := max(tooLong*float64(g.usual), float64(neverLong))
	if ratio := wanted / float64(max(median, 1)); ratio < 1 {
		g.limit = max(g.lowest, g.limit*max(ratio, leastLeft))
	} else {
		g.limit = min(g.highest, max(g.limit+1, g.limit*min(ratio, tooLong)))
	}
	g.top = max(g.top, g.limit)
	g.rounds++
	if g.rounds >= g.interval || g.limit < g.top/2 {
		g.interval = min(g.interval*2, maxInterval)
		g.before = g.limit
		g.limit = g.half()
	}
}

// measured ends a round at half of the limit.
func (g *gradient) measured(median time.Duration) {
	if float64(median) < quicker*float64(g.last) && g.limit > g.lowest {
		g.limit = g.half()
		return
	}
	g.usual = median
	g.limit = max(g.lowest, min(g.before, 3*g.limit))
	g.before, g.top, g.rounds = 0, g.limit, 0
}

// half is at least one less, or the lowest limit.
func (g *gradient) half() float64 { return max(g.lowest, math.Ceil(math.Floor(g.limit)/2)) }
