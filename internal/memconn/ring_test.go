package memconn

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRingAllocatesAsNeeded(t *testing.T) {
	var r ring
	require.Nil(t, r.buf)

	r.write(make([]byte, 10), 64<<10)
	require.Len(t, r.buf, firstRing)
	r.write(make([]byte, firstRing), 64<<10)
	require.Len(t, r.buf, 2*firstRing)
	r.write(make([]byte, 40<<10), 50<<10)
	require.Len(t, r.buf, 10+firstRing+40<<10)
	r.write(make([]byte, 1<<10), 50<<10)
	require.Len(t, r.buf, 50<<10)

	var small ring
	small.write([]byte("abc"), 5)
	require.Len(t, small.buf, 5)
}

func TestRingAgainstModel(t *testing.T) {
	for name, limit := range map[string]int{"1": 1, "7": 7, "first": firstRing, "growing": 5*firstRing + 3} {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(limit)))
			var r ring
			var model []byte
			var next byte
			for range 500 {
				in := make([]byte, rnd.IntN(limit-r.n+1))
				for i := range in {
					in[i] = next
					next++
				}
				r.write(in, limit)
				model = append(model, in...)
				if r.n > 0 {
					i := rnd.IntN(r.n)
					require.Equal(t, model[i], *r.at(i))
				}

				out := make([]byte, rnd.IntN(r.n+1))
				r.read(out)
				require.True(t, bytes.Equal(model[:len(out)], out))
				model = model[len(out):]
				require.Equal(t, len(model), r.n)
				require.LessOrEqual(t, len(r.buf), limit)
			}
		})
	}
}
