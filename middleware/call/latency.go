package call

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// latencies measure how long the calls of each method take. Safe for concurrent
// use.
type latencies struct {
	// Set by Hedge, never changed.
	quantile, times float64

	mu      sync.RWMutex
	methods map[string]*latency // guarded by mu
}

// maxMethods is how many methods are told apart, should their names come from
// outside.
const maxMethods = 1000

// of returns the measurements of a method, nil if there are too many of them.
func (l *latencies) of(method string) *latency {
	l.mu.RLock()
	m := l.methods[method]
	l.mu.RUnlock()
	if m != nil {
		return m
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if m = l.methods[method]; m == nil && len(l.methods) < maxMethods {
		m = &latency{of: l}
		l.methods[method] = m
	}
	return m
}

// latency keeps the durations of the last calls of a method: of 1000 to 2000 of
// them, in buckets of an eighth of a power of two.
type latency struct {
	of *latencies

	delay atomic.Int64 // nanoseconds until a hedge; 0: not known yet

	// Guarded by mu.
	mu       sync.Mutex
	now, old histogram
}

const (
	enoughCalls = 100  // to know a quantile
	manyCalls   = 1000 // after which the older half is forgotten
	renewEvery  = 16   // calls after which delay is computed again

	minDelay = time.Millisecond // less is noise
)

// hedgeAfter returns how long to wait for a first answer, 0 for ever.
func (m *latency) hedgeAfter() time.Duration {
	if m == nil {
		return 0
	}
	return time.Duration(m.delay.Load())
}

// took notes a call that took d, or would have taken more.
func (m *latency) took(d time.Duration) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.n == manyCalls {
		m.old, m.now = m.now, histogram{}
	}
	m.now.add(d)
	if n := m.now.n + m.old.n; n >= enoughCalls && n%renewEvery == 0 {
		after := float64(quantileOf(&m.now, &m.old, m.of.quantile)) * m.of.times
		m.delay.Store(max(int64(after), int64(minDelay)))
	}
}

// histogram counts durations in buckets: one below 2 µs, then eight for each power
// of two, up to half an hour.
type histogram struct {
	n      int
	counts [1 + 8*30]uint32
}

// smallest is the power of two, in nanoseconds, that the buckets begin with.
const smallest = 11

func (h *histogram) add(d time.Duration) {
	h.n++
	h.counts[bucketOf(d)]++
}

// bucketOf returns the bucket of a duration.
func bucketOf(d time.Duration) int {
	if d < 1<<smallest {
		return 0
	}
	power := bits.Len64(uint64(d)) - 1
	eighth := int(d >> (power - 3) & 7)
	return min(1+(power-smallest)*8+eighth, len(histogram{}.counts)-1)
}

// endOf returns the duration below which all of a bucket are, but for the last.
func endOf(bucket int) time.Duration {
	if bucket == 0 {
		return 1 << smallest
	}
	power, eighth := (bucket-1)/8+smallest, (bucket-1)%8
	return time.Duration(9+eighth) << (power - 3)
}

// quantileOf returns a duration that a share q of two histograms did not reach.
func quantileOf(a, b *histogram, q float64) time.Duration {
	rest := q * float64(a.n+b.n)
	for i := range a.counts {
		if rest -= float64(a.counts[i] + b.counts[i]); rest <= 0 {
			return endOf(i)
		}
	}
	return endOf(len(a.counts) - 1)
}
