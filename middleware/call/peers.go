package call

import (
	"context"
	"slices"
	"sync"

	"github.com/arpc-go/arpc"
)

// Picker returns a Picker that passes over the members of a pool whose circuits are
// open, and leaves the choice among the others to inner; nil is arpc.RoundRobin. It
// is for a Breaker of PerPeer that the pool's handler uses: which member a call goes
// to is decided behind the interceptors. When all circuits are open it chooses as if
// none were.
//
// A call counts for the member that it was tried on last.
func (b *Breaker) Picker(inner arpc.Picker) arpc.Picker {
	mustHave("Breaker.Picker: WithScope(PerPeer)", b.scope == PerPeer)
	if inner == nil {
		inner = arpc.RoundRobin()
	}
	return &picker{b, inner}
}

type picker struct {
	breaker *Breaker
	inner   arpc.Picker
}

// Pick implements arpc.Picker.
func (p *picker) Pick(ctx context.Context, method string, members []*arpc.Member) *arpc.Member {
	if p.breaker.notClosed.Load() == 0 {
		return p.inner.Pick(ctx, method, members)
	}
	left := slices.DeleteFunc(slices.Clone(members), func(m *arpc.Member) bool {
		return !p.breaker.ofPeer(m.Client()).admits()
	})
	for len(left) > 0 {
		m := p.inner.Pick(ctx, method, left)
		i := slices.Index(left, m)
		if i < 0 { // it leaves it to the pool, which knows no circuits
			i = 0
		}
		if p.breaker.reserve(ctx, left[i].Client()) {
			return left[i]
		}
		left = slices.Delete(left, i, i+1)
	}
	return p.inner.Pick(ctx, method, members)
}

// pooled are the permits of a call of a pool, which may be tried on several members.
type pooled struct {
	at uint64 // Breaker.changes when the call began

	// Guarded by mu.
	mu      sync.Mutex
	permits map[*circuit]permit
}

type pooledKey struct{ breaker *Breaker }

// reserve lets a call go to a peer. A call that does not come through the
// interceptor needs no permit.
func (b *Breaker) reserve(ctx context.Context, peer *arpc.Client) bool {
	k := b.ofPeer(peer)
	c, ok := ctx.Value(pooledKey{b}).(*pooled)
	if !ok {
		return k.admits()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.permits[k]; ok {
		return true
	}
	p, err := k.admit()
	if err == nil {
		c.permits[k] = p
	}
	return err == nil
}

// interceptPooled is Intercept for a call whose peer is yet to be chosen.
func (b *Breaker) interceptPooled(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
	c := &pooled{at: b.changes.Load(), permits: make(map[*circuit]permit)}
	outcome := Neutral // of a panic
	defer func() { b.settle(c, call.Client, outcome) }()
	err := next(context.WithValue(ctx, pooledKey{b}, c), call)
	outcome = b.classify(err)
	return err
}

// settle notes how a call has ended on the peer that it went to last, and gives
// back what was reserved on others.
func (b *Breaker) settle(c *pooled, peer *arpc.Client, outcome Outcome) {
	for k, p := range c.permits {
		if k.peer != peer {
			k.settle(p, Neutral)
		}
	}
	if peer == nil {
		return
	}
	k := b.ofPeer(peer)
	p, reserved := c.permits[k]
	if !reserved {
		p = permit{at: c.at}
	}
	k.settle(p, outcome)
}
