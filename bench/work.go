package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Work is what a server does with what it gets, the same for every system. Its
// methods may be called from any goroutine.
type Work struct {
	// Delay is how long an echo takes. Servers that can wait without Pause look
	// at it. Set before Serve.
	Delay time.Duration

	held    chan struct{} // closed when echoes may go on; nil: they always may
	waiting atomic.Int64  // echoes that are held
	senders [maxSenders]arrivals

	// Guarded by mu.
	mu        sync.Mutex
	broadcast func(body []byte) error
	count     func() uint64
	fault     error // the first
}

// maxSenders is how many goroutines may notify in a run.
const maxSenders = 64

// arrivals is what came from one sender.
type arrivals struct {
	count atomic.Uint64
	sum   atomic.Uint64 // of mixed numbers, of those that may come in any order
	_     [112]byte     // senders share no cache line
}

// newWork returns work whose echoes take a while, and wait for release if held.
func newWork(delay time.Duration, held bool) *Work {
	w := &Work{Delay: delay}
	if held {
		w.held = make(chan struct{})
	}
	return w
}

// Pause is called by each echo before it answers.
func (w *Work) Pause() {
	if w.Delay > 0 {
		time.Sleep(w.Delay)
	}
	if w.held != nil {
		w.waiting.Add(1)
		<-w.held
	}
}

// release lets echoes go on. It is called once.
func (w *Work) release() {
	if w.held != nil {
		close(w.held)
	}
}

// Revise is called by each JSON handler between decoding and encoding. It shows
// that there was both.
func (w *Work) Revise(d *Document) { d.Revision++ }

// CanBroadcast registers how the server sends one message to all subscribers.
// send is called by one goroutine and keeps nothing of body. It may return
// before the message is written, and waits for no subscriber that does not read;
// those that do miss nothing as long as maxAhead messages are queued for each.
func (w *Work) CanBroadcast(send func(body []byte) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broadcast = send
}

// CanCount registers what tells how many published messages the server has taken.
func (w *Work) CanCount(count func() uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count = count
}

// Notice is called with each notification, in the order in which they came: the
// next of a sender that is not one more than the last is a fault.
func (w *Work) Notice(body []byte) {
	id, n, err := readNotice(body)
	if err != nil {
		w.fail(err)
		return
	}
	if s := &w.senders[id]; !s.count.CompareAndSwap(n-1, n) {
		w.fail(fmt.Errorf("%w: sender %d: number %d came after %d", errWrongNotice, id, n, s.count.Load()))
	}
}

// NoticeUnordered is Notice for servers that handle notifications on goroutines
// of their own. What came is then compared at the end: each once.
func (w *Work) NoticeUnordered(body []byte) {
	id, n, err := readNotice(body)
	if err != nil {
		w.fail(err)
		return
	}
	s := &w.senders[id]
	s.sum.Add(mix(n))
	s.count.Add(1)
}

var errWrongNotice = errors.New("wrong notification")

// readNotice checks a message that newNotice and stamp have made.
func readNotice(body []byte) (id, n uint64, err error) {
	if len(body) < minBody || len(body) > len(filling) {
		return 0, 0, fmt.Errorf("%w: %d bytes", errWrongNotice, len(body))
	}
	end := len(body) - 8
	id, n = binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])
	if id >= maxSenders || n == 0 || n != binary.LittleEndian.Uint64(body[end:]) || !bytes.Equal(body[16:end], filling[16:end]) {
		return 0, 0, fmt.Errorf("%w: %d bytes that begin with %.24x", errWrongNotice, len(body), body)
	}
	return id, n, nil
}

func newNotice(size int) []byte { return bytes.Clone(filling[:size]) }

// filling is what lies between the marks of a notification or a broadcast.
var filling = func() []byte {
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = byte(i*7) ^ byte(i>>8)
	}
	return b
}()

// mix makes numbers whose sums tell sets of them apart.
func mix(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

func (w *Work) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == nil {
		w.fault = err
	}
}

// arrived is what came from one sender, as it is told to the other end. Sum is 0
// if the order was checked.
type arrived struct {
	Count uint64 `json:"count"`
	Sum   uint64 `json:"sum,omitempty"`
}

// state fills in what the server's work has come to.
func (w *Work) state(s *state) {
	s.Waiting = w.waiting.Load()
	for i := range w.senders {
		if n := w.senders[i].count.Load(); n > 0 {
			s.Senders = append(s.Senders, make([]arrived, i+1-len(s.Senders))...)
			s.Senders[i] = arrived{Count: n, Sum: w.senders[i].sum.Load()}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count != nil {
		s.Counted = w.count()
	}
	if w.fault != nil {
		s.Fault = w.fault.Error()
	}
}
