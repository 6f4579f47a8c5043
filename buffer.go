package arpc

import (
	"slices"
	"sync"
)

// buffer is a pooled byte slice with whole frames. Those that go to many connections
// may be lent to it, and stay where they lie until it is written: a copy for each
// connection would wait for memory that is in no cache. See BenchmarkBroadcast.
type buffer struct {
	b         []byte
	frames    int
	lent      []lentFrame
	lentBytes int
}

// lentFrame is a frame that nobody changes any more.
type lentFrame struct {
	at    int // behind so many bytes of buffer.b
	frame []byte
}

// minLent is the length in bytes from which it is cheaper to lend a frame.
const minLent = 64

// maxLent is for how many lent frames a pooled buffer has room.
const maxLent = 1 << 12

var (
	outputPool = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, newBuffer)} }}
	lentPool   = sync.Pool{New: func() any { return new(buffer) }} // of those without memory of their own
)

// len returns the number of bytes.
func (b *buffer) len() int { return len(b.b) + b.lentBytes }

func (b *buffer) lend(frame []byte) {
	b.lent = append(b.lent, lentFrame{len(b.b), frame})
	b.lentBytes += len(frame)
}

// gathered returns a buffer with everything in one piece, and gives b back unless that
// is it.
func (b *buffer) gathered() *buffer {
	if b.lentBytes == 0 {
		return b
	}
	all := outputPool.Get().(*buffer)
	all.b, all.frames = slices.Grow(all.b, b.len()), b.frames
	at := 0
	for _, l := range b.lent {
		all.b = append(append(all.b, b.b[at:l.at]...), l.frame...)
		at = l.at
	}
	all.b = append(all.b, b.b[at:]...)
	putOutput(b)
	return all
}

// putOutput gives a buffer back, nil too.
func putOutput(b *buffer) {
	if b == nil || cap(b.b) > maxPooled || cap(b.lent) > maxLent {
		return
	}
	b.reset()
	if cap(b.b) == 0 {
		lentPool.Put(b)
		return
	}
	outputPool.Put(b)
}

func (b *buffer) reset() {
	clear(b.lent)
	b.b, b.frames, b.lent, b.lentBytes = b.b[:0], 0, b.lent[:0], 0
}
