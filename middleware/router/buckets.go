package router

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// buckets are token buckets, one for each key, and never more than max.
type buckets struct {
	// Set by newBuckets, never changed.
	limit rate.Limit
	burst int
	max   int
	rest  *rate.Limiter // for keys that there is no room for

	mu     sync.Mutex
	byKey  map[bucketKey]*list.Element // of used; guarded by mu
	recent *list.List                  // of *bucket, the last used first; guarded by mu
}

type bucket struct {
	key    bucketKey
	tokens *rate.Limiter
}

func newBuckets(limit rate.Limit, burst, max int) *buckets {
	return &buckets{
		limit: limit, burst: burst, max: max,
		rest:   rate.NewLimiter(limit, burst),
		byKey:  make(map[bucketKey]*list.Element),
		recent: list.New(),
	}
}

// of returns the bucket of a key.
func (b *buckets) of(key bucketKey, now time.Time) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used(b.byKey[key], key, now)
}

// ofMethod is of for the key that has a text alone, without making one.
func (b *buckets) ofMethod(method []byte, now time.Time) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.byKey[bucketKey{text: string(method)}]; e != nil {
		return b.used(e, bucketKey{}, now)
	}
	return b.used(nil, bucketKey{text: string(method)}, now)
}

func (b *buckets) used(e *list.Element, key bucketKey, now time.Time) *rate.Limiter {
	if e != nil {
		b.recent.MoveToFront(e)
		return e.Value.(*bucket).tokens
	}
	if len(b.byKey) >= b.max && !b.forget(now) {
		return b.rest
	}
	added := &bucket{key: key, tokens: rate.NewLimiter(b.limit, b.burst)}
	b.byKey[key] = b.recent.PushFront(added)
	return added.tokens
}

// forget makes room by dropping the bucket that was not used for the longest time,
// if it is full again: then nobody gains by being forgotten.
func (b *buckets) forget(now time.Time) bool {
	oldest := b.recent.Back()
	old := oldest.Value.(*bucket)
	if old.tokens.TokensAt(now) < float64(b.burst) {
		return false
	}
	b.recent.Remove(oldest)
	delete(b.byKey, old.key)
	return true
}

func (b *buckets) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.byKey)
}
