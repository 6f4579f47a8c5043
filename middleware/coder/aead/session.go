package aead

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

const (
	// prefixLen is the length in bytes of what precedes the ciphertext: id of the
	// key, id of the session, number of the message.
	prefixLen = 4 + sessionLen + 8
	// tagLen is the length in bytes of the tag behind it.
	tagLen     = 16
	sessionLen = 16
	// maxMessages is how many messages a session has at most.
	maxMessages = 1 << 32
)

// sessionID says when a session began, in seconds since 1970 as 32 bits, and is
// random behind that.
type sessionID [sessionLen]byte

func newSessionID(now time.Time) (id sessionID) {
	rand.Read(id[4:])
	binary.LittleEndian.PutUint32(id[:], uint32(now.Unix()))
	return id
}

func (id *sessionID) born() time.Time {
	return time.Unix(int64(binary.LittleEndian.Uint32(id[:])), 0)
}

// prefix is what precedes the ciphertext.
type prefix struct {
	key     uint32
	session sessionID
	number  uint64
}

// parsePrefix parses the first prefixLen bytes of b.
func parsePrefix(b []byte) prefix {
	return prefix{
		key:     binary.LittleEndian.Uint32(b),
		session: sessionID(b[4:]),
		number:  binary.LittleEndian.Uint64(b[4+sessionLen:]),
	}
}

func (p prefix) appendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, p.key)
	dst = append(dst, p.session[:]...)
	return binary.LittleEndian.AppendUint64(dst, p.number)
}

// The reasons to refuse to encrypt a message.
var (
	errNoMethod = arpc.NewError(arpc.CodeInternal, "aead: the message ends within its method")
	errTwice    = arpc.NewError(arpc.CodeInternal, "aead: the message is encrypted already, or another coder owns bit 4")
)

// The reasons to refuse a received one. Of what is not authentic no more is said.
var (
	errPlain  = arpc.NewError(arpc.CodeUnauthenticated, "aead: the message is not encrypted")
	errCut    = arpc.NewError(arpc.CodeUnauthenticated, "aead: the message is too short to be encrypted")
	errForged = arpc.NewError(arpc.CodeUnauthenticated, "aead: the message is not authentic")
	errOwn    = arpc.NewError(arpc.CodeUnauthenticated, "aead: this side has sent the message itself: it was reflected, or both ends share one AEAD")
	errReplay = arpc.NewError(arpc.CodeUnauthenticated, "aead: the message was received before, or too many that were sent later")
)

// session is a run of numbered messages from one sender under one key.
type session struct {
	// Set by newSession, never changed.
	id     sessionID
	key    *key
	cipher cipher.AEAD
	own    bool // this side is the sender

	mu   sync.Mutex
	seen window // guarded by mu
}

func newSession(id sessionID, k *key) *session {
	return &session{id: id, key: k, cipher: k.cipher(id)}
}

// seal returns b with what is behind head encrypted.
func (s *session) seal(b []byte, head int, number uint64) []byte {
	out := append(make([]byte, 0, len(b)+Overhead), b[:head]...)
	out = prefix{s.key.id, s.id, number}.appendTo(out)
	return s.cipher.Seal(out, s.nonce(out), b[head:], associated(out))
}

// nonce returns the end of what precedes the ciphertext, number included, which is
// unique under the session's own key.
func (s *session) nonce(before []byte) []byte { return before[len(before)-s.cipher.NonceSize():] }

// associated returns what is authenticated and not encrypted: all that precedes the
// ciphertext, but for the length, which it has itself.
func associated(before []byte) []byte { return before[4:] }

// open decrypts in place what is behind before, and leaves out its prefix.
func (s *session) open(b []byte, head int) ([]byte, error) {
	before, sealed := b[:head+prefixLen], b[head+prefixLen:]
	plain, err := s.cipher.Open(sealed[:0], s.nonce(before), sealed, associated(before))
	if err != nil {
		return nil, errForged
	}
	return append(b[:head], plain...), nil
}

// accept reports an error for a number that came before.
func (s *session) accept(number uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.seen.accept(number) {
		return errReplay
	}
	return nil
}

// sender numbers what is sent to one peer.
type sender struct {
	mu      sync.Mutex
	session *session // guarded by mu; nil before the first message
	born    time.Time
	sent    uint64 // guarded by mu
}

// next returns the session and the number for one message. A session does not get
// old, because its first message may not have arrived, and then its peer must find
// it young.
func (snd *sender) next(a *AEAD, now time.Time) (*session, uint64) {
	k := a.keys.Load().first
	snd.mu.Lock()
	defer snd.mu.Unlock()
	age := now.Sub(snd.born)
	if snd.session == nil || *snd.session.key != *k || age < 0 || age >= a.maxAge/2 || snd.sent == maxMessages {
		snd.session = newSession(newSessionID(now), k)
		snd.session.own = true
		snd.born, snd.sent = now, 0
		a.sessions.addOwn(snd.session, now)
	}
	snd.sent++
	return snd.session, snd.sent - 1
}
