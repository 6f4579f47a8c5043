package zstd_test

import (
	"bytes"
	"testing"

	reference "github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// FuzzDecode decodes what a hostile peer may send: no more than the limit comes
// out, and where we decode, the stream decoder has the same bytes.
func FuzzDecode(f *testing.F) {
	coder := zstd.New(zstd.WithThreshold(0), zstd.WithMaxDecoded(64<<10))
	for _, payload := range [][]byte{[]byte("hello hello hello"), codertest.Orders(3000), make([]byte, 60<<10), make([]byte, 100<<10), codertest.Noise(100)} {
		m := zstd.New(zstd.WithThreshold(0)).Encode(nil, codertest.Message(codertest.Frame(payload)))
		f.Add(m.Buffer[codertest.Head:])
	}
	f.Add(bomb(300<<10, 300<<10))
	f.Add(bomb(30<<10, 40<<10))
	f.Add(bomb(0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 64<<10 - int64(codertest.Head)
		m, err := coder.DecodeChecked(nil, codertest.Message(codertest.Rewritten(6, data)))
		want, naiveErr := naive(data, limit+1)
		if err != nil {
			require.NotNil(t, m)
			return
		}
		require.NoError(t, naiveErr)
		require.True(t, bytes.Equal(want, m.Data()))
		require.LessOrEqual(t, int64(len(want)), limit)
	})
}

// FuzzRoundTrip encodes any payload, with any options.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(nil), uint8(1), uint16(0), []byte(nil))
	f.Add(codertest.Orders(3000), uint8(3), uint16(1024), []byte("customer"))
	f.Add(codertest.Noise(3000), uint8(7), uint16(100), codertest.Orders(500))
	f.Add(make([]byte, 2000), uint8(11), uint16(0), []byte{0})
	f.Fuzz(func(t *testing.T, payload []byte, level uint8, threshold uint16, dictionary []byte) {
		opts := []zstd.Option{zstd.WithLevel(int(level%22) + 1), zstd.WithThreshold(int(threshold))}
		var reading []reference.DOption
		if len(dictionary) > 0 && !bytes.HasPrefix(dictionary, trained()[:4]) {
			opts = append(opts, zstd.WithDictionary(dictionary))
		}
		coder := zstd.New(opts...)
		frame := codertest.Frame(payload)
		m := coder.Encode(nil, codertest.Message(frame))
		if m.IsFlagBitSet(6) {
			require.Less(t, m.Len(), len(frame))
			require.Greater(t, len(frame), int(threshold))
			var header reference.Header
			require.NoError(t, header.Decode(m.Data()))
			if header.DictionaryID != 0 {
				reading = append(reading, reference.WithDecoderDictRaw(header.DictionaryID, dictionary))
			}
			require.True(t, bytes.Equal(payload, unpack(t, m.Buffer, reading...)))
		}
		m, err := coder.DecodeChecked(nil, m)
		require.NoError(t, err)
		require.True(t, bytes.Equal(frame, m.Buffer))
	})
}

// FuzzCoder is the fuzz target of the conformance kit.
func FuzzCoder(f *testing.F) {
	arpctest.FuzzCoder(f, func() arpc.MessageCoder { return zstd.New(zstd.WithThreshold(0)) }, spec())
}
