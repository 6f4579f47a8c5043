package router

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
)

// Timeout gives handlers a deadline, counted from where the middleware stands in
// the chain; that of the caller counts if it is earlier. When it passes, Done of the
// Context closes with context.DeadlineExceeded, and the caller is answered with
// CodeDeadlineExceeded at once, even if the handler goes on: what it answers later
// is ErrAnswered to it and reaches nobody. It is safe for concurrent use.
//
// The context of a notification ends as well, and nobody is answered. A request
// that is detached is answered by who detached it; its context ends in time. It
// takes no goroutine and no timer for each request.
type Timeout struct {
	// Set by NewTimeout, never changed.
	limit time.Duration
	err   error

	expired atomic.Uint64

	mu     sync.Mutex
	inHand handlings   // guarded by mu
	timer  *time.Timer // runs expire; nil: it was never needed; guarded by mu
	armed  bool        // timer runs; guarded by mu
}

// NewTimeout returns a Timeout of d, which must be positive or it panics.
func NewTimeout(d time.Duration) *Timeout {
	if d <= 0 {
		panic(fmt.Sprintf("router: NewTimeout(%v): the timeout must be positive", d))
	}
	return &Timeout{
		limit: d,
		err:   arpc.Errorf(arpc.CodeDeadlineExceeded, "the handler took longer than %v (NewTimeout)", d),
	}
}

// Handler returns the middleware.
func (t *Timeout) Handler() arpc.HandlerFunc { return t.handle }

// Expired returns how many requests were answered because their time was over.
func (t *Timeout) Expired() uint64 { return t.expired.Load() }

func (t *Timeout) handle(ctx *arpc.Context) {
	if !ctx.SetTimeout(t.limit) || isNotice(ctx) {
		return // the caller stops waiting before, or nobody waits
	}
	h := t.enter(ctx)
	defer t.leave(h)
	ctx.Next()
}

func (t *Timeout) enter(ctx *arpc.Context) *handling {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.armed {
		t.arm(t.limit)
	}
	return t.inHand.add(ctx)
}

func (t *Timeout) leave(h *handling) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inHand.remove(h)
}

// arm has expire run after d. Guarded by mu.
func (t *Timeout) arm(d time.Duration) {
	t.armed = true
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.expire)
		return
	}
	t.timer.Reset(d)
}

// expire answers the requests whose time is over.
func (t *Timeout) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = false
	for h := t.inHand.head; h != nil; h = t.inHand.head {
		if deadline, _ := h.ctx.Deadline(); time.Until(deadline) > 0 {
			t.arm(time.Until(deadline))
			return
		}
		go t.answer(h.ctx) // it may wait for room on its connection
		t.inHand.takeOut(h)
	}
}

func (t *Timeout) answer(ctx *arpc.Context) {
	if ctx.Error(t.err) == nil {
		t.expired.Add(1)
	}
}

// handlings are the requests in hand, in the order of their deadlines, which is
// that in which they came.
type handlings struct {
	head, tail *handling
	free       *handling // to be used again, linked by next
	frees      int
}

// handling is a request in hand.
type handling struct {
	ctx        *arpc.Context // nil: it was taken out
	prev, next *handling
}

// maxFree is how many handlings are kept for later.
const maxFree = 1024

func (l *handlings) add(ctx *arpc.Context) *handling {
	h := l.free
	if h == nil {
		h = new(handling)
	} else {
		l.free, h.next = h.next, nil
		l.frees--
	}
	h.ctx, h.prev = ctx, l.tail
	if l.tail == nil {
		l.head = h
	} else {
		l.tail.next = h
	}
	l.tail = h
	return h
}

// takeOut takes a handling out of the list. It stays its handler's.
func (l *handlings) takeOut(h *handling) {
	if h.prev == nil {
		l.head = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		l.tail = h.prev
	} else {
		h.next.prev = h.prev
	}
	h.ctx, h.prev, h.next = nil, nil, nil
}

// remove gives a handling back.
func (l *handlings) remove(h *handling) {
	if h.ctx != nil {
		l.takeOut(h)
	}
	if l.frees < maxFree {
		h.next, l.free = l.free, h
		l.frees++
	}
}
