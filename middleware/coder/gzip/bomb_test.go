package gzip_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

const mib = 1 << 20

// bomb returns a frame of about 1 MiB that decodes to 1 GiB of zeros, with a
// trailer that claims another length.
func bomb(tb testing.TB, claims uint32) []byte {
	tb.Helper()
	var block bytes.Buffer
	zw, err := flate.NewWriter(&block, flate.BestCompression)
	require.NoError(tb, err)
	_, err = zw.Write(make([]byte, mib))
	require.NoError(tb, err)
	require.NoError(tb, zw.Flush())

	frame := append(make([]byte, 5), 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255)
	frame = append(frame, bytes.Repeat(block.Bytes(), 1024)...)
	frame = append(frame, 1, 0, 0, 0xff, 0xff) // the last block, which is empty
	frame = append(frame, 0, 0, 0, 0)          // the checksum
	frame = binary.LittleEndian.AppendUint32(frame, claims)
	require.Less(tb, len(frame), mib+mib/8)
	return fixed(frame)
}

func TestBomb(t *testing.T) {
	const limit = 8 * mib
	for name, c := range map[string]struct {
		claims uint32
		says   string
		most   uint64 // bytes allocated
	}{
		"says what it is":       {1 << 30, "over the limit", mib},
		"says more than it can": {1<<32 - 1, "cannot hold", mib},
		"says less":             {1000, "more bytes than its trailer says", mib},
		"says it fits":          {limit - 5, "more bytes than its trailer says", limit + mib},
	} {
		t.Run(name, func(t *testing.T) {
			coder := gzip.New(gzip.WithMaxDecoded(limit))
			m := &arpc.Message{Buffer: bomb(t, c.claims)}
			var err error
			n := allocated(func() { _, err = coder.DecodeChecked(nil, m) })
			require.ErrorContains(t, err, c.says)
			require.LessOrEqual(t, n, c.most)
		})
	}
}

// A server that a bomb is sent to allocates no more for it than it received.
func TestBombOnTheWire(t *testing.T) {
	_, addr := serve(t, withCoder())
	frame := bomb(t, 1<<30)
	nc := raw(t, addr)
	n := allocated(func() {
		_, err := nc.Write(frame)
		require.NoError(t, err)
		_, err = nc.Read(make([]byte, 1)) // the answer, or the end
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	})
	require.LessOrEqual(t, n, uint64(16*mib))
}
