package arpc

import "sync/atomic"

// signal is given once. Few are waited for, so there is a channel only if somebody
// wants one: an idle connection would have four. Any goroutine may use it.
type signal struct{ ch atomic.Pointer[chan struct{}] }

// give lets go who waits. It is called once.
func (s *signal) give() {
	if !s.ch.CompareAndSwap(nil, &closedChan) {
		close(*s.ch.Load())
	}
}

// given reports whether give was called.
func (s *signal) given() bool {
	ch := s.ch.Load()
	if ch == nil {
		return false
	}
	select {
	case <-*ch:
		return true
	default:
		return false
	}
}

// wait returns a channel that give closes, or has closed: always the same.
func (s *signal) wait() <-chan struct{} {
	if s.ch.Load() == nil {
		ch := make(chan struct{})
		s.ch.CompareAndSwap(nil, &ch)
	}
	return *s.ch.Load()
}

var closedChan = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()
