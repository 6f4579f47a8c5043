package call

import (
	"fmt"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/arpc-go/arpc"
)

// State is that of a circuit of a Breaker.
type State int

const (
	Closed   State = iota // calls are let through
	Open                  // they are refused
	HalfOpen              // a few are let through as probes
)

// String returns the name, such as "half-open".
func (s State) String() string { return [...]string{"closed", "open", "half-open"}[s] }

// Circuit describes a circuit of a Breaker.
type Circuit struct {
	Breaker string       // the name
	Method  string       // of PerMethod, else ""
	Peer    *arpc.Client // of PerPeer, else nil
	State   State        // Open until the first call after WithOpenFor
}

// Change is what WithOnChange is told.
type Change struct {
	Circuit
	From State
}

// OpenError is why a call was refused by a Breaker.
type OpenError struct {
	Breaker string        // the name
	Method  string        // of PerMethod, else ""
	Wait    time.Duration // until the circuit lets probes through; 0: they are under way
}

// Error names the breaker.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("call: the breaker %q is open", e.Breaker)
	if e.Method != "" {
		text += " for " + e.Method
	}
	if e.Wait > 0 {
		return fmt.Sprintf("%s, for %v more", text, e.Wait.Round(time.Millisecond))
	}
	return text + ", and is being probed"
}

// RetryAfter returns Wait: a Retry does not try sooner.
func (e *OpenError) RetryAfter() time.Duration { return e.Wait }

// circuit counts the outcomes of calls. The windows and thresholds are those of
// failsafe-go. Who is admitted is decided here: there a probe that ends neutral
// would never give its place back, and calls of before the circuit opened would
// count as probes.
type circuit struct {
	// Set by newCircuit, never changed.
	breaker *Breaker
	method  string
	peer    *arpc.Client

	// Guarded by mu.
	mu      sync.Mutex
	machine circuitbreaker.CircuitBreaker[any]
	state   State
	since   uint64 // Breaker.changes when the state began
	probes  int    // under way
	untold  []Change
	telling bool // somebody calls onChange
	dropped bool // it is not among those of the Breaker any more
}

func newCircuit(b *Breaker, method string, peer *arpc.Client) *circuit {
	k := &circuit{breaker: b, method: method, peer: peer}
	k.machine = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(b.rate, uint(b.calls), b.window).
		WithSuccessThreshold(uint(b.probes)).
		WithDelay(b.openFor).
		WithJitterFactor(0.1).
		OnStateChanged(k.changed).
		Build()
	return k
}

// permit lets one call through.
type permit struct {
	at    uint64 // Breaker.changes when the call began
	probe bool
}

// admit lets a call through, whose permit is to be settled, or says why not.
func (k *circuit) admit() (permit, error) {
	k.mu.Lock()
	defer k.tell()
	defer k.mu.Unlock()
	var wait time.Duration
	if k.state == Open {
		if wait = k.machine.RemainingDelay(); wait == 0 {
			k.machine.HalfOpen()
		}
	}
	if k.state == Open || k.state == HalfOpen && k.probes == k.breaker.probes {
		open := &OpenError{Breaker: k.breaker.name, Method: k.method, Wait: wait}
		return permit{}, arpc.Unsent(arpc.Errorf(arpc.CodeUnavailable, "%w", open))
	}
	p := permit{at: k.since, probe: k.state == HalfOpen}
	if p.probe {
		k.probes++
	}
	return p, nil
}

// admits reports whether admit would let a call through now.
func (k *circuit) admits() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch k.state {
	case Open:
		return k.machine.RemainingDelay() == 0
	case HalfOpen:
		return k.probes < k.breaker.probes
	}
	return true
}

// settle notes how a call has ended. What began in another state does not count.
func (k *circuit) settle(p permit, outcome Outcome) {
	k.mu.Lock()
	defer k.tell()
	defer k.mu.Unlock()
	switch {
	case p.at < k.since:
		return
	case p.probe:
		k.probes--
	case k.state != Closed:
		return
	}
	switch outcome {
	case Success:
		k.machine.RecordSuccess()
	case Failure:
		k.machine.RecordFailure()
	}
}

// changed is called by the methods of machine, with mu held.
func (k *circuit) changed(e circuitbreaker.StateChangedEvent) {
	from := k.state
	switch e.NewState {
	case circuitbreaker.ClosedState:
		k.state = Closed
		k.count(-1)
	case circuitbreaker.OpenState:
		k.state = Open
		if from == Closed {
			k.count(1)
		}
	case circuitbreaker.HalfOpenState:
		k.state = HalfOpen
	}
	k.since = k.breaker.changes.Add(1)
	k.probes = 0
	if k.breaker.onChange != nil {
		k.untold = append(k.untold, Change{Circuit: k.describe(), From: from})
	}
}

// count changes the number of circuits that are not closed. Guarded by mu.
func (k *circuit) count(n int64) {
	if !k.dropped {
		k.breaker.notClosed.Add(n)
	}
}

// drop is for a circuit whose client is closed.
func (k *circuit) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != Closed {
		k.count(-1)
	}
	k.dropped = true
}

func (k *circuit) get() Circuit {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.describe()
}

// describe is get. Guarded by mu.
func (k *circuit) describe() Circuit {
	return Circuit{Breaker: k.breaker.name, Method: k.method, Peer: k.peer, State: k.state}
}

// tell calls onChange for what has changed. One goroutine at a time does, so that
// the order is kept.
func (k *circuit) tell() {
	if k.breaker.onChange == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.telling {
		return
	}
	k.telling = true
	defer func() { k.telling = false }()
	for len(k.untold) > 0 {
		change := k.untold[0]
		k.untold = k.untold[1:]
		k.tellOne(change)
	}
}

// tellOne gives mu away while it calls onChange.
func (k *circuit) tellOne(change Change) {
	k.mu.Unlock()
	defer k.mu.Lock()
	k.breaker.onChange(change)
}
