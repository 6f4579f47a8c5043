package call_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/call"
)

// failing passes calls through a Retry that has nothing but the budget to stop it.
func failing(t *testing.T, b *call.Budget) (try func(), sent *script) {
	retry := call.Retry(call.WithBudget(b), call.WithMaxAttempts(1000), call.WithBackoff(1, 1))
	sent = &script{errs: make([]error, 100_000)}
	for i := range sent.errs {
		sent.errs[i] = unsent(arpc.CodeUnavailable)
	}
	return func() {
		err := retry(t.Context(), &arpc.Call{Client: aClient}, sent.next)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
	}, sent
}

func TestBudgetGivesItsReserveAndThenAShare(t *testing.T) {
	b := call.NewBudget(0.25, 5)
	try, sent := failing(t, b)
	try()
	require.Len(t, sent.calls, 1+5)
	for range 8 {
		try()
	}
	require.Len(t, sent.calls, 9+5+2)
	require.Equal(t, call.BudgetStats{Calls: 9, Extra: 7, Refused: 9}, b.Stats())
}

func TestBudgetKeepsNoMoreThanItsReserve(t *testing.T) {
	b := call.NewBudget(0.7, 3)
	try, sent := failing(t, b)
	try()
	require.Len(t, sent.calls, 1+3)
	for range 1000 {
		require.NoError(t, call.Retry(call.WithBudget(b))(t.Context(), &arpc.Call{Client: aClient}, new(script).next))
	}
	try()
	require.Len(t, sent.calls, 1+3+1+3)
}

// Whatever happens, n calls are followed by no more than reserve+share*n attempts.
func TestBudgetHoldsWhateverHappens(t *testing.T) {
	for range 50 {
		share, reserve := float64(rand.IntN(101))/100, 1+rand.IntN(20)
		b := call.NewBudget(share, reserve)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				retry := call.Retry(call.WithBudget(b), call.WithMaxAttempts(10), call.WithBackoff(1, 1))
				for range 50 {
					failures := &script{errs: make([]error, rand.IntN(10))}
					for i := range failures.errs {
						failures.errs[i] = unsent(arpc.CodeUnavailable)
					}
					retry(t.Context(), &arpc.Call{Client: aClient}, failures.next)
				}
			})
		}
		all.Wait()
		s := b.Stats()
		require.Equal(t, uint64(200), s.Calls)
		require.LessOrEqual(t, float64(s.Extra), float64(reserve)+share*200+1e-6, "share %v, reserve %v", share, reserve)
	}
}

func TestBudgetThatMakesNoSensePanics(t *testing.T) {
	require.Panics(t, func() { call.NewBudget(-0.1, 10) })
	require.Panics(t, func() { call.NewBudget(1.1, 10) })
	require.Panics(t, func() { call.NewBudget(0.1, 0) })
	require.Panics(t, func() { call.WithBudget(nil) })
}
