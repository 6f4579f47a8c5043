package arpc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLentFramesKeepTheirPlace(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var o output
		var want []byte
		for i := range rnd.IntN(300) {
			frame := fmt.Appendf(nil, "<%d %0*d>", i, rnd.IntN(200), i)
			want = append(want, frame...)
			lent := rnd.IntN(2) == 0
			b := o.buffer(lent)
			b.frames++
			o.frames++
			if lent {
				b.lend(frame)
			} else {
				b.b = append(b.b, frame...)
			}
			require.Equal(t, len(want), o.queued())
		}
		if len(want) == 0 {
			require.True(t, o.empty())
			continue
		}
		got := o.take()
		require.Equal(t, string(want), string(got.b))
		require.Equal(t, len(want), o.writing)
		require.Zero(t, o.frames)
		require.True(t, o.empty())
		require.Zero(t, got.lentBytes)
		putOutput(got)
	}
}

func TestPooledBuffersHoldNoFrames(t *testing.T) {
	b := &buffer{}
	b.lend([]byte("a frame"))
	b.reset()
	require.Zero(t, b.len())
	require.Nil(t, b.lent[:1][0].frame, "it would keep the message")
}
