package call

import (
	"fmt"
	"sync/atomic"
)

// Budget bounds how many attempts a Retry or a Hedge adds to the calls that are
// made, so that a peer in trouble does not get several times its usual load on
// top. It is safe for concurrent use.
//
// Each call adds a share of one attempt, up to a reserve, and each further attempt
// takes one. So of n calls, whatever happens, never more than reserve+share*n
// attempts follow. One Budget may be shared by the Retrys of several handlers, or
// by their Hedges; a call that passes a Retry and a Hedge would count twice.
type Budget struct {
	// Set by NewBudget, never changed.
	share, reserve int64 // in millionths of an attempt

	left    atomic.Int64 // in millionths of an attempt
	calls   atomic.Uint64
	extra   atomic.Uint64
	refused atomic.Uint64
}

// one attempt, in the unit of Budget.
const one = 1_000_000

// NewBudget returns a budget of a share of the calls, such as 0.1 for a tenth, and
// a reserve, which is there from the start and is filled up by the share. It
// panics unless the share is from 0 to 1 and the reserve from 1 to a million.
func NewBudget(share float64, reserve int) *Budget {
	if !(share >= 0 && share <= 1) || reserve < 1 || reserve > 1_000_000 {
		panic(fmt.Sprintf("call: NewBudget(%v, %d): a share is from 0 to 1, a reserve from 1 to a million", share, reserve))
	}
	b := &Budget{share: int64(share * one), reserve: int64(reserve) * one}
	b.left.Store(b.reserve)
	return b
}

// BudgetStats are counts since the Budget was made.
type BudgetStats struct {
	Calls   uint64 // calls that could have been retried or hedged
	Extra   uint64 // attempts that followed
	Refused uint64 // attempts that the budget did not allow
}

// Stats returns the counts. They are not of one moment when calls are made
// meanwhile.
func (b *Budget) Stats() BudgetStats {
	return BudgetStats{Calls: b.calls.Load(), Extra: b.extra.Load(), Refused: b.refused.Load()}
}

// add notes a call.
func (b *Budget) add() {
	b.calls.Add(1)
	for {
		left := b.left.Load()
		if left == b.reserve || b.left.CompareAndSwap(left, min(left+b.share, b.reserve)) {
			return
		}
	}
}

// take reports whether there may be one more attempt.
func (b *Budget) take() bool {
	for {
		left := b.left.Load()
		if left < one {
			b.refused.Add(1)
			return false
		}
		if b.left.CompareAndSwap(left, left-one) {
			b.extra.Add(1)
			return true
		}
	}
}
