package call

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

// race is a call with up to two attempts under way. The first runs on the caller's
// goroutine: most often it is the only one, and then no other is needed.
type race struct {
	// Set when it is made, never changed.
	ctx      context.Context
	call     *arpc.Call // the caller's; attempts have copies
	next     arpc.CallFunc
	mayHedge func() bool

	// Owned by the caller's goroutine.
	timer *time.Timer // of hedge
	over  bool        // hedge is not under way, and will not be

	hedged   chan struct{} // closed when hedge has returned
	panicked any           // of hedge; set before hedged is closed

	// Guarded by mu.
	mu       sync.Mutex
	attempts [2]attempt
	began    int // attempts
	winner   *attempt
}

// attempt is one of a race. From begin to ended it belongs to the goroutine that
// makes it.
type attempt struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	call     arpc.Call
	payload  []byte // of the response
	metadata arpc.Metadata
	err      error
}

var (
	errSlower = errors.New("another attempt was faster (call.Hedge)")
	errExited = arpc.NewError(arpc.CodeInternal, "call: an attempt ended its goroutine")
)

// run makes the call, and hedges it after the delay. When it returns, or panics
// because an attempt did, both attempts are over.
func (r *race) run(delay time.Duration) error {
	r.timer = time.AfterFunc(delay, r.hedge)
	defer r.join()
	defer r.cancelAll()
	r.try()
	r.join()
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.result()
}

// join waits for hedge, unless it has not begun and so will not.
func (r *race) join() {
	if !r.over && !r.timer.Stop() {
		<-r.hedged
	}
	r.over = true
}

// hedge makes the second attempt.
func (r *race) hedge() {
	defer close(r.hedged)
	defer func() {
		if r.panicked = recover(); r.panicked != nil {
			r.cancelAll()
		}
	}()
	r.try()
}

// try makes an attempt, if it is not too late and there may be one.
func (r *race) try() {
	a := r.begin()
	if a == nil {
		return
	}
	a.err = r.next(a.ctx, &a.call)
	r.ended(a)
}

// begin returns the attempt to make, nil if there is to be none.
func (r *race) begin() *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner != nil || r.began > 0 && !r.mayHedge() {
		return nil
	}
	a := &r.attempts[r.began]
	r.began++
	a.call, a.err = *r.call, errExited
	a.ctx, a.cancel = context.WithCancelCause(r.ctx)
	if arpc.ResponseMetadataOf(r.ctx) != nil {
		a.ctx = arpc.ContextWithResponseMetadata(a.ctx, &a.metadata)
	}
	if r.call.Response != nil {
		a.call.Response = &a.payload
	}
	return a
}

// ended makes an attempt that is over the winner, if it is the first with an answer.
func (r *race) ended(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner != nil || transient(a.err, r.call.Client == nil) {
		return
	}
	r.winner = a
	for i := range r.began {
		if other := &r.attempts[i]; other != a {
			other.cancel(errSlower)
		}
	}
}

func (r *race) cancelAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.began {
		r.attempts[i].cancel(errSlower)
	}
}

// result gives the caller what came first. All attempts are over.
func (r *race) result() error {
	a := r.winner
	if a == nil {
		a = &r.attempts[0]
		a.err = asSent(a.err, r.began > 1 && !arpc.SafeToRetry(r.attempts[1].err))
	}
	r.call.Client = a.call.Client
	if md := arpc.ResponseMetadataOf(r.ctx); md != nil {
		*md = a.metadata
	}
	if a.err != nil {
		return a.err
	}
	return decode(a.call.Client, a.payload, r.call.Response)
}

// decodable reports whether decode has somewhere to store a payload.
func decodable(target any) bool {
	switch v := target.(type) {
	case *[]byte:
		return v != nil
	case *string:
		return v != nil
	case *bytes.Buffer:
		return v != nil
	}
	return true
}

// decode stores a payload, which it may keep, in the value that target points to.
func decode(c *arpc.Client, payload []byte, target any) error {
	switch v := target.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = payload
		return nil
	case *string:
		*v = string(payload)
		return nil
	case *bytes.Buffer:
		v.Reset()
		v.Write(payload)
		return nil
	}
	if c == nil {
		return arpc.NewError(arpc.CodeInternal, "call: an interceptor behind Hedge answered in the place of a pool, so that no codec is known")
	}
	if err := c.Codec.Unmarshal(payload, target); err != nil {
		return arpc.Errorf(arpc.CodeInternal, "call: decode %T: %w", target, err)
	}
	return nil
}
