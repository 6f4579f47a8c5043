package coder_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/arpc-go/arpc/middleware/coder/aead"
)

func (c vectorCoder) aeadKey(t *testing.T) aead.Key {
	t.Helper()
	key := aead.Key{ID: c.KeyID, Secret: unhex(t, c.SecretHex)}
	if c.Algorithm == aead.AESGCM.String() {
		key.Algorithm = aead.AESGCM
	}
	require.Equal(t, c.Algorithm, key.Algorithm.String())
	return key
}

// seal encrypts a frame as docs/CODERS.md says, in a session that is given.
func (c vectorCoder) seal(t *testing.T, frame, session []byte, number uint64) []byte {
	t.Helper()
	head := wire.HeaderLen
	if n := wire.ParseHeader(frame).MethodLen; n <= 127 { // else gzip has hidden the header
		head += int(n)
	}
	out := append([]byte(nil), frame[:head]...)
	out[4] |= 1 << 4
	out = binary.LittleEndian.AppendUint32(out, c.KeyID)
	out = append(out, session...)
	out = binary.LittleEndian.AppendUint64(out, number)
	mode := c.cipher(t, session)
	out = mode.Seal(out, out[len(out)-mode.NonceSize():], frame[head:], out[4:])
	binary.LittleEndian.PutUint32(out, uint32(len(out)-arpc.HeadLen))
	return out
}

// cipher returns the cipher of a session.
func (c vectorCoder) cipher(t *testing.T, session []byte) cipher.AEAD {
	t.Helper()
	key, err := hkdf.Key(sha256.New, unhex(t, c.SecretHex), session, "arpc aead 1 "+c.Algorithm, 32)
	require.NoError(t, err)
	if c.Algorithm != aead.AESGCM.String() {
		mode, err := chacha20poly1305.NewX(key)
		require.NoError(t, err)
		return mode
	}
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	mode, err := cipher.NewGCM(block)
	require.NoError(t, err)
	return mode
}
