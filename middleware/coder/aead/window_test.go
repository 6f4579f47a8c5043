package aead

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWindow(t *testing.T) {
	for name, numbers := range map[string][]uint64{
		"in order":     {0, 1, 2, 3},
		"backwards":    {3, 2, 1, 0},
		"from within":  {9, 4, 3, 5, 2, 6, 1, 7, 0, 8},
		"with gaps":    {0, 5, 10, 7, 2, 12},
		"far apart":    {1 << 31, 0, 1<<32 - 1, 1},
		"late arrival": {1, 2, 3, 4, 5, 1000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var w window
			for i, n := range numbers {
				require.True(t, w.accept(n), "number %d", n)
				for _, again := range numbers[:i+1] {
					require.False(t, w.accept(again), "number %d again", again)
				}
			}
		})
	}
}

// One message that is held up is one gap, however many pass it.
func TestWindowHoldsUp(t *testing.T) {
	var w window
	for n := uint64(1); n < 1_000_000; n++ {
		if !w.accept(n) {
			t.Fatal(n)
		}
	}
	require.Len(t, w.gaps, 1)
	require.True(t, w.accept(0))
	require.Empty(t, w.gaps)
}

// What is remembered is bounded; what is given up is refused.
func TestWindowIsBounded(t *testing.T) {
	var w window
	for n := uint64(0); n < 3*maxGaps; n++ {
		w.accept(2*n + 1)
	}
	require.LessOrEqual(t, len(w.gaps), maxGaps)
	require.Greater(t, len(w.gaps), maxGaps/2)
	require.False(t, w.accept(0), "too many passed it")
	require.True(t, w.accept(5*maxGaps+maxGaps%2), "these are remembered")
	require.False(t, w.accept(5*maxGaps+maxGaps%2))

	split := window{next: 1 << 20, gaps: []gap{{0, 1 << 20}}}
	for n := uint64(1); n < 4*maxGaps; n += 2 {
		split.accept(n)
		if len(split.gaps) > maxGaps {
			t.Fatalf("%d gaps", len(split.gaps))
		}
	}
}

// FuzzWindow compares the window with a set of all that came.
func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 2, 0, 0})
	f.Add([]byte{0, 9, 0, 3, 0, 5, 0, 4, 1, 0, 0, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		var w window
		came := make(map[uint64]bool)
		for ; len(data) >= 2; data = data[2:] {
			n := uint64(binary.BigEndian.Uint16(data))
			require.Equal(t, !came[n], w.accept(n), "number %d", n)
			came[n] = true
			for i, g := range w.gaps {
				require.Less(t, g.from, g.to)
				require.True(t, i == 0 || w.gaps[i-1].to < g.from)
				require.LessOrEqual(t, g.to, w.next)
			}
		}
	})
}
