package aead

import (
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

// generations is how many turns of half the maximum age a session is remembered for:
// the last begins when it is too old to be accepted anew, wherever its clock stands.
const generations = 5

// sessions remembers sessions for long enough.
type sessions struct {
	// Set by init, never changed.
	turn time.Duration
	max  int

	mu      sync.Mutex
	began   time.Time                           // of the first generation
	young   [generations]map[sessionID]*session // the youngest first
	present int                                 // in all of them
}

func (ss *sessions) init(turn time.Duration, most int) { ss.turn, ss.max = turn, most }

// find returns the session with an id, nil if there is none.
func (ss *sessions) find(id sessionID, now time.Time) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.age(now)
	return ss.get(id)
}

func (ss *sessions) get(id sessionID) *session {
	for _, generation := range ss.young {
		if s := generation[id]; s != nil {
			return s
		}
	}
	return nil
}

// add remembers a session, and returns the one that is remembered under its id.
func (ss *sessions) add(s *session, now time.Time) (*session, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if known := ss.get(s.id); known != nil {
		return known, nil
	}
	ss.age(now)
	if ss.present >= ss.max {
		return nil, arpc.Errorf(arpc.CodeResourceExhausted, "aead: too many sessions, the limit is %d (aead.WithMaxSessions)", ss.max)
	}
	ss.put(s)
	return s, nil
}

// addOwn remembers a session of this side, whatever the limit says.
func (ss *sessions) addOwn(s *session, now time.Time) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.age(now)
	ss.put(s)
}

func (ss *sessions) put(s *session) {
	if ss.young[0] == nil {
		ss.young[0] = make(map[sessionID]*session)
	}
	ss.young[0][s.id] = s
	ss.present++
}

// age forgets what is old enough. Guarded by mu.
func (ss *sessions) age(now time.Time) {
	turns := int64(now.Sub(ss.began) / ss.turn)
	if turns == 0 {
		return
	}
	ss.began = now
	for range min(max(turns, 0), generations) {
		last := ss.young[generations-1]
		ss.present -= len(last)
		copy(ss.young[1:], ss.young[:])
		clear(last)
		ss.young[0] = last
	}
}
