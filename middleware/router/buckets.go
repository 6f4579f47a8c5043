package router

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// buckets are token buckets, one for each key, and never more than max.
type buckets struct {
	// Set by newBuckets, never changed.
	limit rate.Limit
	burst int // of the limiters; a bucket has credit beside
	ahead int // tokens to take at a time, to look at the clock less often: BenchmarkChain/RateLimit
	max   int

	// Guarded by mu. The maps, one for each kind of key, are to the elements of
	// recent, which are *bucket, the last used first.
	mu      sync.Mutex
	byAddr  map[netip.Addr]*list.Element
	byText  map[string]*list.Element
	byValue map[any]*list.Element
	recent  *list.List
	rest    *bucket // for keys that there is no room for
}

// bucket is what a key has. Guarded by buckets.mu.
type bucket struct {
	key    bucketKey
	tokens *rate.Limiter
	credit int // taken from tokens and not used yet
}

// aheadOf returns how many tokens are taken at a time of a burst: a sixteenth, at
// most 16, or one after the other. What is taken ahead is off the burst, so that a
// bucket never lets more through at once.
func aheadOf(burst int) int {
	if burst < 32 {
		return 0
	}
	return min(burst/16, 16)
}

func newBuckets(limit rate.Limit, burst, max int) *buckets {
	ahead := aheadOf(burst)
	b := &buckets{
		limit: limit, burst: burst - ahead, ahead: ahead, max: max,
		byAddr:  make(map[netip.Addr]*list.Element),
		byText:  make(map[string]*list.Element),
		byValue: make(map[any]*list.Element),
		recent:  list.New(),
	}
	b.rest = b.newBucket(bucketKey{})
	return b
}

func (b *buckets) newBucket(key bucketKey) *bucket {
	return &bucket{key: key, tokens: rate.NewLimiter(b.limit, b.burst)}
}

// take takes a token of a key. If there is none it returns after which time there
// is one.
func (b *buckets) take(key bucketKey) (after time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.takeFrom(b.find(key), key)
}

// takeMethod is take for the key that has a text alone, without making one.
func (b *buckets) takeMethod(method []byte) (after time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.byText[string(method)]; e != nil {
		return b.takeFrom(e, bucketKey{})
	}
	return b.takeFrom(nil, bucketKey{text: string(method)})
}

func (b *buckets) takeFrom(e *list.Element, key bucketKey) (after time.Duration, ok bool) {
	if e == nil {
		return b.takeNow(b.made(key, time.Now()))
	}
	b.recent.MoveToFront(e)
	has := e.Value.(*bucket)
	if has.credit > 0 {
		has.credit--
		return 0, true
	}
	return b.takeNow(has)
}

func (b *buckets) takeNow(has *bucket) (after time.Duration, ok bool) {
	now := time.Now()
	if b.ahead > 0 && has.tokens.AllowN(now, b.ahead) {
		has.credit = b.ahead - 1
		return 0, true
	}
	if has.tokens.AllowN(now, 1) {
		return 0, true
	}
	return wait(has.tokens, now), false
}

func (b *buckets) find(key bucketKey) *list.Element {
	switch {
	case key.value != nil:
		return b.byValue[key.value]
	case key.text != "":
		return b.byText[key.text]
	}
	return b.byAddr[key.addr]
}

// made returns a new bucket, or the one of the rest if there is no room.
func (b *buckets) made(key bucketKey, now time.Time) *bucket {
	if b.recent.Len() >= b.max && !b.forget(now) {
		return b.rest
	}
	has := b.newBucket(key)
	e := b.recent.PushFront(has)
	switch {
	case key.value != nil:
		b.byValue[key.value] = e
	case key.text != "":
		b.byText[key.text] = e
	default:
		b.byAddr[key.addr] = e
	}
	return has
}

// forget makes room by dropping the bucket that was not used for the longest time,
// if it is full again: then nobody gains by being forgotten. Credit is lost.
func (b *buckets) forget(now time.Time) bool {
	oldest := b.recent.Back()
	old := oldest.Value.(*bucket)
	if old.tokens.TokensAt(now) < float64(b.burst) {
		return false
	}
	b.recent.Remove(oldest)
	switch {
	case old.key.value != nil:
		delete(b.byValue, old.key.value)
	case old.key.text != "":
		delete(b.byText, old.key.text)
	default:
		delete(b.byAddr, old.key.addr)
	}
	return true
}

func (b *buckets) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.recent.Len()
}
