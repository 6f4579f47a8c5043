package call_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/middleware/call"
)

// Before there is a measurement nothing is hedged; then what takes more than twice
// as long as nine calls in ten.
func TestHedgeMeasuresTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{}
		const usual = 10 * time.Millisecond
		for n := range 400 {
			if n%20 == 10 {
				s.takes = append(s.takes, time.Second)
			} else {
				s.takes = append(s.takes, usual)
			}
		}
		p := connect(t, s.register, call.Hedge(call.WithIdempotent("/read")))
		for n := range 120 {
			_, err := took(t, p.Client, nil)
			require.NoError(t, err)
			if n == 99 {
				require.Equal(t, 100, s.total(), "too early to tell")
			}
		}
		for s.total() < 380 {
			before := s.total()
			d, err := took(t, p.Client, nil)
			require.NoError(t, err)
			if s.total() > before+1 {
				require.InDelta(t, (3 * usual).Seconds(), d.Seconds(), (3 * time.Millisecond).Seconds())
			} else {
				require.Equal(t, usual, d)
			}
		}
	})
}

// Callers in a hurry do not make calls look fast.
func TestHedgeDoesNotMeasureCallsThatWereEndedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{}
		for range 3000 {
			s.takes = append(s.takes, 10*time.Millisecond)
		}
		p := connect(t, s.register, call.Hedge(call.WithIdempotent("/read")))
		for range 150 {
			took(t, p.Client, nil)
		}
		for range 2000 {
			require.ErrorIs(t, p.Client.Call("/read", nil, nil, time.Millisecond), context.DeadlineExceeded)
		}
		synctest.Wait()
		before := s.total()
		d, err := took(t, p.Client, nil)
		require.NoError(t, err)
		require.Equal(t, 10*time.Millisecond, d)
		require.Equal(t, before+1, s.total())
	})
}

func TestHedgeMeasuresAnyQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &paced{}
		for range 200 {
			s.takes = append(s.takes, 10*time.Millisecond)
		}
		p := connect(t, s.register, call.Hedge(call.WithDelay(time.Hour), call.WithQuantile(0.5, 1), call.WithIdempotent("/read"), call.WithBudget(call.NewBudget(1, 1))))
		for range 150 {
			took(t, p.Client, nil)
		}
		require.Equal(t, 150, s.total(), "all are alike")
		s.takes[150] = time.Second
		d, err := took(t, p.Client, nil)
		require.NoError(t, err)
		require.InDelta(t, 0.021, d.Seconds(), 0.002)
	})
}
