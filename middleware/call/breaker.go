package call

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
)

// Breaker refuses calls for a while when too many have failed, so that callers need
// not wait for a peer that does not answer, and the peer need not for them.
//
// It has one or more circuits, see WithScope. A circuit is Closed at first. When
// the share of failures passes WithFailureRate it is Open: calls fail at once, with
// an error of CodeUnavailable that wraps an *OpenError and for which
// arpc.SafeToRetry holds. After WithOpenFor it is HalfOpen and lets a few calls
// through as probes, WithProbes: when they succeed it is closed, and with the first
// failure open again. What counts as a failure says Classify.
//
// Notifications and streams count, and are refused, like calls; they succeed when
// they are sent, or opened: what becomes of them then is not known here.
//
// A Breaker is safe for concurrent use, by several handlers too. Its Intercept is
// for arpc.Handler.UseCall.
type Breaker struct {
	// Set by NewBreaker, never changed.
	name     string
	scope    Scope
	rate     float64
	calls    int
	window   time.Duration
	openFor  time.Duration
	probes   int
	classify func(error) Outcome
	onChange func(Change)

	notClosed atomic.Int64  // circuits
	changes   atomic.Uint64 // of states, of all circuits

	// Guarded by mu.
	mu      sync.RWMutex
	methods map[string]*circuit
	peers   map[*arpc.Client]*circuit
	sweepAt int // number of peers at which those of closed clients are dropped
}

// BreakerOption is a setting of NewBreaker.
type BreakerOption func(*Breaker)

// NewBreaker returns a Breaker. The name is for its errors.
func NewBreaker(name string, opts ...BreakerOption) *Breaker {
	b := &Breaker{
		name: name, rate: 0.5, calls: 20, window: 10 * time.Second, openFor: 5 * time.Second, probes: 1,
		classify: Classify,
		methods:  make(map[string]*circuit),
		peers:    make(map[*arpc.Client]*circuit),
		sweepAt:  minSweep,
	}
	for _, opt := range opts {
		opt(b)
	}
	return b
}

// WithFailureRate opens a circuit when in the last window, in steps of a tenth of
// it, at least so many calls ended and at least this share of them failed. Default:
// 0.5 of 20 calls in 10 s. One of 1 with n calls is "n failures and no success".
func WithFailureRate(share float64, calls int, window time.Duration) BreakerOption {
	mustHave(fmt.Sprintf("WithFailureRate(%v, %d, %v): a share of at least 0.01 and at most 1, a number of calls, and a window of at least 1 ms,", share, calls, window),
		share >= 0.01 && share <= 1 && calls > 0 && window >= time.Millisecond)
	return func(b *Breaker) { b.rate, b.calls, b.window = share, calls, window }
}

// WithOpenFor sets how long a circuit is open, give or take a tenth, before it lets
// probes through. Default: 5 s.
func WithOpenFor(d time.Duration) BreakerOption {
	mustHave(fmt.Sprintf("WithOpenFor(%v): a positive duration", d), d > 0)
	return func(b *Breaker) { b.openFor = d }
}

// WithProbes sets how many calls have to succeed for a half-open circuit to be
// closed; no more are let through at a time. Default: 1.
func WithProbes(n int) BreakerOption {
	mustHave("WithProbes: at least one probe", n > 0)
	return func(b *Breaker) { b.probes = n }
}

// WithScope sets what the circuits are for. Default: PerMethod.
func WithScope(s Scope) BreakerOption {
	mustHave(fmt.Sprintf("WithScope(%d): a scope", s), s >= PerMethod && s <= Whole)
	return func(b *Breaker) { b.scope = s }
}

// WithClassify sets what counts as a failure. It is called for each call that ended,
// by many goroutines at a time. Default: Classify.
func WithClassify(fn func(err error) Outcome) BreakerOption {
	mustHave("WithClassify: a function", fn != nil)
	return func(b *Breaker) { b.classify = fn }
}

// WithOnChange has fn called when the state of a circuit has changed, in the order
// of the changes of each circuit, by the goroutine of a call: it should not wait.
func WithOnChange(fn func(Change)) BreakerOption {
	mustHave("WithOnChange: a function", fn != nil)
	return func(b *Breaker) { b.onChange = fn }
}

// Scope says what a Breaker has circuits for.
type Scope int

const (
	// PerMethod has a circuit for each of the first 1000 methods; the others
	// share one.
	PerMethod Scope = iota
	// PerPeer has a circuit for each client, which a dialled one keeps when it
	// comes back. For the members of a pool see Breaker.Picker.
	PerPeer
	// Whole has one circuit.
	Whole
)

// Outcome is what a call says about the peer.
type Outcome int

const (
	Neutral Outcome = iota // nothing
	Success
	Failure
)

// Classify is how a Breaker counts unless WithClassify says otherwise. Failures are
// CodeUnavailable, a lost connection too, CodeDeadlineExceeded and CodeInternal.
// Every other answer of the peer is a success, such as CodeNotFound: it is alive.
// What is wrong on this side of the connection is neutral, as are calls that their
// callers canceled.
func Classify(err error) Outcome {
	if err == nil {
		return Success
	}
	switch arpc.CodeOf(err) {
	case arpc.CodeCanceled:
		return Neutral
	case arpc.CodeUnavailable, arpc.CodeDeadlineExceeded:
		return Failure
	case arpc.CodeInternal:
		if arpc.SafeToRetry(err) {
			return Neutral // the request could not be encoded
		}
		return Failure
	}
	if arpc.IsRemote(err) {
		return Success
	}
	return Neutral
}

// Intercept is the interceptor.
func (b *Breaker) Intercept(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
	if b.scope == PerPeer && call.Client == nil {
		return b.interceptPooled(ctx, call, next)
	}
	k := b.circuitOf(call)
	p, err := k.admit()
	if err != nil {
		return err
	}
	outcome := Neutral // of a panic
	defer func() { k.settle(p, outcome) }()
	err = next(ctx, call)
	outcome = b.classify(err)
	return err
}

// Circuits returns the circuits and their states, in no order.
func (b *Breaker) Circuits() []Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Circuit, 0, len(b.methods)+len(b.peers))
	for _, k := range b.methods {
		list = append(list, k.get())
	}
	for _, k := range b.peers {
		list = append(list, k.get())
	}
	return list
}

func (b *Breaker) circuitOf(call *arpc.Call) *circuit {
	switch b.scope {
	case PerMethod:
		return b.ofMethod(call.Method)
	case PerPeer:
		return b.ofPeer(call.Client)
	}
	return b.ofMethod("")
}

// others is the method of the circuit that methods above the limit share.
const others = "(others)"

func (b *Breaker) ofMethod(method string) *circuit {
	b.mu.RLock()
	k := b.methods[method]
	b.mu.RUnlock()
	if k == nil {
		k = b.newOfMethod(method)
	}
	return k
}

func (b *Breaker) newOfMethod(method string) *circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.methods[method]
	if k == nil && len(b.methods) >= maxMethods {
		method = others
		k = b.methods[method]
	}
	if k == nil {
		k = newCircuit(b, method, nil)
		b.methods[method] = k
	}
	return k
}

// minSweep is how many peers there are before closed clients are looked for.
const minSweep = 64

func (b *Breaker) ofPeer(c *arpc.Client) *circuit {
	b.mu.RLock()
	k := b.peers[c]
	b.mu.RUnlock()
	if k == nil {
		k = b.newOfPeer(c)
	}
	return k
}

func (b *Breaker) newOfPeer(c *arpc.Client) *circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.peers[c]
	if k == nil {
		if len(b.peers) >= b.sweepAt {
			b.sweep()
		}
		k = newCircuit(b, "", c)
		b.peers[c] = k
	}
	return k
}

// sweep drops the circuits of clients that are closed for good. Guarded by mu.
func (b *Breaker) sweep() {
	for c, k := range b.peers {
		select {
		case <-c.Done():
			delete(b.peers, c)
			k.drop()
		default:
		}
	}
	b.sweepAt = max(2*len(b.peers), minSweep)
}
