package router

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/arpc-go/arpc"
)

// RateLimit turns away what comes faster than a rate. A request that is refused
// gets CodeResourceExhausted, and RetryAfterKey in the metadata of its response. It
// is safe for concurrent use, also by several handlers, which then share the rates.
type RateLimit struct {
	// Set by NewRateLimit, never changed.
	key  Key
	text string // of the refusal

	buckets *buckets
	door    door
}

// RateOption is a setting for NewRateLimit.
type RateOption func(*rateSettings)

type rateSettings struct{ maxKeys int }

// WithMaxKeys sets how many keys have a rate of their own at the same time; each
// takes about 300 bytes. When there are so many the one that was not used for the
// longest time makes room, if its burst is full again, so that nobody gains by
// being forgotten. Until then new keys have one rate together. Default: 10,000. It
// panics below 1.
func WithMaxKeys(n int) RateOption {
	if n < 1 {
		panic(fmt.Sprintf("router: WithMaxKeys(%d): at least one key is needed", n))
	}
	return func(s *rateSettings) { s.maxKeys = n }
}

// NewRateLimit returns a RateLimit that lets perSecond messages and streams of each
// key through, and burst of them at once after a pause; of a burst of 32 and more up
// to a sixteenth may be missing. It panics if perSecond is not a positive number or
// burst is below 1.
func NewRateLimit(key Key, perSecond float64, burst int, opts ...RateOption) *RateLimit {
	if !(perSecond > 0) || math.IsInf(perSecond, 0) || burst < 1 {
		panic(fmt.Sprintf("router: NewRateLimit(%v, %d): the rate must be positive and the burst at least 1", perSecond, burst))
	}
	s := rateSettings{maxKeys: 10_000}
	for _, opt := range opts {
		opt(&s)
	}
	return &RateLimit{
		key:     key,
		text:    fmt.Sprintf("over the rate limit of %v per second with a burst of %d (NewRateLimit)", perSecond, burst),
		buckets: newBuckets(rate.Limit(perSecond), burst, s.maxKeys),
	}
}

// Handler returns the middleware.
func (l *RateLimit) Handler() arpc.HandlerFunc { return l.handle }

func (l *RateLimit) handle(ctx *arpc.Context) {
	after, ok := l.take(ctx)
	if ok {
		return
	}
	ctx.SetMetadata(RetryAfterKey, formatRetryAfter(after)) // fails for notifications
	l.door.turnAway(ctx, l.refusal(after))
}

// Stream is the middleware for streams: what counts is that they are opened. The
// refusal has no metadata, and says in its text when to come back.
func (l *RateLimit) Stream(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
	return func(s *arpc.Stream) {
		if after, ok := l.takeStream(s); !ok {
			l.door.failStream(s, l.refusal(after))
			return
		}
		next(s)
	}
}

// Refused returns how many requests and streams were refused.
func (l *RateLimit) Refused() uint64 { return l.door.refused.Load() }

// Dropped returns how many notifications were dropped.
func (l *RateLimit) Dropped() uint64 { return l.door.dropped.Load() }

// Keys returns how many keys have a rate of their own now.
func (l *RateLimit) Keys() int { return l.buckets.len() }

// take takes a token for a message.
func (l *RateLimit) take(ctx *arpc.Context) (after time.Duration, ok bool) {
	switch l.key.by {
	case byRoute:
		return l.buckets.takeMethod(methodOf(ctx.Message))
	case byFunc:
		return l.buckets.take(funcKey(l.key.value(incomingMessage(ctx))))
	}
	return l.buckets.take(l.clientKey(ctx.Client))
}

func (l *RateLimit) takeStream(s *arpc.Stream) (after time.Duration, ok bool) {
	switch l.key.by {
	case byRoute:
		return l.buckets.takeMethod([]byte(s.Method()))
	case byFunc:
		return l.buckets.take(funcKey(l.key.value(incomingStream(s))))
	}
	return l.buckets.take(l.clientKey(s.Client()))
}

func (l *RateLimit) clientKey(c *arpc.Client) bucketKey {
	switch l.key.by {
	case byPeer:
		return peerKey(c)
	case byIdentity:
		return identityKey(c)
	}
	return bucketKey{}
}

func (l *RateLimit) refusal(after time.Duration) error {
	return arpc.Errorf(arpc.CodeResourceExhausted, "%s; try again in %v", l.text, after)
}

// wait returns after which time there is a token, in whole milliseconds.
func wait(tokens *rate.Limiter, now time.Time) time.Duration {
	missing := max(1-tokens.TokensAt(now), 0)
	seconds := missing / float64(tokens.Limit())
	if seconds > maxRetryAfter.Seconds() {
		return maxRetryAfter
	}
	return max(roundUp(time.Duration(seconds*float64(time.Second)), time.Millisecond), time.Millisecond)
}

func roundUp(d, unit time.Duration) time.Duration {
	return (d + unit - 1).Truncate(unit)
}
