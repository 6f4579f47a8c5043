package buffstreams

import (
	"slices"
	"sync"
	"time"
)

const (
	// segmentSize is how much is written at once: BenchmarkOneWay.
	segmentSize = 64 << 10
	// maxPooled is the capacity above which a segment goes to the allocator.
	maxPooled = 4 * segmentSize
)

// segment is a buffer of whole frames.
type segment struct {
	b      []byte
	frames int
}

var segmentPool = sync.Pool{New: func() any { return &segment{b: make([]byte, 0, segmentSize)} }}

func putSegment(s *segment) {
	if cap(s.b) <= maxPooled {
		s.b, s.frames = s.b[:0], 0
		segmentPool.Put(s)
	}
}

// output is the queue of a Conn: frames that wait to be sent, and messages that wait
// to be handed over. Guarded by Conn.mu.
type output struct {
	framing
	limit int // SendQueue

	waiting []*segment // what is to be sent next; frames are appended to the last

	// appended and resolved count bytes since the beginning: all of them, and those
	// that were sent or given up, which are always the first ones.
	appended, resolved uint64

	given []given // what is to be handed over
	held  int     // bytes in it

	flushing bool          // somebody flushes, or is about to
	batched  bool          // the last write carried more than one frame
	quiet    time.Time     // when the last flush ended
	room     chan struct{} // closed when there is room again; nil when nobody waits
}

// given is frames that were given up.
type given struct {
	frames []byte
	cause  error
}

// queued returns how many bytes wait or are being written.
func (o *output) queued() int { return int(o.appended - o.resolved) }

func (o *output) hasRoom(message int) bool {
	used := o.queued() + o.held
	return used == 0 || used+o.header+message <= o.limit
}

func (o *output) roomChan() chan struct{} {
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room
}

// wake lets who waits for room look again, when half of the queue is free.
func (o *output) wake() {
	if o.room != nil && o.queued()+o.held <= o.limit/2 {
		close(o.room)
		o.room = nil
	}
}

// add appends a message, whose bytes may come in two parts, and returns where it
// ends.
func (o *output) add(kind, message []byte) (end uint64) {
	size := len(kind) + len(message)
	s := o.tail(o.header + size)
	s.b = o.appendHeader(s.b, size)
	s.b = append(s.b, kind...)
	s.b = append(s.b, message...)
	s.frames++
	o.appended += uint64(o.header + size)
	return o.appended
}

// tail returns the segment to append so many bytes to.
func (o *output) tail(n int) *segment {
	if len(o.waiting) > 0 {
		if s := o.waiting[len(o.waiting)-1]; len(s.b)+n <= cap(s.b) {
			return s
		}
	}
	s := segmentPool.Get().(*segment)
	if n > cap(s.b) {
		s.b = make([]byte, 0, n)
	}
	o.waiting = append(o.waiting, s)
	return s
}

// take hands what waits longest to the flusher, nil if nothing does.
func (o *output) take() *segment {
	if len(o.waiting) == 0 {
		return nil
	}
	s := o.waiting[0]
	o.waiting = slices.Delete(o.waiting, 0, 1)
	o.batched = s.frames > 1
	return s
}

// sent notes that a segment in hand was sent, and returns how many messages it had.
func (o *output) sent(s *segment) int {
	frames := s.frames
	o.resolved += uint64(len(s.b))
	putSegment(s)
	o.wake()
	return frames
}

// putBack takes a segment back of which n bytes were sent: what was sent whole is
// gone, the rest is first in the queue. It returns how many messages were sent.
func (o *output) putBack(s *segment, n int) int {
	length, frames := o.whole(s.b[:n])
	if length == len(s.b) {
		return o.sent(s)
	}
	s.b = s.b[:copy(s.b, s.b[length:])]
	s.frames -= frames
	o.resolved += uint64(length)
	o.waiting = slices.Insert(o.waiting, 0, s)
	o.wake()
	return frames
}

// dropFirst takes the first message out, which is its sender's again.
func (o *output) dropFirst() {
	s := o.waiting[0]
	_, rest := o.cut(s.b)
	o.resolved += uint64(len(s.b) - len(rest))
	s.b = s.b[:copy(s.b, rest)]
	if s.frames--; s.frames == 0 {
		o.waiting = slices.Delete(o.waiting, 0, 1)
		putSegment(s)
	}
	o.wake()
}

// giveUp empties the queue, nothing of which is in hand, and returns how many
// messages were in it. They wait to be handed over, if they are kept.
func (o *output) giveUp(cause error, keep bool) (messages int) {
	for _, s := range o.waiting {
		messages += s.frames
		o.resolved += uint64(len(s.b))
		if keep {
			o.given = append(o.given, given{s.b, cause})
			o.held += len(s.b)
		} else {
			putSegment(s)
		}
	}
	o.waiting = nil
	o.wake()
	return messages
}

// handOver takes the next message out of those that were given up.
func (o *output) handOver() (message []byte, cause error, ok bool) {
	if len(o.given) == 0 {
		return nil, nil, false
	}
	g := &o.given[0]
	before := len(g.frames)
	message, g.frames = o.cut(g.frames)
	cause = g.cause
	o.held -= before - len(g.frames)
	if len(g.frames) == 0 {
		o.given = slices.Delete(o.given, 0, 1)
	}
	o.wake()
	return message, cause, true
}
