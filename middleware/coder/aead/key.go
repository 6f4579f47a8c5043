package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/crypto/chacha20poly1305"
)

// Algorithm is how messages are encrypted.
type Algorithm int

// The algorithms. AES-GCM is faster where the processor helps, which most servers
// do and small devices do not.
const (
	XChaCha20Poly1305 Algorithm = iota
	AESGCM                      // with 256 bits
)

// String returns the name, such as "xchacha20-poly1305".
func (a Algorithm) String() string {
	switch a {
	case XChaCha20Poly1305:
		return "xchacha20-poly1305"
	case AESGCM:
		return "aes-256-gcm"
	}
	return fmt.Sprintf("Algorithm(%d)", int(a))
}

// SecretLen is the length in bytes of the secret of a key.
const SecretLen = 32

// Key is what all who are to read and write have in common.
type Key struct {
	// ID tells the keys in use apart. It is not secret: it travels with each
	// message.
	ID uint32
	// Secret is 32 bytes from a source such as crypto/rand; not a password. The
	// same secret must not have two ids.
	Secret []byte
	// Algorithm is XChaCha20Poly1305 unless it is set. All must use the same for
	// one key.
	Algorithm Algorithm
}

// String returns the key's id and algorithm, never its secret.
func (k Key) String() string { return fmt.Sprintf("key %d (%v)", k.ID, k.Algorithm) }

// Format prints String, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue logs String.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// key is a Key of which nobody else has the secret. Two that are equal are the same.
type key struct {
	id        uint32
	secret    [SecretLen]byte
	algorithm Algorithm
}

// keyring is the keys in use. Never changed.
type keyring struct {
	first *key
	byID  map[uint32]*key
}

func newKeyring(keys []Key) (*keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("aead: there must be a key")
	}
	ring := &keyring{byID: make(map[uint32]*key)}
	for _, k := range keys {
		switch {
		case len(k.Secret) != SecretLen:
			return nil, fmt.Errorf("aead: the secret of %v has %d bytes, it must have %d", k, len(k.Secret), SecretLen)
		case k.Algorithm != XChaCha20Poly1305 && k.Algorithm != AESGCM:
			return nil, fmt.Errorf("aead: %v: there is no such algorithm", k)
		case ring.byID[k.ID] != nil:
			return nil, fmt.Errorf("aead: there are two keys with the id %d", k.ID)
		}
		ring.byID[k.ID] = &key{k.ID, [SecretLen]byte(k.Secret), k.Algorithm}
	}
	ring.first = ring.byID[keys[0].ID]
	return ring, nil
}

// cipher returns the cipher of a session: each has a key of its own, so that a
// counter is enough as nonce.
func (k *key) cipher(id sessionID) cipher.AEAD {
	derived, err := hkdf.Key(sha256.New, k.secret[:], id[:], "arpc aead 1 "+k.algorithm.String(), SecretLen)
	if err != nil {
		panic(err) // of a key that is too long, which SecretLen is not
	}
	if k.algorithm == AESGCM {
		return must(cipher.NewGCM(must(aes.NewCipher(derived))))
	}
	return must(chacha20poly1305.NewX(derived))
}

// must is for errors of lengths, which are right.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
