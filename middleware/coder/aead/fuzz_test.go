package aead_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

// FuzzOpen writes data over a message on its way, and compares the verdict with that
// of a naive receiver, who has the key and the description.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(nil), uint16(0), false)
	f.Add([]byte("hello"), uint16(30), true)
	f.Add([]byte{1, 0, 0, 0}, uint16(codertest.Head), false)
	f.Add(make([]byte, 200), uint16(4), true)
	from := map[bool]*aead.AEAD{false: newAEAD(f, []aead.Key{key(1)}), true: newAEAD(f, []aead.Key{gcm(1)})}
	f.Fuzz(func(t *testing.T, data []byte, at uint16, useGCM bool) {
		k := key(1)
		if useGCM {
			k = gcm(1)
		}
		payload := []byte("attack at dawn, with all that we have")
		b := bytes.Clone(sealed(t, from[useGCM], payload))
		begin := 4 + int(at)%(len(b)-4)
		b = append(b[:begin], data...)
		binary.LittleEndian.PutUint32(b, uint32(len(b)-arpc.HeadLen))
		if len(b) < codertest.Head || b[4] != 1<<4 || b[7] != byte(len(codertest.Method)) {
			_, err := open(newAEAD(t, []aead.Key{k}), b)
			require.Error(t, err)
			return
		}
		plain, naiveErr := naive(k, b)
		to := newAEAD(t, []aead.Key{k})
		got, err := open(to, b)
		require.Equal(t, naiveErr == nil, err == nil, "we say %v", err)
		if err == nil {
			require.Equal(t, string(plain), string(got[codertest.Head:]))
			_, err = open(to, b)
			require.ErrorContains(t, err, "received before")
		}
	})
}

// FuzzCoder is the fuzz target of the conformance kit.
func FuzzCoder(f *testing.F) { arpctest.FuzzCoder(f, newCoder(f, key(1)), spec) }
