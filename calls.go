package arpc

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// call is one request of ours in flight. Whoever takes it out of the table
// finishes it, once.
type call struct {
	// What the reader looks at comes first, so that it is in few cache lines.
	done     chan struct{}  // one token when it is finished; capacity 1
	callback func(*Context) // of CallAsync; then done is not used
	rsp      any
	err      error    // set by whoever finishes the call, as those with a star
	wantMeta bool     // the caller wants the metadata of the response
	shared   bool     // rsp has the memory of the request, which may still be written
	encoded  bool     // payload holds a response *
	payload  []byte   // the response, when the caller is to decode it *
	metadata Metadata // *

	seq    uint64
	method string
	codec  codec.Codec

	// Guarded by conn.mu while the call is in the table.
	offset   uint64 // where its frame starts in the connection's output
	deadline int64  // on the connection's clock, 0: none
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

// put takes a finished call back that nobody looks at any more and whose token was taken.
func (p *callPool) put(k *call) {
	k.rsp, k.codec, k.err, k.encoded, k.seq, k.deadline = nil, nil, nil, false, 0, 0
	k.metadata, k.wantMeta, k.shared, k.callback = nil, false, false, nil
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
func (k *call) answer(h wire.Header, meta *wire.Meta, data []byte) {
	if k.wantMeta && meta != nil {
		k.metadata = metadataOf(meta.NPairs, meta.Pairs())
	}
	switch {
	case h.Flag&wire.FlagError != 0:
		k.err = remoteErrorOf(meta, data)
	case decodesInPlace(k.rsp) && !k.shared:
		k.err = decode(nil, data, k.rsp)
	default:
		k.payload, k.encoded = append(k.payload[:0], data...), true
	}
	k.done <- struct{}{}
}

// result is called by the caller after it took the token.
func (k *call) result(c *conn) error {
	if k.err == nil && k.encoded {
		return decode(k.codec, k.payload, k.rsp)
	}
	if e, ok := k.err.(*Error); ok && e.remote {
		if e.code == CodeDeadlineExceeded && k.deadline != 0 && c.now() >= k.deadline {
			return timeoutError(false) // the peer was quicker to see that our deadline passed
		}
		return c.handler.snapshot().details.decode(c.client.Codec, e)
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
	slots []slot
	n     int
	free  uint32        // index + 1 of the first free slot, 0: none
	gen   uint32        // of slots yet to be made
	turns *turns        // who waits for a call to end before it begins its own; nil: nobody did
	count *atomic.Int64 // n for others
	conn  uint16
}

type slot struct {
	call     *call
	deadline int64 // nanoseconds since the connection was made, 0: none
	gen      uint32
	next     uint32 // as callTable.free
}

func newCallTable(conn uint16, count *atomic.Int64) callTable {
	count.Store(0)
	return callTable{conn: conn, gen: rand.Uint32(), count: count}
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
	t.count.Store(int64(t.n))
	k.seq = t.seq(index, s.gen)
	return k.seq
}

// full reports whether a call has to wait for its turn. 0 is no limit.
func (t *callTable) full(limit int) bool {
	return limit > 0 && t.n+t.turns.awaited() >= limit
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
	k := t.remove(seq)
	if k != nil {
		t.counted()
	}
	return k
}

// counted tells others of a change of n, and shrinks a table that became empty.
func (t *callTable) counted() {
	t.count.Store(int64(t.n))
	if t.n == 0 && len(t.slots) > keepSlots {
		t.shrink()
	}
}

// remove is take for who calls counted when it is done.
func (t *callTable) remove(seq uint64) *call {
	s := t.find(seq)
	if s == nil {
		return nil
	}
	index := uint32(seq & indexMask)
	k := s.call
	*s = slot{gen: s.gen + 1, next: t.free}
	t.free = index
	if t.turns != nil {
		t.turns.wake()
	}
	t.n--
	return k
}

// shrink drops the slots of an empty table. The generation moves past all that
// were in use.
func (t *callTable) shrink() {
	next := t.gen
	for i := range t.slots {
		next = max(next, t.slots[i].gen)
	}
	*t = callTable{conn: t.conn, gen: next, turns: t.turns, count: t.count}
}

func (t *callTable) takeAll() []*call {
	var all []*call
	for i := range t.slots {
		if k := t.slots[i].call; k != nil {
			all = append(all, k)
		}
	}
	t.turns.wakeAll()
	*t = newCallTable(t.conn, t.count)
	return all
}

// turns are who waits for something, the first to come first. Guarded by conn.mu. Nil
// ones are nobody.
type turns struct {
	waiting  []*turn
	gone     int // of those that wait no more
	promised int // turns that came and were not taken yet
}

// turn is one who waits.
type turn struct {
	came chan struct{} // closed when it is its turn
	over bool          // it came, or is not waited for any more
}

// awaited returns how many have been promised a turn and did not take it yet.
func (t *turns) awaited() int {
	if t == nil {
		return 0
	}
	return t.promised
}

func (t *turns) len() int {
	if t == nil {
		return 0
	}
	return len(t.waiting)
}

func (t *turns) add() *turn {
	added := &turn{came: make(chan struct{})}
	t.waiting = append(t.waiting, added)
	return added
}

// remove reports whether the turn had not come yet.
func (t *turns) remove(given *turn) bool {
	if given.over {
		return false
	}
	given.over = true
	if t.gone++; t.gone > len(t.waiting)/2 {
		t.waiting = slices.DeleteFunc(t.waiting, func(other *turn) bool { return other.over })
		t.gone = 0
	}
	return true
}

func (t *turns) wake() {
	for len(t.waiting) > 0 {
		first := t.waiting[0]
		t.waiting = t.waiting[1:]
		if !first.over {
			first.over = true
			t.promised++
			close(first.came)
			return
		}
		t.gone--
	}
}

// taken is called by whose turn came. If it makes no use of it, the next one may.
func (t *turns) taken(used bool) {
	if t == nil {
		return // the connection has ended
	}
	if t.promised--; !used {
		t.wake()
	}
}

func (t *turns) wakeAll() {
	for t.len() > 0 {
		t.wake()
	}
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

// place sends a request, and returns what is left of the timeout, too. The call is in
// flight then, and settle waits for it.
func (c *conn) place(ctx context.Context, info *callInfo, timeout time.Duration, method string, p *parcel, rsp any) (*call, time.Duration, error) {
	o := outgoing{
		header:  wire.Header{Cmd: wire.CmdRequest},
		method:  method,
		section: p.section,
		payload: p.payload,
		values:  info.values,
		timeout: timeout,
		left:    timeLeft(ctx, timeout),
		begins:  true,
	}
	k, err := c.request(ctx, &o, rsp, info)
	return k, o.timeout, err
}

func (c *conn) request(ctx context.Context, o *outgoing, rsp any, info *callInfo) (*call, error) {
	k := c.handler.calls.get(o.method, rsp, c.client.Codec)
	k.wantMeta = info.response != nil
	k.shared = len(o.payload.b) >= largeBody && sharesMemory(rsp, o.payload.b)
	o.call = k
	mark := c.mark.Load()
	err := c.send(ctx, o)
	if err == nil {
		c.aboutToWait(mark)
		return k, nil
	}
	if k.seq != 0 {
		if taken, _ := c.abandon(k); !taken { // somebody else has ended it, or is about to
			return k, nil
		}
	}
	if k.wantMeta {
		*info.response = nil
	}
	c.handler.calls.put(k)
	return nil, err
}

// settle waits for the response to a request, the end of ctx, the deadline, or the end
// of the connection.
func (c *conn) settle(ctx context.Context, k *call, info *callInfo) (err error) {
	if ctx.Done() == nil {
		<-k.done
		err = k.result(c)
	} else {
		err = c.await(ctx, k)
	}
	if k.wantMeta {
		*info.response = k.metadata
	}
	c.handler.calls.put(k)
	return err
}

func (c *conn) await(ctx context.Context, k *call) error {
	select {
	case <-k.done:
		return k.result(c)
	case <-ctx.Done():
	}
	if taken, offset := c.abandon(k); taken {
		err := contextError(ctx, offset == notSent)
		if offset != notSent {
			c.cancelCall(k.seq, offset, err.code)
		}
		return err
	}
	<-k.done // the answer was faster
	return k.result(c)
}

// abandon takes a call out of the table and says where in the output its frame
// starts. It reports false when somebody else has taken it and is finishing it.
func (c *conn) abandon(k *call) (taken bool, offset uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls.take(k.seq) == k, k.offset
}

// cancelCall tells the peer that nobody waits for a call any more, unless that is
// because of the deadline, which it knows.
func (c *conn) cancelCall(seq, offset uint64, why Code) {
	if !c.cancels.Load() || why == CodeDeadlineExceeded && c.knowsDeadlines.Load() {
		return
	}
	o := outgoing{header: wire.Header{Cmd: wire.CmdCancel, Seq: seq}, reply: true, urgent: true, behind: offset}
	c.send(context.Background(), &o) // without it the peer does what nobody needs
}

// answersAtOnce is how many responses in a row are looked up under one lock.
const answersAtOnce = 32

// answered hands the response in hand, and those right behind it, to the calls that
// wait for them. It reports false when the baton went to another reader.
func (r *reader) answered(h wire.Header, frame []byte) bool {
	n := r.takeCalls(h.Seq)
	for i := range n {
		var err error
		if i > 0 {
			h = wire.ParseHeader(r.s.buf[r.r:])
			frame = r.next(h.FrameLen())
			err = r.readMeta(&h, frame)
		}
		k := r.s.calls[i]
		r.s.calls[i] = nil
		switch {
		case k == nil: // the last one
			r.missed(frame)
		case err != nil:
			k.finish(r.conn, err)
		case k.callback != nil: // the last one
			return r.callback(k, h, frame)
		default:
			_, data := wire.Split(frame, h)
			k.answer(h, r.metaOf(h), data[r.sectionLen:])
		}
	}
	return true
}

// takeCalls takes the calls out of the table that the response in hand and those
// behind it are for, and returns how many there are. What runs the user's code, a
// callback or a hook for nobody's response, comes last.
func (r *reader) takeCalls(seq uint64) (n int) {
	c := r.conn
	alone := c.phase != phaseOpen || c.handler.snapshot().coders != nil
	at := r.r
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.calls.counted()
	for {
		k := c.calls.remove(seq)
		r.s.calls[n] = k
		n++
		if k == nil || k.callback != nil || alone || n == answersAtOnce {
			return n
		}
		rest := r.s.buf[at:r.w]
		if len(rest) < wire.HeaderLen {
			return n
		}
		h := wire.ParseHeader(rest)
		if h.Command() != wire.CmdResponse || int64(h.BodyLen) > int64(c.settings.maxBody) || len(rest) < h.FrameLen() || h.Reserved != 0 || h.Check() != nil {
			return n
		}
		at, seq = at+h.FrameLen(), h.Seq
	}
}

// now is the connection's clock for deadlines, in nanoseconds.
func (c *conn) now() int64 { return sinceStart() - c.born }

var processStart = time.Now()

// sinceStart is the clock of the process. In a testing/synctest bubble it is another
// one, so only differences mean anything.
func sinceStart() int64 { return int64(time.Since(processStart)) }

// deadlineIn returns the connection's time after d, 0 for no deadline.
func (c *conn) deadlineIn(d time.Duration) int64 {
	if d <= 0 || d > maxDeadline {
		return 0
	}
	return c.now() + int64(d)
}

// maxDeadline is the longest timeout that is not as good as none.
const maxDeadline = math.MaxInt64 / 2

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
		if k.offset != notSent {
			c.cancelCall(k.seq, k.offset, CodeDeadlineExceeded)
		}
		k.finish(c, timeoutError(k.offset == notSent)) // what was appended may still leave
	}
}
