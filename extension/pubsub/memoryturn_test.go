package pubsub

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who asks does not do the work of others for ever.
func TestMemoryTurnIsHandedOver(t *testing.T) {
	const rounds = 100 * turnRounds
	var (
		turn   turn
		runs   int
		mine   = make(chan int)
		resume = make(chan struct{})
		handed bool
	)
	turn.work = func() {
		if runs++; runs == turnRounds+2 {
			handed = true
			mine <- runs // only if the one who asked is done with it
			<-resume
		}
		if runs < rounds {
			turn.ask()
		}
	}
	turn.ask()
	require.Equal(t, turnRounds+2, <-mine)
	close(resume)
	turn.close(func() {})
	require.True(t, handed)
}
