package memconn

import (
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// stream is one direction of a connection: the end that writes it and the end
// that reads it share it. The mutex is held to copy bytes, never to wait. Both
// directions have the same one, so that what ends both ends them at one moment.
type stream struct {
	// Set by newStreams, never changed.
	other    *stream
	limit    int        // bytes the ring may hold
	readable *sync.Cond // a reader has something to look at
	writable *sync.Cond // a writer has room, its turn, or an error to look at

	// Changed under mu, read without.
	written atomic.Int64 // bytes taken from the writer
	taken   atomic.Int64 // bytes given to the reader

	mu            *sync.Mutex
	ring          ring
	transit       transit
	tail          error // what the reader gets behind the last byte; nil while open
	broken        bool  // reset: nothing more comes through
	writing       bool  // a write has the turn
	writerClosed  bool
	readerClosed  bool
	readDeadline  deadline
	writeDeadline deadline

	// The faults, guarded by mu. The delay and the stall are in transit.
	maxRead  int     // bytes a read returns
	maxWrite int     // bytes of a write taken at a time
	budget   int64   // bytes until the cut
	corrupt  []int64 // offsets
}

// newStreams returns the two directions of a connection.
func newStreams(limit int) (there, back *stream) {
	mu := new(sync.Mutex)
	there, back = newStream(mu, limit), newStream(mu, limit)
	there.other, back.other = back, there
	return there, back
}

func newStream(mu *sync.Mutex, limit int) *stream {
	s := &stream{
		mu:       mu,
		limit:    limit,
		readable: sync.NewCond(mu),
		writable: sync.NewCond(mu),
		maxRead:  math.MaxInt,
		maxWrite: math.MaxInt,
		budget:   math.MaxInt64,
	}
	s.transit.wake = s.land
	return s
}

// read checks in the order of a TCP connection: closed, deadline, the rest.
func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerClosed:
			return 0, net.ErrClosed
		case len(p) == 0:
			return 0, nil
		case s.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case s.broken:
			return 0, syscall.ECONNRESET
		case s.arrived() > 0:
			return s.take(p), nil
		case s.ended():
			return 0, s.tail
		}
		s.readable.Wait()
	}
}

// arrived returns how many bytes the reader may take.
func (s *stream) arrived() int {
	return int(min(s.transit.landed, s.written.Load()) - s.taken.Load())
}

// ended tells whether the end of the stream has arrived: like the FIN of TCP it
// has a place of its own behind the last byte.
func (s *stream) ended() bool {
	return s.transit.landed > s.written.Load()
}

func (s *stream) take(p []byte) int {
	n := min(len(p), s.arrived(), s.maxRead)
	s.ring.read(p[:n])
	s.taken.Add(int64(n))
	s.writable.Broadcast()
	return n
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeTurn(); err != nil {
		return 0, err
	}
	defer s.passTurn()
	for {
		k := s.accept(p[n:])
		n += k
		if n == len(p) {
			return n, nil
		}
		s.waitRoom(k)
		if err := s.writeError(); err != nil {
			return n, err
		}
	}
}

// takeTurn waits until no other write is under way, so that writes do not mix.
func (s *stream) takeTurn() error {
	for {
		if err := s.writeError(); err != nil {
			return err
		}
		if !s.writing {
			s.writing = true
			return nil
		}
		s.writable.Wait()
	}
}

func (s *stream) passTurn() {
	s.writing = false
	s.writable.Broadcast()
}

// waitRoom waits while the ring is full. If only a fault kept the last k bytes
// short, it lets the reader see them alone instead.
func (s *stream) waitRoom(k int) {
	if k == 0 {
		s.writable.Wait()
		return
	}
	if s.ring.n < s.limit {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
}

func (s *stream) writeError() error {
	switch {
	case s.writerClosed:
		return net.ErrClosed
	case s.writeDeadline.passed():
		return os.ErrDeadlineExceeded
	case s.broken || s.tail == syscall.ECONNRESET:
		return syscall.ECONNRESET
	case s.readerClosed || s.tail != nil:
		return syscall.EPIPE
	}
	return nil
}

// accept takes what it can of p now and returns how much.
func (s *stream) accept(p []byte) int {
	n := min(len(p), s.limit-s.ring.n, s.maxWrite)
	n = int(min(int64(n), s.budget))
	if n == 0 {
		return 0
	}
	s.ring.write(p[:n], s.limit)
	s.flipBits(n)
	s.dispatch(s.written.Add(int64(n)))
	s.spend(int64(n))
	return n
}

// flipBits corrupts the n bytes last put into the ring, before they are counted.
func (s *stream) flipBits(n int) {
	if len(s.corrupt) == 0 {
		return
	}
	from := s.written.Load()
	to := from + int64(n)
	for _, off := range s.corrupt {
		if from <= off && off < to {
			*s.ring.at(s.ring.n - int(to-off)) ^= 1
		}
	}
	s.corrupt = slices.DeleteFunc(s.corrupt, func(off int64) bool { return off < to })
}

// spend counts n bytes and makes the cut if it is due.
func (s *stream) spend(n int64) {
	s.budget -= n
	if s.budget == 0 {
		s.finish(syscall.ECONNRESET)
		s.other.reset()
	}
}

// dispatch sends all that is before end on its way to the reader.
func (s *stream) dispatch(end int64) {
	if s.transit.send(end) {
		s.readable.Broadcast()
	}
}

// land is called by the timer of transit.
func (s *stream) land() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.transit.release() {
		s.readable.Broadcast()
	}
}

// finish puts the end of the stream behind the last byte. The first cause wins.
func (s *stream) finish(cause error) {
	if s.tail != nil || s.broken || s.readerClosed {
		return
	}
	s.tail = cause
	s.dispatch(s.written.Load() + 1)
	s.writable.Broadcast()
}

func (s *stream) closeWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writerClosed {
		return net.ErrClosed
	}
	s.finish(io.EOF)
	return nil
}

// close is the Close of the end that writes, which reads the other direction. It
// returns net.ErrClosed if it is not the first.
func (s *stream) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writerClosed {
		return net.ErrClosed
	}
	s.writerClosed = true
	s.writeDeadline.stop()
	s.finish(io.EOF)
	s.writable.Broadcast()

	s.other.readerClosed = true
	s.other.readDeadline.stop()
	s.other.drop()
	return nil
}

// cut breaks both directions now.
func (s *stream) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
	s.other.reset()
}

// reset breaks the stream; the caller holds mu.
func (s *stream) reset() {
	s.broken = true
	s.drop()
}

// drop loses the bytes on their way and wakes whoever waits for them.
func (s *stream) drop() {
	s.ring = ring{}
	s.transit.drop()
	s.readable.Broadcast()
	s.writable.Broadcast()
}

func (s *stream) setReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readerClosed {
		return net.ErrClosed
	}
	s.readDeadline.set(t, s.readable)
	return nil
}

func (s *stream) setWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writerClosed {
		return net.ErrClosed
	}
	s.writeDeadline.set(t, s.writable)
	return nil
}

func (s *stream) setDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transit.delay = max(d, 0)
}

func (s *stream) setStalled(stalled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transit.stalled = stalled
	if s.transit.release() {
		s.readable.Broadcast()
	}
}

func (s *stream) setMaxRead(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxRead = limitOrNone(n)
}

func (s *stream) setMaxWrite(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxWrite = limitOrNone(n)
}

func limitOrNone(n int) int {
	if n < 1 {
		return math.MaxInt
	}
	return n
}

func (s *stream) setBudget(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 0 {
		n = math.MaxInt64
	}
	s.budget = n
	s.spend(0)
}

func (s *stream) addCorrupt(offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.corrupt = append(s.corrupt, offset)
}
