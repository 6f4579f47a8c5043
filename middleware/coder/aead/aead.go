// Package aead is a coder that encrypts messages and proves where they are from,
// for connections that cannot use TLS. All who are to read or write them share
// keys. Of each message what follows header and method, that is payload and
// metadata, becomes unreadable; nothing of it can be changed without being noticed.
//
//	sealed, err := aead.New([]aead.Key{{ID: 1, Secret: secret}})
//	handler.UseCoder(sealed)
//
// Register it on every handler, one AEAD each, behind coders that compress. It is
// never left out: towards a peer without it no message gets through, and a message
// that is not encrypted is refused.
//
// # What it protects
//
// Nobody without a key can read a payload or its metadata, or make a message. A
// message is refused that was cut, that differs by one bit from what was sent,
// header and method included, that was received before, over whatever connection,
// or that was made for another call: with another number, method, command or flag.
//
// # What it does not
//
//   - Length, header and method of messages can be read: who calls what, when, how
//     often, and about how much.
//   - Pings, and hellos with names, limits, features and credentials in them, are
//     neither encrypted nor authenticated: they can be read and changed. So
//     HandleAuth with a plain token gives the token away, and a connection that says
//     nothing needs no key.
//   - Who can write to the wire can hold messages back, reorder them, and end the
//     connection. A message held back, or a gap in a stream, is not noticed.
//   - A message is for whoever has the key, not for one of them. Whoever can write
//     to the wire can have another holder of the key take a message, once, within
//     WithMaxAge, and a program that was restarted meanwhile take one again. Give
//     each server a key of its own.
//   - There is no forward secrecy: a key that gets known opens all that was recorded
//     under it. Change keys with SetKeys.
//
// Against all of these there is TLS, which shows lengths and times only.
//
// # Clocks
//
// The clocks of the two ends must not differ by more than WithMaxAge, or messages
// are refused: that is how a message can be known to be old without remembering
// all that ever came. A clock that is set back makes old messages young.
package aead

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

const (
	// DefaultMaxAge is the default of WithMaxAge.
	DefaultMaxAge = 2 * time.Minute
	// DefaultMaxSessions is the default of WithMaxSessions.
	DefaultMaxSessions = 1 << 17
	// Overhead is how many bytes a message gets longer.
	Overhead = prefixLen + tagLen
)

// AEAD encrypts and decrypts messages. It is safe for concurrent use. It must not
// be registered at both ends of one connection: it refuses what it has sent itself.
type AEAD struct {
	// Set by New, never changed.
	maxAge time.Duration

	keys     atomic.Pointer[keyring]
	sessions sessions
	nobody   sender // of messages without a client
}

var (
	_ arpc.PerSendCoder   = (*AEAD)(nil)
	_ arpc.CheckedEncoder = (*AEAD)(nil)
	_ arpc.CheckedDecoder = (*AEAD)(nil)
)

// Option is a setting for New.
type Option func(*config)

type config struct {
	maxAge      time.Duration
	maxSessions int
}

// WithMaxAge sets for how long a message can be on its way, and by how much the
// clocks of the two ends may differ, together. What took longer is refused if
// nothing of its session came before. At least a second. Default: two minutes.
func WithMaxAge(d time.Duration) Option { return func(cfg *config) { cfg.maxAge = d } }

// WithMaxSessions limits how many sessions are remembered, which take about 1 KiB
// each with AES-GCM and 0.2 KiB with XChaCha20-Poly1305. Each end of a connection
// that is in use begins one in half of WithMaxAge, and each is remembered for two
// and a half times of it. At the limit messages of new sessions are refused with
// CodeResourceExhausted. Default: 131,072.
func WithMaxSessions(n int) Option { return func(cfg *config) { cfg.maxSessions = n } }

// New returns a coder for arpc.Handler.UseCoder that encrypts with the first of the
// keys and decrypts with all of them.
func New(keys []Key, opts ...Option) (*AEAD, error) {
	cfg := config{maxAge: DefaultMaxAge, maxSessions: DefaultMaxSessions}
	for _, opt := range opts {
		opt(&cfg)
	}
	switch {
	case cfg.maxAge < time.Second:
		return nil, fmt.Errorf("aead: WithMaxAge: must be at least a second: %v", cfg.maxAge)
	case cfg.maxSessions <= 0:
		return nil, fmt.Errorf("aead: WithMaxSessions: must be positive: %d", cfg.maxSessions)
	}
	a := &AEAD{maxAge: cfg.maxAge}
	a.sessions.init(cfg.maxAge/2, cfg.maxSessions)
	if err := a.SetKeys(keys...); err != nil {
		return nil, err
	}
	return a, nil
}

// SetKeys replaces the keys: the first encrypts from now on, all of them decrypt. It
// may be called while messages come and go. To change keys without losing a message,
// first give the new key to all peers as a further one, then have all of them encrypt
// with it, and take the old one away when nothing is under way any more.
func (a *AEAD) SetKeys(keys ...Key) error {
	ring, err := newKeyring(keys)
	if err == nil {
		a.keys.Store(ring)
	}
	return err
}

// PerSend reports true: what is encrypted may leave once only, so a message that is
// pushed to many clients is encrypted for each.
func (a *AEAD) PerSend() bool { return true }

// Encode is EncodeChecked without the reason: nil if the message is refused.
func (a *AEAD) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := a.EncodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// EncodeChecked encrypts the message. It refuses one whose header makes no sense,
// and one that is encrypted already: a handler has one AEAD.
func (a *AEAD) EncodeChecked(c *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	head, ok := frame.Head(m)
	switch {
	case !ok:
		return nil, errNoMethod
	case m.IsFlagBitSet(frame.AEAD):
		return nil, errTwice
	}
	s, number := a.senderOf(c).next(a, time.Now())
	m.SetFlagBit(frame.AEAD, true)
	frame.SetBuffer(m, s.seal(m.Buffer, head, number))
	return m, nil
}

// senderOf returns what encrypts for a client, which keeps it.
func (a *AEAD) senderOf(c *arpc.Client) *sender {
	if c == nil {
		return &a.nobody
	}
	if v, ok := c.Get(a); ok {
		return v.(*sender)
	}
	snd := new(sender)
	c.Set(a, snd) // whoever was quicker has a session of its own
	return snd
}

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (a *AEAD) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := a.DecodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// DecodeChecked decrypts the message. The error says why it is refused; nothing is
// known of the message beside it but that somebody sent it.
func (a *AEAD) DecodeChecked(_ *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	if m.Len() < arpc.HeadLen || !m.IsFlagBitSet(frame.AEAD) {
		return m, errPlain
	}
	head, ok := frame.Head(m)
	if !ok || m.Len() < head+Overhead {
		return m, errCut
	}
	plain, err := a.open(m.Buffer, head)
	if err != nil {
		return m, err
	}
	frame.SetBuffer(m, plain)
	m.SetFlagBit(frame.AEAD, false)
	return m, nil
}

// open decrypts a message in place.
func (a *AEAD) open(b []byte, head int) ([]byte, error) {
	prefix := parsePrefix(b[head:])
	k := a.keys.Load().byID[prefix.key]
	if k == nil {
		return nil, arpc.Errorf(arpc.CodeUnauthenticated, "aead: there is no key with the id %d", prefix.key)
	}
	now := time.Now()
	s := a.sessions.find(prefix.session, now)
	known := s != nil
	switch age := now.Sub(prefix.session.born()); {
	case known && s.own:
		return nil, errOwn
	case known && *s.key != *k, prefix.number >= maxMessages:
		return nil, errForged
	case !known && age.Abs() > a.maxAge:
		return nil, arpc.Errorf(arpc.CodeUnauthenticated, "aead: the message is of a session that began %v ago, more than %v (aead.WithMaxAge): it is old, or the clocks differ", age.Round(time.Second), a.maxAge)
	case !known:
		s = newSession(prefix.session, k)
	}
	plain, err := s.open(b, head)
	if err == nil && !known {
		s, err = a.sessions.add(s, now) // only now: it is from somebody with the key
	}
	if err != nil {
		return nil, err
	}
	return plain, s.accept(prefix.number)
}
