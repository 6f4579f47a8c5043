package s2_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/s2"
)

// FuzzDecode decodes what a hostile peer may send: no more than the limit comes
// out, and just what the naive decoder makes of it.
func FuzzDecode(f *testing.F) {
	coder := s2.New(s2.WithMaxDecoded(64 << 10))
	for _, payload := range [][]byte{[]byte("hello hello hello"), codertest.Orders(3000), make([]byte, 60<<10), make([]byte, 100<<10), codertest.Noise(100)} {
		for level := range 3 {
			m := s2.New(s2.WithThreshold(0), s2.WithLevel(level+1)).Encode(nil, codertest.Message(codertest.Frame(payload)))
			f.Add(m.Buffer[codertest.Head:])
		}
	}
	f.Add(bomb(300<<10, 300<<10))
	f.Add(bomb(30<<10, 40<<10))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := coder.DecodeChecked(nil, codertest.Message(codertest.Rewritten(5, data)))
		want, ok := naive(data, 64<<10-codertest.Head)
		require.Equal(t, ok, err == nil, "we say %v", err)
		if ok {
			require.True(t, bytes.Equal(want, m.Data()))
		}
	})
}

// FuzzRoundTrip encodes any payload, at any level.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(nil), uint8(0), uint16(0))
	f.Add(codertest.Orders(3000), uint8(1), uint16(1024))
	f.Add(codertest.Noise(3000), uint8(2), uint16(100))
	f.Add(make([]byte, 2000), uint8(0), uint16(0))
	f.Fuzz(func(t *testing.T, payload []byte, level uint8, threshold uint16) {
		coder := s2.New(s2.WithLevel(int(level%3)+1), s2.WithThreshold(int(threshold)))
		frame := codertest.Frame(payload)
		m := coder.Encode(nil, codertest.Message(frame))
		if m.IsFlagBitSet(5) {
			require.Less(t, m.Len(), len(frame))
			require.Greater(t, len(frame), int(threshold))
			plain, ok := naive(m.Data(), len(payload))
			require.True(t, ok)
			require.True(t, bytes.Equal(payload, plain))
		}
		m, err := coder.DecodeChecked(nil, m)
		require.NoError(t, err)
		require.True(t, bytes.Equal(frame, m.Buffer))
	})
}

// FuzzCoder is the fuzz target of the conformance kit.
func FuzzCoder(f *testing.F) {
	arpctest.FuzzCoder(f, func() arpc.MessageCoder { return s2.New(s2.WithThreshold(0)) }, spec())
}
