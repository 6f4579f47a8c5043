package aead

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

func newAEAD(t *testing.T, opts ...Option) *AEAD {
	t.Helper()
	a, err := New([]Key{{ID: 1, Secret: make([]byte, SecretLen)}}, opts...)
	require.NoError(t, err)
	return a
}

// A session is remembered for at least twice the maximum age, and not much longer.
func TestSessionsAreForgotten(t *testing.T) {
	const turn = time.Minute
	for _, late := range []time.Duration{0, turn / 2, turn - 1} {
		var ss sessions
		ss.init(turn, 10)
		start := time.Unix(1_000_000, 0)
		require.Nil(t, ss.find(sessionID{1}, start))
		s := &session{id: sessionID{2}}
		_, err := ss.add(s, start.Add(late))
		require.NoError(t, err)
		for after := time.Duration(0); after <= 4*turn; after += turn / 4 {
			require.Same(t, s, ss.find(s.id, start.Add(late+after)), "after %v", after)
		}
		require.Nil(t, ss.find(s.id, start.Add(7*turn)))
		require.Zero(t, ss.present)
	}
}

// A long silence forgets all, a clock that goes back nothing.
func TestSessionsAndTheClock(t *testing.T) {
	var ss sessions
	ss.init(time.Minute, 10)
	now := time.Unix(1_000_000, 0)
	s := &session{id: sessionID{1}}
	_, err := ss.add(s, now)
	require.NoError(t, err)
	require.Same(t, s, ss.find(s.id, now.Add(-time.Hour)))
	require.Same(t, s, ss.find(s.id, now.Add(-time.Hour+30*time.Second)))
	require.Nil(t, ss.find(s.id, now.Add(time.Hour)))
	require.Zero(t, ss.present)
}

func TestSessionsAreLimited(t *testing.T) {
	var ss sessions
	ss.init(time.Minute, 2)
	now := time.Unix(1_000_000, 0)
	for n := range 2 {
		_, err := ss.add(&session{id: sessionID{byte(n)}}, now)
		require.NoError(t, err)
	}
	_, err := ss.add(&session{id: sessionID{9}}, now)
	require.ErrorContains(t, err, "the limit is 2 (aead.WithMaxSessions)")
	require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
	known, err := ss.add(&session{id: sessionID{1}}, now)
	require.NoError(t, err, "one that is known needs no room")
	require.Equal(t, sessionID{1}, known.id)

	ss.addOwn(&session{id: sessionID{10}, own: true}, now)
	require.NotNil(t, ss.find(sessionID{10}, now), "this side can always send")
	_, err = ss.add(&session{id: sessionID{9}}, now.Add(time.Hour))
	require.NoError(t, err)
}

// A session of the sender lasts for half of the maximum age, and for so many
// messages.
func TestSenderBeginsAnew(t *testing.T) {
	a := newAEAD(t)
	var snd sender
	now := time.Now()
	first, number := snd.next(a, now)
	require.Zero(t, number)
	require.True(t, first.own)
	require.WithinDuration(t, now, first.id.born(), time.Second)

	same, number := snd.next(a, now.Add(a.maxAge/2-1))
	require.Same(t, first, same)
	require.EqualValues(t, 1, number)
	second, number := snd.next(a, now.Add(a.maxAge/2))
	require.NotEqual(t, first.id, second.id)
	require.Zero(t, number)

	snd.sent = maxMessages
	third, number := snd.next(a, now.Add(a.maxAge/2))
	require.NotEqual(t, second.id, third.id)
	require.Zero(t, number)

	require.NoError(t, a.SetKeys(Key{ID: 2, Secret: make([]byte, SecretLen), Algorithm: AESGCM}))
	fourth, number := snd.next(a, now.Add(a.maxAge/2))
	require.NotEqual(t, third.id, fourth.id)
	require.Zero(t, number)
	require.EqualValues(t, 2, fourth.key.id)
}

// A message with a number beyond the last is refused, authentic or not: it would
// leave room for replays.
func TestNumbersAreLimited(t *testing.T) {
	from, to := newAEAD(t), newAEAD(t)
	s := newSession(newSessionID(time.Now()), from.keys.Load().first)
	m := arpc.NewServer(arpc.WithHandler(arpc.NewHandler())).NewMessage(arpc.CmdNotify, "/n", "hello")
	m.SetFlagBit(4, true)
	head := arpc.HeadLen + len("/n")
	for number, ok := range map[uint64]bool{maxMessages - 1: true, maxMessages: false, 1<<64 - 1: false} {
		sealed := &arpc.Message{Buffer: s.seal(m.Buffer, head, number)}
		sealed.SetBodyLen(sealed.Len() - arpc.HeadLen)
		_, err := to.DecodeChecked(nil, sealed)
		require.Equal(t, ok, err == nil, "number %d", number)
	}
}

// Whatever the order of what is authentic and new, it is accepted; nothing else is.
func TestOneSessionOnly(t *testing.T) {
	a := newAEAD(t)
	id := newSessionID(time.Now())
	k := a.keys.Load().first
	one, err := a.sessions.add(newSession(id, k), time.Now())
	require.NoError(t, err)
	other, err := a.sessions.add(newSession(id, k), time.Now()) // two messages came at the same time
	require.NoError(t, err)
	require.Same(t, one, other)
}
