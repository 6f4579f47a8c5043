package arpc

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSignal(t *testing.T) {
	var waited, unwaited signal
	ch := waited.wait()
	require.False(t, waited.given())
	require.False(t, unwaited.given())
	select {
	case <-ch:
		require.Fail(t, "it was not given")
	default:
	}
	waited.give()
	unwaited.give()
	<-ch
	<-unwaited.wait()
	require.Equal(t, ch, waited.wait())
	require.True(t, waited.given())
	require.True(t, unwaited.given())
}

// Whoever comes first, all who wait are let go, and have the same channel.
func TestSignalGivenWhileOthersBeginToWait(t *testing.T) {
	for range 1000 {
		var s signal
		var all sync.WaitGroup
		var chans [4]<-chan struct{}
		for i := range chans {
			all.Go(func() {
				chans[i] = s.wait()
				<-chans[i]
			})
		}
		all.Go(s.give)
		all.Wait()
		for _, ch := range chans {
			require.Equal(t, chans[0], ch)
		}
	}
}
