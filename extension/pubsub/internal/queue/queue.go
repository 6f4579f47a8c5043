// Package queue is what waits for one subscriber: bounded, and with a policy for what
// happens at the bound. It has no lock.
package queue

// Policy says what happens to a message there is no room for.
type Policy int

// Policies. Others than these are as DropOldest.
const (
	DropOldest Policy = iota
	DropNewest        // what waits stays
	KeepLatest        // of messages with the same key the latest stays; then DropOldest
)

// Queue is a queue of messages and of notes among them. Messages count for the bounds,
// and the policy may drop them; the one behind what was dropped knows how many were.
// Notes are neither counted nor dropped.
type Queue[T any] struct {
	policy              Policy
	maxMessages         int
	maxBytes            int
	slots               []slot[T] // a ring; its length is a power of two
	head, tail          uint64    // slots[head%len] to slots[tail-1 % len] are in use
	messages, bytes     int
	notes               int
	missed              uint64            // behind the last slot
	served              uint64            // how many messages were popped
	keys                map[string]uint64 // of KeepLatest: where the one is that may be replaced
	dropped, superseded uint64
}

type slot[T any] struct {
	value  T
	key    string
	size   int
	missed uint64 // before this one
	turn   uint64 // of KeepLatest: what Queue.served is when it would be served if nothing moved
	kind   kind
}

type kind byte

const (
	empty kind = iota // superseded, still in its place
	message
	note
)

// keepSlots is the length of a ring up to which an empty queue keeps it.
const keepSlots = 16

// New returns an empty queue. A single message larger than maxBytes has room when no
// other waits.
func New[T any](policy Policy, maxMessages, maxBytes int) Queue[T] {
	return Queue[T]{policy: policy, maxMessages: maxMessages, maxBytes: maxBytes}
}

// Len returns how many messages and notes wait.
func (q *Queue[T]) Len() int { return q.messages + q.notes }

// Messages returns how many messages wait, and how many bytes they have.
func (q *Queue[T]) Messages() (n, bytes int) { return q.messages, q.bytes }

// Notes returns how many notes wait.
func (q *Queue[T]) Notes() int { return q.notes }

// Idle reports whether nothing waits and nothing is to be said of what was dropped.
func (q *Queue[T]) Idle() bool { return q.messages == 0 && q.notes == 0 && q.missed == 0 }

// Dropped returns how many messages were dropped for lack of room, and how many
// were superseded by later ones with the same key.
func (q *Queue[T]) Dropped() (dropped, superseded uint64) { return q.dropped, q.superseded }

// HasRoom reports whether messages of so many bytes in all have room beside what waits.
func (q *Queue[T]) HasRoom(messages, bytes int) bool {
	return q.messages == 0 && messages <= 1 ||
		q.messages+messages <= q.maxMessages && q.bytes+bytes <= q.maxBytes
}

// Push appends a message, after what the policy does, and calls drop, which may be nil,
// with each message that is dropped for lack of room. With DropNewest that is v itself.
func (q *Queue[T]) Push(v T, key string, size int, drop func(T)) {
	s := slot[T]{value: v, key: key, size: size, kind: message}
	if q.policy == KeepLatest {
		s.turn = q.served + uint64(q.messages)
		q.supersede(&s)
	}
	for !q.HasRoom(1, size) {
		if q.policy == DropNewest {
			q.Skip(1)
			dropped(v, drop)
			return
		}
		q.dropFirst(drop)
	}
	q.append(s)
	q.messages++
	q.bytes += size
	if q.policy == KeepLatest {
		if q.keys == nil {
			q.keys = make(map[string]uint64)
		}
		q.keys[key] = q.tail - 1
	}
}

func dropped[T any](v T, drop func(T)) {
	if drop != nil {
		drop(v)
	}
}

// Skip says that messages that should be behind the last one are missing.
func (q *Queue[T]) Skip(n uint64) {
	q.missed += n
	q.dropped += n
}

// MissFirst says that messages that should be before the first one are missing.
func (q *Queue[T]) MissFirst(n uint64) {
	q.dropped += n
	q.missBefore(q.head, n)
}

// PushNote appends a note.
func (q *Queue[T]) PushNote(v T) {
	q.append(slot[T]{value: v, kind: note})
	q.notes++
}

// supersede takes out the message with the same key, whose turn the new one takes. One
// whose turn has come stays: otherwise a key that changes more often than others would
// never be served.
func (q *Queue[T]) supersede(by *slot[T]) {
	at, ok := q.keys[by.key]
	if !ok {
		return
	}
	old := q.at(at)
	if q.served > old.turn {
		return
	}
	by.turn = old.turn
	q.superseded++
	q.messages--
	q.bytes -= old.size
	q.empty(at)
	q.trim()
}

// empty leaves an empty slot. What was missing before it is missing before the next.
func (q *Queue[T]) empty(at uint64) {
	s := q.at(at)
	missed := s.missed
	*s = slot[T]{}
	if missed > 0 {
		q.missBefore(at+1, missed)
	}
}

// missBefore adds to what is missing before the first slot in use from at on.
func (q *Queue[T]) missBefore(at, missed uint64) {
	for ; at < q.tail; at++ {
		if s := q.at(at); s.kind != empty {
			s.missed += missed
			return
		}
	}
	q.missed += missed
}

// dropFirst drops the first message. Notes before it stay, a slot further.
func (q *Queue[T]) dropFirst(drop func(T)) {
	at := q.head
	for q.at(at).kind != message {
		at++
	}
	s := *q.at(at)
	q.forget(s.key, at)
	q.messages--
	q.bytes -= s.size
	q.dropped++
	q.missBefore(at+1, s.missed+1)
	for ; at > q.head; at-- {
		*q.at(at) = *q.at(at - 1)
	}
	*q.at(q.head) = slot[T]{}
	q.trim()
	dropped(s.value, drop)
}

// forget has a message not be replaced any more.
func (q *Queue[T]) forget(key string, at uint64) {
	if q.policy == KeepLatest && q.keys[key] == at {
		delete(q.keys, key)
	}
}

// Front returns what is next, and how many messages are missing before it.
// Without ok nothing waits, and missed is of the end.
func (q *Queue[T]) Front() (v T, size int, missed uint64, ok bool) {
	if q.Len() == 0 {
		return v, 0, q.missed, false
	}
	s := q.at(q.head)
	return s.value, s.size, s.missed, true
}

// Told says that the subscriber knows what is missing before the front.
func (q *Queue[T]) Told() {
	if q.Len() == 0 {
		q.missed = 0
		return
	}
	q.at(q.head).missed = 0
}

// Pop takes out the front, of which there must be one.
func (q *Queue[T]) Pop() {
	s := q.at(q.head)
	if s.kind == note {
		q.notes--
	} else {
		q.forget(s.key, q.head)
		q.messages--
		q.bytes -= s.size
		q.served++
	}
	q.empty(q.head)
	q.trim()
}

// Clear drops everything and counts nothing of it. drop may be nil.
func (q *Queue[T]) Clear(drop func(T)) {
	for ; q.head < q.tail; q.head++ {
		if s := q.at(q.head); s.kind == message {
			dropped(s.value, drop)
		}
	}
	q.slots, q.keys = nil, nil
	q.head, q.tail, q.messages, q.bytes, q.notes, q.missed = 0, 0, 0, 0, 0, 0
}

func (q *Queue[T]) at(i uint64) *slot[T] { return &q.slots[i&uint64(len(q.slots)-1)] }

// append makes the ring longer if it is full of what is in use.
func (q *Queue[T]) append(s slot[T]) {
	if used := int(q.tail - q.head); used == len(q.slots) {
		if used > keepSlots && q.Len() <= used/2 {
			q.compact()
		} else {
			q.grow()
		}
	}
	s.missed = q.missed
	q.missed = 0
	*q.at(q.tail) = s
	q.tail++
}

func (q *Queue[T]) grow() {
	longer := make([]slot[T], max(4, 2*len(q.slots)))
	for i := q.head; i < q.tail; i++ {
		longer[i&uint64(len(longer)-1)] = *q.at(i)
	}
	q.slots = longer
}

// trim passes by empty slots at the front, and gives a long ring back when nothing waits.
func (q *Queue[T]) trim() {
	for q.head < q.tail && q.at(q.head).kind == empty {
		q.head++
	}
	if q.head == q.tail && len(q.slots) > keepSlots {
		q.slots = nil
	}
}

// compact closes the gaps that superseded messages have left.
func (q *Queue[T]) compact() {
	to := q.head
	for i := q.head; i < q.tail; i++ {
		s := q.at(i)
		if s.kind == empty {
			continue
		}
		if at, ok := q.keys[s.key]; ok && at == i && s.kind == message {
			q.keys[s.key] = to
		}
		if to != i {
			*q.at(to) = *s
			*s = slot[T]{}
		}
		to++
	}
	q.tail = to
}
