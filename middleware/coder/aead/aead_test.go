package aead_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

// key returns a key with a secret that depends on its id.
func key(id uint32) aead.Key {
	return aead.Key{ID: id, Secret: bytes.Repeat([]byte{byte(id), 0x5a}, aead.SecretLen/2)}
}

func gcm(id uint32) aead.Key {
	k := key(id)
	k.Algorithm = aead.AESGCM
	return k
}

func newAEAD(tb testing.TB, keys []aead.Key, opts ...aead.Option) *aead.AEAD {
	tb.Helper()
	a, err := aead.New(keys, opts...)
	require.NoError(tb, err)
	return a
}

// ends returns the two of a connection.
func ends(tb testing.TB, keys ...aead.Key) (from, to *aead.AEAD) {
	if len(keys) == 0 {
		keys = []aead.Key{key(1)}
	}
	return newAEAD(tb, keys), newAEAD(tb, keys)
}

// sealed returns a frame as it travels.
func sealed(tb testing.TB, a *aead.AEAD, payload []byte) []byte {
	tb.Helper()
	m, err := a.EncodeChecked(nil, codertest.Message(codertest.Frame(payload)))
	require.NoError(tb, err)
	return m.Buffer
}

func open(a *aead.AEAD, frame []byte) ([]byte, error) {
	m, err := a.DecodeChecked(nil, codertest.Message(frame))
	if err != nil {
		return nil, err
	}
	return m.Buffer, nil
}

func TestEncodeDecode(t *testing.T) {
	for name, k := range map[string]aead.Key{"xchacha20-poly1305": key(1), "aes-256-gcm": gcm(70000)} {
		t.Run(name, func(t *testing.T) {
			from, to := ends(t, k)
			for _, payload := range [][]byte{nil, []byte("attack at dawn"), codertest.Orders(100 << 10)} {
				frame := codertest.Frame(payload)
				m, err := from.EncodeChecked(nil, codertest.Message(frame))
				require.NoError(t, err)
				require.Len(t, m.Buffer, len(frame)+aead.Overhead)
				require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())
				require.True(t, m.IsFlagBitSet(4))
				require.Equal(t, frame[5:codertest.Head], m.Buffer[5:codertest.Head], "header and method are readable")
				require.True(t, len(payload) == 0 || !bytes.Contains(m.Buffer, payload[:min(len(payload), 8)]))

				plain, err := naive(k, m.Buffer)
				require.NoError(t, err)
				require.True(t, bytes.Equal(payload, plain))
				got, err := open(to, m.Buffer)
				require.NoError(t, err)
				require.True(t, bytes.Equal(frame, got))
			}
		})
	}
}

// naive decrypts a frame of codertest as its description says.
func naive(k aead.Key, frame []byte) ([]byte, error) {
	const prefix = 4 + 16 + 8
	if len(frame) < codertest.Head+prefix {
		return nil, errors.New("too short")
	}
	before, ciphertext := frame[:codertest.Head+prefix], frame[codertest.Head+prefix:]
	if id := binary.LittleEndian.Uint32(before[codertest.Head:]); id != k.ID {
		return nil, fmt.Errorf("key %d", id)
	}
	session := before[codertest.Head+4:][:16]
	derived, err := hkdf.Key(sha256.New, k.Secret, session, "arpc aead 1 "+k.Algorithm.String(), 32)
	if err != nil {
		return nil, err
	}
	if k.Algorithm == aead.AESGCM {
		block, err := aes.NewCipher(derived)
		if err != nil {
			return nil, err
		}
		mode, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		return mode.Open(nil, before[len(before)-12:], ciphertext, before[4:])
	}
	mode, err := chacha20poly1305.NewX(derived)
	if err != nil {
		return nil, err
	}
	return mode.Open(nil, before[len(before)-24:], ciphertext, before[4:])
}

// The same payload never looks the same.
func TestNothingRepeats(t *testing.T) {
	from, _ := ends(t)
	one, other := sealed(t, from, []byte("hello")), sealed(t, from, []byte("hello"))
	end := func(b []byte) string { return string(b[len(b)-len("hello")-16:]) }
	require.NotEqual(t, end(one), end(other))
	again, _ := ends(t)
	require.NotEqual(t, end(one), end(sealed(t, again, []byte("hello"))), "another program with the same key")
}

func TestRefuses(t *testing.T) {
	from, to := ends(t)
	good := sealed(t, from, []byte("attack at dawn"))
	changed := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	short := bytes.Clone(good[:codertest.Head+aead.Overhead-1])
	binary.LittleEndian.PutUint32(short, uint32(len(short)-arpc.HeadLen))
	for name, c := range map[string]struct {
		frame []byte
		says  string
	}{
		"plain":               {codertest.Frame([]byte("attack at dawn")), "not encrypted"},
		"no header":           {good[:10], "not encrypted"},
		"nothing behind":      {good[:codertest.Head], "too short"},
		"no tag":              {short, "too short"},
		"within the method":   {good[:20], "too short"},
		"marked, not sealed":  {codertest.Rewritten(4, make([]byte, 100)), "no key with the id 0"},
		"for another call":    {changed(8, good[8]+1), "not authentic"},
		"as a notification":   {changed(5, arpc.CmdNotify), "not authentic"},
		"as an error":         {changed(6, 1), "not authentic"},
		"with metadata":       {changed(6, 4), "not authentic"},
		"with another mark":   {changed(4, good[4]|2), "not authentic"},
		"another method":      {changed(17, 'M'), "not authentic"},
		"of another key":      {changed(codertest.Head, 2), "no key with the id 2"},
		"of another session":  {changed(codertest.Head+10, good[codertest.Head+10]^1), "not authentic"},
		"with another number": {changed(codertest.Head+20, good[codertest.Head+20]+1), "not authentic"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := to.DecodeChecked(nil, codertest.Message(c.frame))
			require.ErrorContains(t, err, c.says)
			require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(err))
			require.Equal(t, c.frame[:min(codertest.Head, len(c.frame))], m.Buffer[:min(codertest.Head, len(c.frame))], "for whoever is to be told")
			require.Nil(t, to.Decode(nil, codertest.Message(c.frame)))
		})
	}
	_, err := open(to, good)
	require.NoError(t, err, "nothing of it sticks")
}

// No cut and no flipped bit passes, wherever it is.
func TestRefusesEveryChange(t *testing.T) {
	for name, k := range map[string]aead.Key{"xchacha20-poly1305": key(1), "aes-256-gcm": gcm(1)} {
		t.Run(name, func(t *testing.T) {
			from, to := ends(t, k)
			good := sealed(t, from, []byte("attack at dawn"))
			for n := range good {
				b := bytes.Clone(good[:n])
				if n >= arpc.HeadLen {
					binary.LittleEndian.PutUint32(b, uint32(n-arpc.HeadLen))
				}
				_, err := open(to, b)
				require.Error(t, err, "cut at %d", n)
			}
			for bit := range 8 * (len(good) - 4) { // the length itself is the connection's
				b := bytes.Clone(good)
				b[4+bit/8] ^= 1 << (bit % 8)
				_, err := open(to, b)
				require.Error(t, err, "bit %d of byte %d", bit%8, 4+bit/8)
			}
			_, err := open(to, good)
			require.NoError(t, err)
		})
	}
}

func TestRefusesReplays(t *testing.T) {
	from, to := ends(t)
	client := codertest.Client(1000)
	var frames [][]byte
	for n := range 20 {
		frames = append(frames, sealed(t, from, fmt.Append(nil, n)))
	}
	for _, n := range []int{0, 5, 19, 3, 4, 18} { // in any order
		_, err := open(to, frames[n])
		require.NoError(t, err)
	}
	for _, n := range []int{0, 5, 19, 3, 4, 18} {
		_, err := open(to, frames[n])
		require.ErrorContains(t, err, "received before")
		_, err = to.DecodeChecked(client, codertest.Message(frames[n]))
		require.ErrorContains(t, err, "received before", "over another connection")
	}
	_, err := open(to, frames[1])
	require.NoError(t, err, "one that was held up")
}

// What this side has sent it does not receive, from whomever.
func TestRefusesItsOwn(t *testing.T) {
	a, _ := ends(t)
	frame := sealed(t, a, []byte("hello"))
	for _, c := range []*arpc.Client{nil, codertest.Client(1000)} {
		_, err := a.DecodeChecked(c, codertest.Message(frame))
		require.ErrorContains(t, err, "reflected, or both ends share one AEAD")
	}
}

// A message that was recorded is refused for as long as it is remembered, and then
// because it is old. So it is with a receiver that was restarted, after a while.
func TestOldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age = time.Minute
		keys := []aead.Key{key(1)}
		from, to := newAEAD(t, keys, aead.WithMaxAge(age)), newAEAD(t, keys, aead.WithMaxAge(age))
		frame := sealed(t, from, []byte("hello"))
		_, err := open(to, frame)
		require.NoError(t, err)
		for range 40 {
			time.Sleep(age / 8)
			_, err := open(to, frame)
			require.Error(t, err)
			_, err = open(to, sealed(t, from, []byte("time goes by")))
			require.NoError(t, err)
		}
		_, err = open(to, frame)
		require.ErrorContains(t, err, "more than 1m0s (aead.WithMaxAge)")
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(err))

		frame = sealed(t, from, []byte("hello"))
		_, err = open(newAEAD(t, keys, aead.WithMaxAge(age)), frame)
		require.NoError(t, err, "another receiver knows nothing")
		time.Sleep(2 * age)
		_, err = open(newAEAD(t, keys, aead.WithMaxAge(age)), frame)
		require.ErrorContains(t, err, "aead.WithMaxAge")
	})
}

// A message may take its time if something of its session came before.
func TestLateMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := ends(t)
		_, err := open(to, sealed(t, from, []byte("first")))
		require.NoError(t, err)
		late := sealed(t, from, []byte("late"))
		time.Sleep(3 * time.Minute)
		_, err = open(to, late)
		require.NoError(t, err)
	})
}

// A session whose first messages got lost is no problem for those that follow.
func TestLostBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := ends(t)
		sealed(t, from, []byte("lost"))
		for range 20 {
			time.Sleep(30 * time.Second)
			sealed(t, from, []byte("lost"))
		}
		_, err := open(to, sealed(t, from, []byte("arrives")))
		require.NoError(t, err)
	})
}

func TestSessionsAreLimited(t *testing.T) {
	to := newAEAD(t, []aead.Key{key(1)}, aead.WithMaxSessions(2))
	for range 2 {
		from, _ := ends(t)
		_, err := open(to, sealed(t, from, nil))
		require.NoError(t, err)
	}
	from, _ := ends(t)
	_, err := open(to, sealed(t, from, nil))
	require.ErrorContains(t, err, "aead.WithMaxSessions")
	forger, _ := ends(t, aead.Key{ID: 1, Secret: make([]byte, 32)})
	_, err = open(to, sealed(t, forger, nil))
	require.ErrorContains(t, err, "not authentic", "who has no key takes no room")
}

// Twice around a message, or around none, is a mistake in the set-up.
func TestRefusesToEncode(t *testing.T) {
	a, b := ends(t)
	_, err := b.EncodeChecked(nil, codertest.Message(sealed(t, a, nil)))
	require.ErrorContains(t, err, "encrypted already")
	_, err = a.EncodeChecked(nil, codertest.Message(codertest.Frame(nil)[:20]))
	require.ErrorContains(t, err, "ends within its method")
	require.Nil(t, a.Encode(nil, codertest.Message(codertest.Frame(nil)[:20])))
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, c := range map[string]struct {
		keys []aead.Key
		opt  aead.Option
		says string
	}{
		"no key":            {nil, aead.WithMaxAge(time.Minute), "there must be a key"},
		"a short secret":    {[]aead.Key{{ID: 7, Secret: make([]byte, 16)}}, aead.WithMaxAge(time.Minute), "the secret of key 7 (xchacha20-poly1305) has 16 bytes, it must have 32"},
		"no algorithm":      {[]aead.Key{{Secret: make([]byte, 32), Algorithm: 9}}, aead.WithMaxAge(time.Minute), "key 0 (Algorithm(9)): there is no such algorithm"},
		"the same id twice": {[]aead.Key{key(1), gcm(1)}, aead.WithMaxAge(time.Minute), "two keys with the id 1"},
		"no age":            {[]aead.Key{key(1)}, aead.WithMaxAge(0), "WithMaxAge: must be at least a second"},
		"no sessions":       {[]aead.Key{key(1)}, aead.WithMaxSessions(0), "WithMaxSessions: must be positive"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := aead.New(c.keys, c.opt)
			require.ErrorContains(t, err, c.says)
			require.Nil(t, a)
		})
	}
}
