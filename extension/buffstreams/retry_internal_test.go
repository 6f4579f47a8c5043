package buffstreams

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPausesAreWithinTheirBounds(t *testing.T) {
	for _, r := range []Retry{
		{Base: 1, Max: 1},
		{Base: time.Millisecond, Max: time.Second},
		{Base: time.Second, Max: time.Millisecond},
		{Base: 3 * time.Hour, Max: math.MaxInt64},
		{Base: math.MaxInt64, Max: math.MaxInt64},
	} {
		for _, failed := range []int{0, 1, 2, 3, 10, 62, 63, 64, 1000, math.MaxInt} {
			for range 20 {
				pause := r.random(failed)
				require.GreaterOrEqual(t, pause, time.Duration(0))
				require.Less(t, pause, max(r.Max, 2))
				if failed <= 1 {
					require.LessOrEqual(t, pause, r.Base)
				}
			}
		}
	}
}
