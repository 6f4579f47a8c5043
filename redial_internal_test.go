package arpc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackOffOfAnyLength(t *testing.T) {
	for _, base := range []time.Duration{1, time.Second, 2_000_000 * time.Hour, TimeForever} {
		for _, limit := range []time.Duration{base, TimeForever} {
			last := time.Duration(0)
			for attempt := 1; attempt < 100; attempt++ {
				ceiling := backOffCeiling(attempt, &settings{reconnectBase: base, reconnectMax: limit})
				require.GreaterOrEqual(t, ceiling, last)
				require.LessOrEqual(t, ceiling, limit)
				require.Positive(t, ceiling)
				last = ceiling
			}
			require.Equal(t, limit, last)
		}
	}
}
