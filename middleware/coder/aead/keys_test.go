package aead_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

// Keys change while messages are under way, and none is lost.
func TestKeysChange(t *testing.T) {
	a, b := ends(t, key(1))
	exchange := func() (frames [][]byte) {
		t.Helper()
		for _, end := range []struct{ from, to *aead.AEAD }{{a, b}, {b, a}} {
			frame := sealed(t, end.from, []byte("hello"))
			underWay := sealed(t, end.from, []byte("under way"))
			_, err := open(end.to, frame)
			require.NoError(t, err)
			frames = append(frames, underWay)
		}
		return frames
	}
	id := func(frame []byte) uint32 { return binary.LittleEndian.Uint32(frame[codertest.Head:]) }

	old := exchange()
	require.NoError(t, a.SetKeys(key(1), gcm(2)))
	exchange()
	require.NoError(t, b.SetKeys(gcm(2), key(1)))
	mixed := exchange()
	require.EqualValues(t, 1, id(mixed[0]))
	require.EqualValues(t, 2, id(mixed[1]))
	require.NoError(t, a.SetKeys(gcm(2), key(1)))
	require.EqualValues(t, 2, id(exchange()[0]))
	_, err := open(b, old[0])
	require.NoError(t, err, "it was under way since the old days")

	require.NoError(t, b.SetKeys(gcm(2)))
	require.NoError(t, a.SetKeys(gcm(2)))
	exchange()
	_, err = open(a, old[1])
	require.ErrorContains(t, err, "no key with the id 1")

	require.NoError(t, a.SetKeys(gcm(2), aead.Key{ID: 1, Secret: make([]byte, 32)}))
	_, err = open(a, old[1])
	require.ErrorContains(t, err, "not authentic", "another key has the id now")
	require.Error(t, a.SetKeys(), "keys that make no sense change nothing")
	exchange()
}

// A session belongs to the key it began with.
func TestOtherKeyForASession(t *testing.T) {
	from, to := ends(t, key(1), key(2))
	frame := sealed(t, from, []byte("hello"))
	_, err := open(to, frame)
	require.NoError(t, err)
	frame = sealed(t, from, []byte("hello"))
	frame[codertest.Head] = 2
	_, err = open(to, frame)
	require.ErrorContains(t, err, "not authentic")
}

// Secrets are in no error, in no text of a key, and in no log.
func TestSecretsStaySecret(t *testing.T) {
	secret := strings.Repeat("secret", 4) + "secret!!"
	k := aead.Key{ID: 7, Secret: []byte(secret)}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&out, verb, k)
		fmt.Fprintf(&out, verb, []aead.Key{k})
		fmt.Fprintf(&out, verb, newAEAD(t, []aead.Key{k}))
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "key", k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("JSON", "key", k)
	_, err := aead.New([]aead.Key{k, k})
	fmt.Fprint(&out, err)
	require.Contains(t, out.String(), "key 7 (xchacha20-poly1305)")
	for _, form := range []string{"secret", fmt.Sprintf("%x", "secret"), "115 101 99"} {
		require.NotContains(t, out.String(), form)
	}
}

// The secret is copied.
func TestSecretIsCopied(t *testing.T) {
	k := key(1)
	from := newAEAD(t, []aead.Key{k})
	clear(k.Secret)
	_, to := ends(t)
	_, err := open(to, sealed(t, from, nil))
	require.NoError(t, err)
}
