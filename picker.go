package arpc

import (
	"context"
	"math"
	"math/rand/v2"
)

// Picker chooses the member of a ClientPool that gets a call, a notification or
// a stream.
//
// Pick returns one of members, nil for no opinion. It is called by many goroutines
// at the same time, for each call and again when the call is tried on another
// member, with those that are left. There is at least one member; they are
// shared, so Pick must not change the slice. Some may be unhealthy: the pool
// gives their calls to a healthy one in turn, so Pick looks at Member.Healthy
// only to choose who that is. It must not wait. With methods of the pool that
// take a timeout ctx has no values.
type Picker interface {
	Pick(ctx context.Context, method string, members []*Member) *Member
}

// Member is a client of a ClientPool, under its name. Its methods may be called
// from any goroutine at any time.
type Member struct {
	// Set by newMember, never changed.
	name   string
	client *Client
	pool   *ClientPool
	hash   uint64 // of the name
}

func newMember(p *ClientPool, name string, c *Client) *Member {
	return &Member{name: name, client: c, pool: p, hash: hashOf(name)}
}

// Name returns the name, unique in the pool.
func (m *Member) Name() string { return m.name }

// Client returns the client.
func (m *Member) Client() *Client { return m.client }

// Healthy reports whether the client can send: it is connected, and neither it
// nor its peer is going away.
func (m *Member) Healthy() bool { return m.client.connected() }

// Inflight returns how many calls wait for the peer's answer, also those that
// were not made through the pool.
func (m *Member) Inflight() int { return m.client.Inflight() }

// connected reports whether the client can send now.
func (c *Client) connected() bool { return c.usable() != nil }

// RoundRobin picks the healthy members in turn. The turn is the pool's: like the
// other pickers of this package it has no state, and may be used by any number
// of pools.
func RoundRobin() Picker { return roundRobin{} }

type roundRobin struct{}

func (roundRobin) Pick(_ context.Context, _ string, members []*Member) *Member {
	if len(members) == 0 {
		return nil
	}
	return members[inTurn(members)]
}

// inTurn returns the index of the healthy member whose turn it is; when none is
// healthy of just one.
func inTurn(members []*Member) int {
	turn, n := members[0].pool.turn.Add(1), uint64(len(members))
	i := int(turn % n)
	if members[i].Healthy() {
		return i
	}
	if healthy := countHealthy(members); healthy > 0 {
		return nthHealthy(members, int(turn/n%uint64(healthy))) // spreads the share of the one that is lost
	}
	return i
}

func countHealthy(members []*Member) int {
	n := 0
	for _, m := range members {
		if m.Healthy() {
			n++
		}
	}
	return n
}

// nthHealthy returns the index of the healthy member number n, from 0. When there
// are not so many any more it is the last of them, or the first of all.
func nthHealthy(members []*Member, n int) int {
	last := 0
	for i, m := range members {
		if !m.Healthy() {
			continue
		}
		if last = i; n == 0 {
			break
		}
		n--
	}
	return last
}

// LeastInFlight picks the healthy member with the fewest calls in flight, in turn
// among equals. It looks at every member; with more than some ten of them
// PowerOfTwo spreads nearly as well at a constant price.
func LeastInFlight() Picker { return leastInFlight{} }

type leastInFlight struct{}

func (leastInFlight) Pick(_ context.Context, _ string, members []*Member) *Member {
	if len(members) == 0 {
		return nil
	}
	n := len(members)
	start := inTurn(members)
	best, fewest := members[start], math.MaxInt
	for i := 0; i < n && fewest > 0; i++ {
		m := members[(start+i)%n]
		if !m.Healthy() {
			continue
		}
		if calls := m.Inflight(); calls < fewest {
			best, fewest = m, calls
		}
	}
	return best
}

// PowerOfTwo picks the one with fewer calls in flight of two healthy members
// drawn at random ("the power of two choices", Mitzenmacher 1996): the load stays
// even, and callers that decide at the same time do not all run to the same
// member.
func PowerOfTwo() Picker { return powerOfTwo{} }

type powerOfTwo struct{}

func (powerOfTwo) Pick(_ context.Context, _ string, members []*Member) *Member {
	if len(members) == 0 {
		return nil
	}
	i, j := twoOf(len(members))
	a, b := members[i], members[j]
	if a.Healthy() && b.Healthy() {
		return lessBusy(a, b)
	}
	healthy := countHealthy(members)
	if healthy == 0 {
		return a
	}
	i, j = twoOf(healthy)
	return lessBusy(members[nthHealthy(members, i)], members[nthHealthy(members, j)])
}

// twoOf draws two different numbers below n; of 1 it returns 0 twice.
func twoOf(n int) (i, j int) {
	if n == 1 {
		return 0, 0
	}
	i, j = rand.IntN(n), rand.IntN(n-1)
	if j >= i {
		j++
	}
	return i, j
}

func lessBusy(a, b *Member) *Member {
	if b.Inflight() < a.Inflight() {
		return b
	}
	return a
}

// ConsistentHash gives calls with the same key to the same member: while it is
// healthy, and back to it when it is again. When a member comes, goes or is
// unhealthy only its own keys move, spread over all others. That depends on
// nothing but the key and the members' names, so that any number of processes
// agree. The hash is not made to withstand callers that choose their keys to
// meet at one member.
//
// The key function must be safe for concurrent use; it gets the context of the
// call, and of methods with a timeout one without values. ConsistentHash panics
// if it is nil.
func ConsistentHash(key func(ctx context.Context, method string) string) Picker {
	if key == nil {
		panic("arpc: ConsistentHash: the key function is nil")
	}
	return &consistentHash{key}
}

// consistentHash is rendezvous hashing (Thaler and Ravishankar, 1998): each
// member scores the key and the highest wins. Unlike a ring it has no table to
// keep per pool, takes any part of the members, and moves exactly the keys of
// the one that went; it costs a few nanoseconds for each member.
type consistentHash struct {
	key func(ctx context.Context, method string) string
}

func (h *consistentHash) Pick(ctx context.Context, method string, members []*Member) *Member {
	key := hashOf(h.key(ctx, method))
	if m := highest(key, members, (*Member).Healthy); m != nil {
		return m
	}
	return highest(key, members, func(*Member) bool { return true })
}

// highest returns the member that scores highest for the key, of those that
// count; nil if none does.
func highest(key uint64, members []*Member, counts func(*Member) bool) *Member {
	var best *Member
	var top uint64
	for _, m := range members {
		if score := mix(key ^ m.hash); (best == nil || score > top) && counts(m) {
			best, top = m, score
		}
	}
	return best
}

// hashOf is FNV-1a: the same in every process, as hash/maphash is not, and
// without the allocation of hash/fnv. Its upper bits are poor for short texts,
// hence mix.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64: each bit of x changes half of the result.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
