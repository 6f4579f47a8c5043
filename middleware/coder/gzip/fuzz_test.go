package gzip_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

// FuzzDecode decodes what a hostile peer may send: no panic, no memory beyond
// the limit, and the same verdict as the standard library.
func FuzzDecode(f *testing.F) {
	for _, frame := range captured(f) {
		f.Add(frame)
	}
	f.Add(frameOf([]byte("plain")))
	f.Add(fixed(frameOf([]byte("marked"))))
	f.Add(seal(f, frameOf(orders(2000))))
	f.Add(seal(f, frameOf(noise(500))))
	f.Add(seal(f, frameOf(make([]byte, 100<<10)))) // over the limit
	f.Add(fixed(append(seal(f, frameOf(nil)), "more"...)))

	const limit = 64 << 10
	coder := gzip.New(gzip.WithMaxDecoded(limit))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := coder.DecodeChecked(nil, messageOf(frame))
		require.Equal(t, err != nil, coder.Decode(nil, messageOf(frame)) == nil)
		if len(frame) < arpc.HeadLen || frame[4]&marked == 0 {
			require.NoError(t, err)
			require.True(t, bytes.Equal(frame, m.Buffer))
			return
		}
		if arpc.CodeOf(err) == arpc.CodeResourceExhausted {
			require.True(t, m == nil || m.Len() == arpc.HeadLen+m.MethodLen())
			require.True(t, m == nil || m.BodyLen()+arpc.HeadLen > limit)
			return
		}
		require.Equal(t, err != nil, m == nil)
		if len(frame) > 8 && frame[8]>>5 != 0 {
			require.Error(t, err, "RFC 1952 reserves these flags, the standard library ignores them")
			return
		}
		want, stdErr := unseal(frame, limit)
		require.Equal(t, stdErr == nil, err == nil, "the standard library says %v, we say %v", stdErr, err)
		if err == nil {
			require.Equal(t, want, m.Buffer)
			require.LessOrEqual(t, m.Len(), limit)
		}
	})
}

// FuzzRoundTrip encodes any payload and gets it back.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(nil), uint8(1), uint16(0))
	f.Add(orders(3000), uint8(5), uint16(1024))
	f.Add(noise(3000), uint8(9), uint16(100))
	f.Add(make([]byte, 2000), uint8(1), uint16(0))
	f.Fuzz(func(t *testing.T, payload []byte, level uint8, threshold uint16) {
		coder := gzip.New(gzip.WithLevel(int(level%9)+1), gzip.WithThreshold(int(threshold)))
		frame := frameOf(payload)
		m := coder.Encode(nil, messageOf(frame))
		require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())
		if m.IsFlagBitSet(7) {
			require.Less(t, m.Len(), len(frame))
			require.Greater(t, len(frame), int(threshold))
			plain, err := unseal(m.Buffer, len(frame)+1)
			require.NoError(t, err)
			require.True(t, bytes.Equal(frame, plain))
		}
		m, err := coder.DecodeChecked(nil, m)
		require.NoError(t, err)
		require.True(t, bytes.Equal(frame, m.Buffer))
	})
}
