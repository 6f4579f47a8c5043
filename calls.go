package arpc

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// call is one request of ours in flight. Whoever takes it out of the table
// finishes it, once.
type call struct {
	done     chan struct{}  // one token when it is finished; capacity 1
	callback func(*Context) // of CallAsync; then done is not used
	method   string
	rsp      any
	codec    codec.Codec
	seq      uint64

	// Guarded by conn.mu while the call is in the table.
	offset uint64 // where its frame starts in the connection's output

	// Set by whoever finishes the call.
	err     error
	payload []byte // the response, when the caller is to decode it
	encoded bool   // payload holds a response
}

// notSent is the offset of a call whose frame is not in the output yet.
const notSent = ^uint64(0)

// callPool keeps calls for reuse. Each Handler has its own, as a channel made in
// a testing/synctest bubble must not be used outside.
type callPool struct{ pool sync.Pool }

func (p *callPool) get(method string, rsp any, cd codec.Codec) *call {
	k, _ := p.pool.Get().(*call)
	if k == nil {
		k = &call{done: make(chan struct{}, 1)}
	}
	k.method, k.rsp, k.codec, k.offset = method, rsp, cd, notSent
	return k
}

// put takes a finished call back whose token was taken.
func (p *callPool) put(k *call) {
	k.rsp, k.codec, k.err, k.encoded, k.seq = nil, nil, nil, false, 0
	if cap(k.payload) > maxPooled {
		k.payload = nil
	}
	p.pool.Put(k)
}

// finish ends a call that was taken out of the table without an answer.
func (k *call) finish(c *conn, err error) {
	if k.callback != nil {
		go c.runCallback(k, err)
		return
	}
	k.err = err
	k.done <- struct{}{}
}

// answer ends a call whose response the reader has. The reader copies, and
// leaves what may run the user's code to the caller.
func (k *call) answer(h wire.Header, data []byte) {
	switch {
	case h.Flag&wire.FlagError != 0:
		k.err = remoteError(string(data))
	case decodesInPlace(k.rsp):
		k.err = decode(nil, data, k.rsp)
	default:
		k.payload, k.encoded = append(k.payload[:0], data...), true
	}
	k.done <- struct{}{}
}

// result is called by the caller after it took the token.
func (k *call) result() error {
	if k.err == nil && k.encoded {
		return decode(k.codec, k.payload, k.rsp)
	}
	return k.err
}

// callTable holds the calls in flight of one connection. A sequence number is
// the number of the connection (16 bits), the generation of a slot (24) and its
// index (24). So a response is looked up by an index and a compare, and one that
// comes twice, late, or was meant for an earlier connection misses. Connections
// and generations begin at random: a peer may outlive this process and answer
// what it was asked by the last one. Guarded by conn.mu.
type callTable struct {
	conn  uint16
	slots []slot
	free  uint32 // index + 1 of the first free slot, 0: none
	n     int
	gen   uint32 // of slots yet to be made
}

type slot struct {
	call     *call
	deadline int64 // nanoseconds since the connection was made, 0: none
	gen      uint32
	next     uint32 // as callTable.free
}

func newCallTable(conn uint16) callTable {
	return callTable{conn: conn, gen: rand.Uint32()}
}

const (
	indexBits = 24
	indexMask = 1<<indexBits - 1
	genMask   = 1<<24 - 1
)

// keepSlots is how many slots an empty table keeps.
const keepSlots = 1024

func (t *callTable) add(k *call, deadline int64) uint64 {
	if t.free == 0 {
		t.slots = append(t.slots, slot{gen: t.gen})
		t.free = uint32(len(t.slots))
	}
	index := t.free
	s := &t.slots[index-1]
	t.free = s.next
	s.call, s.deadline = k, deadline
	t.n++
	k.seq = t.seq(index, s.gen)
	return k.seq
}

func (t *callTable) seq(index, gen uint32) uint64 {
	return uint64(t.conn)<<48 | uint64(gen&genMask)<<indexBits | uint64(index)
}

// find returns the slot of the call with this number, nil if there is none.
func (t *callTable) find(seq uint64) *slot {
	index := uint32(seq & indexMask)
	if index == 0 || int(index) > len(t.slots) {
		return nil
	}
	s := &t.slots[index-1]
	if s.call == nil || t.seq(index, s.gen) != seq {
		return nil
	}
	return s
}

// take removes and returns the call with this number, nil if there is none.
func (t *callTable) take(seq uint64) *call {
	s := t.find(seq)
	if s == nil {
		return nil
	}
	index := uint32(seq & indexMask)
	k := s.call
	*s = slot{gen: s.gen + 1, next: t.free}
	t.free = index
	if t.n--; t.n == 0 && len(t.slots) > keepSlots {
		t.shrink()
	}
	return k
}

// shrink drops the slots of an empty table. The generation moves past all that
// were in use.
func (t *callTable) shrink() {
	next := t.gen
	for i := range t.slots {
		next = max(next, t.slots[i].gen)
	}
	*t = callTable{conn: t.conn, gen: next}
}

func (t *callTable) takeAll() []*call {
	var all []*call
	for i := range t.slots {
		if k := t.slots[i].call; k != nil {
			all = append(all, k)
		}
	}
	*t = newCallTable(t.conn)
	return all
}

// takeExpired removes the calls whose deadline has passed and returns the
// earliest deadline that is left, 0 if none is.
func (t *callTable) takeExpired(now int64) (expired []*call, next int64) {
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.call == nil || s.deadline == 0:
		case s.deadline <= now:
			expired = append(expired, s.call)
		case next == 0 || s.deadline < next:
			next = s.deadline
		}
	}
	for _, k := range expired {
		t.take(k.seq)
	}
	return expired, next
}

// roundTrip sends a request and waits for its response, the end of ctx, the
// deadline, or the end of the connection.
func (c *conn) roundTrip(ctx context.Context, timeout time.Duration, method string, p payload, rsp any, cd codec.Codec) error {
	k := c.handler.calls.get(method, rsp, cd)
	mark := c.mark.Load()
	o := outgoing{header: wire.Header{Cmd: wire.CmdRequest}, method: method, payload: p, call: k, timeout: timeout}
	if err := c.send(ctx, &o); err != nil {
		if k.seq != 0 && !c.abandon(k) { // somebody else has ended it, or is about to
			<-k.done
			err = k.result()
		}
		c.handler.calls.put(k)
		return err
	}
	c.aboutToWait(mark)
	err := c.await(ctx, k)
	c.handler.calls.put(k)
	return err
}

func (c *conn) await(ctx context.Context, k *call) error {
	if ctx.Done() == nil {
		<-k.done
		return k.result()
	}
	select {
	case <-k.done:
		return k.result()
	case <-ctx.Done():
	}
	if c.abandon(k) {
		return contextError(ctx, false)
	}
	<-k.done // the answer was faster
	return k.result()
}

// abandon takes a call out of the table. It reports false when somebody else
// has taken it and is finishing it.
func (c *conn) abandon(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls.take(k.seq) == k
}

// answered hands a response to the call that waits for it.
func (r *reader) answered(h wire.Header, frame []byte) bool {
	c := r.conn
	_, data := wire.Split(frame, h)
	c.mu.Lock()
	k := c.calls.take(h.Seq)
	c.mu.Unlock()
	if k == nil {
		r.missed(frame)
		return true
	}
	if k.callback != nil {
		return r.callback(k, h, frame)
	}
	k.answer(h, data)
	return true
}

// now is the connection's clock for deadlines, in nanoseconds.
func (c *conn) now() int64 { return int64(time.Since(c.born)) }

// deadlineIn returns the connection's time after d, 0 for no deadline.
func (c *conn) deadlineIn(d time.Duration) int64 {
	if d <= 0 || d == TimeForever {
		return 0
	}
	return c.now() + int64(d)
}

// expireAt has the sweeper look at the table at t or before. There is no timer
// per call: one per connection stands at the earliest deadline, and is moved
// only by an earlier one. Guarded by conn.mu.
func (c *conn) expireAt(t int64) {
	if t == 0 || c.sweepAt != 0 && c.sweepAt <= t {
		return
	}
	t = max(t, c.sweepFrom)
	c.sweepAt = t
	wait := max(time.Duration(t-c.now()), 0)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(wait, c.sweep)
		return
	}
	c.sweeper.Reset(wait)
}

// sweepPause spaces sweeps by so many times what the last one took, at least a
// millisecond: they never cost more than a twentieth of a core, and deadlines of
// a huge table are late by as much.
const sweepPause = 20

func (c *conn) sweep() {
	c.mu.Lock()
	start := c.now()
	expired, next := c.calls.takeExpired(start)
	c.sweepAt = 0
	c.sweepFrom = start + max(int64(time.Millisecond), (c.now()-start)*sweepPause)
	if c.cause == nil {
		c.expireAt(next)
	}
	c.mu.Unlock()
	for _, k := range expired {
		k.finish(c, timeoutError(k.offset == notSent)) // what was appended may still leave
	}
}
