package arpc

import (
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"sync"

	"github.com/arpc-go/arpc/internal/wire"
)

// tombstonesPerStream is how many ids of refused streams a connection
// remembers, in multiples of WithMaxStreams.
const tombstonesPerStream = 16

// Stream is a sequence of messages in both directions between a handler and
// whoever opened it. Its messages arrive in the order they were sent. Send and
// Recv may be called at the same time from different goroutines.
//
// Version 1 of the wire has no flow control: what the peer sends waits in a
// queue, WithStreamQueue, and a stream that overruns it is dropped with
// ErrStreamOverrun on this side and an end on the other.
type Stream struct {
	// Set when the stream is made, never changed.
	conn   *conn
	id     uint64
	method string
	local  bool            // opened by this side
	opener context.Context // of OpenStream, nil for a stream of the peer
	ctx    context.Context
	cancel context.CancelCauseFunc
	ready  chan struct{} // capacity 1: something is in the queue
	ended  chan struct{} // closed when nothing more comes

	counted bool // in streamTable.busy; guarded by streamTable.mu

	// Guarded by mu.
	mu        sync.Mutex
	queue     [][]byte
	head      int // queue[:head] is taken
	queued    int // bytes in the queue
	recvErr   error
	recvEnded bool  // recvErr is set
	peerEnded bool  // the peer's end bit has come
	sendErr   error // why Send fails; ErrStreamClosed when this side has closed
	endSent   bool
	stop      func() bool // no longer wait for the end of the opener's context
}

// OpenStream opens a stream to the peer's handler of method. With version 1 of
// the wire the peer learns of it with the first Send or CloseSend. Ending ctx
// ends the stream, and not the connection.
func (c *Client) OpenStream(ctx context.Context, method string) (*Stream, error) {
	if err := checkMethod(method); err != nil {
		return nil, unsent(err)
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx, true)
	}
	cn, err := c.current()
	if err != nil {
		return nil, err
	}
	return cn.streams.openLocal(ctx, cn, method)
}

func newStream(ctx context.Context, c *conn, id uint64, method string, local bool) *Stream {
	s := &Stream{conn: c, id: id, method: method, local: local, ready: make(chan struct{}, 1), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// ID returns the stream's number, unique among those that the same side opened
// on the connection.
func (s *Stream) ID() uint64 { return s.id }

// Method returns the name the stream was opened with.
func (s *Stream) Method() string { return s.method }

// Client returns the client at whose other end the peer is.
func (s *Stream) Client() *Client { return s.conn.client }

// Context ends when the stream does. Its cause says why.
func (s *Stream) Context() context.Context { return s.ctx }

// Send sends a message, encoded as Client.Call does. It waits when the send
// queue is full, until the stream ends. The value may be reused when Send
// returns.
func (s *Stream) Send(v any) error { return s.SendContext(s.ctx, v) }

// SendContext is Send that gives up when ctx ends.
func (s *Stream) SendContext(ctx context.Context, v any) error {
	p, err := encode(s.conn.client.Codec, v)
	if err != nil {
		return unsent(err)
	}
	s.mu.Lock()
	err = s.sendErr
	s.mu.Unlock()
	if err != nil {
		return err
	}
	o := outgoing{header: s.header(0), method: s.method, payload: p}
	return s.conn.send(ctx, &o)
}

func (s *Stream) header(bits byte) wire.Header {
	if s.local {
		bits |= wire.StreamOpener
	}
	return wire.Header{Cmd: wire.CmdStream | bits, Seq: s.id}
}

// CloseSend tells the peer that no more comes; its Recv returns io.EOF after
// the messages that came before. This side may go on receiving. A second
// CloseSend does nothing.
func (s *Stream) CloseSend() error {
	if !s.closeSend(ErrStreamClosed) {
		return nil
	}
	over := s.forgetIfOver() // before: who sees the end may open the next stream
	o := outgoing{header: s.header(wire.StreamEnd), method: s.method}
	err := s.conn.send(s.ctx, &o)
	if over {
		s.cancel(ErrStreamClosed)
	}
	return err
}

// closeSend makes later Sends fail. It reports whether the end is to be sent.
func (s *Stream) closeSend(why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sendErr == nil {
		s.sendErr = why
	}
	first := !s.endSent
	s.endSent = true
	return first
}

// Recv waits for the next message and decodes it into v, as Context.Bind does.
// It returns io.EOF after the peer has closed its half.
func (s *Stream) Recv(v any) error { return s.RecvContext(s.ctx, v) }

// RecvContext is Recv that gives up when ctx ends. The stream goes on.
func (s *Stream) RecvContext(ctx context.Context, v any) error {
	data, err := s.next(ctx)
	if err != nil {
		return err
	}
	if b, ok := v.(*[]byte); ok && b != nil {
		*b = data
		return nil
	}
	return decode(s.conn.client.Codec, data, v)
}

// RecvSeq returns the messages that are still to come, as bytes that are the
// caller's. The last pair has an error unless the peer closed its half.
func (s *Stream) RecvSeq() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			data, err := s.next(s.ctx)
			if errors.Is(err, io.EOF) || !yield(data, err) || err != nil {
				return
			}
		}
	}
}

func (s *Stream) next(ctx context.Context) ([]byte, error) {
	for yielded := false; ; {
		data, err, ok := s.pop()
		if ok {
			return data, err
		}
		if mark := s.conn.mark.Load(); mark&markRunning != 0 && !yielded {
			yielded = true
			runtime.Gosched()
			s.conn.aboutToWait(mark)
			continue
		}
		select {
		case <-s.ready:
		case <-s.ended:
		case <-ctx.Done():
			if data, err, ok := s.pop(); ok {
				return data, err
			}
			return nil, contextError(ctx, false)
		}
	}
}

// pop takes the next message, or the end behind the last.
func (s *Stream) pop() (data []byte, err error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head == len(s.queue) {
		return nil, s.recvErr, s.recvEnded
	}
	data = s.queue[s.head]
	s.queue[s.head] = nil
	s.head++
	s.queued -= len(data)
	s.conn.streamBytes.Add(-int64(len(data)))
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
		s.settled()
	} else {
		s.signal() // for another receiver
	}
	return data, nil, true
}

// settled lets the opener's context go when nothing is left to do at its end.
// Guarded by mu.
func (s *Stream) settled() {
	if s.recvEnded && s.endSent && s.head == len(s.queue) && s.stop != nil {
		s.stop()
	}
}

func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// push queues a message for Recv. It reports false when the queue is full.
func (s *Stream) push(data []byte) bool {
	c := s.conn
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recvEnded {
		return true // nobody wants it
	}
	waiting := len(s.queue) - s.head
	held := c.streamBytes.Load() + int64(len(data))
	if waiting > 0 && (waiting >= c.settings.streamMessages || s.queued+len(data) > c.settings.streamBytes || held > int64(c.settings.maxInflightBytes)) {
		return false
	}
	if s.head > 0 && len(s.queue) == cap(s.queue) {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	s.queue = append(s.queue, append(make([]byte, 0, len(data)), data...))
	s.queued += len(data)
	c.streamBytes.Add(int64(len(data)))
	s.signal()
	return true
}

// endRecv lets Recv return err after the messages that are queued.
func (s *Stream) endRecv(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.recvEnded {
		s.recvErr, s.recvEnded = err, true
		close(s.ended)
	}
}

// Close ends the stream both ways: the peer's Recv returns io.EOF, what it
// still sends is dropped, and so is what was not received yet. It does not
// wait. A second Close does nothing. A stream that is not received to its end
// holds what has come until it is closed, or the context it was opened with ends.
func (s *Stream) Close() error {
	s.drop(ErrStreamClosed)
	s.discard()
	return nil
}

// drop ends the stream both ways because of err.
func (s *Stream) drop(err error) {
	s.endRecv(err)
	first := s.closeSend(err)
	s.conn.streams.remove(s)
	if first {
		s.conn.reply(s.header(wire.StreamEnd), s.method, "")
	}
	s.cancel(err)
}

// abandon closes a stream whose opener's context has ended.
func (s *Stream) abandon() {
	s.drop(contextError(s.opener, false))
	s.discard()
}

// discard empties the queue.
func (s *Stream) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.streamBytes.Add(-int64(s.queued))
	s.queue, s.head, s.queued = nil, 0, 0
	s.settled()
}

// lost ends the stream with its connection.
func (s *Stream) lost(err error) {
	s.endRecv(err)
	s.closeSend(err)
	s.cancel(err)
}

// peerEnd notes the peer's end bit.
func (s *Stream) peerEnd() {
	s.mu.Lock()
	s.peerEnded = true
	s.mu.Unlock()
	s.endRecv(io.EOF)
	if s.forgetIfOver() {
		s.cancel(ErrStreamClosed)
	}
}

// forgetIfOver takes the stream out of the table if both sides have closed
// their half.
func (s *Stream) forgetIfOver() bool {
	s.mu.Lock()
	over := s.peerEnded && s.endSent
	s.mu.Unlock()
	if over {
		s.conn.streams.remove(s)
	}
	return over
}

// serve runs the handler of a stream that the peer opened.
func (s *Stream) serve(fn StreamHandlerFunc, gate chan struct{}) {
	if gate != nil {
		<-gate
	}
	defer s.conn.streams.served(s)
	defer s.Close()
	s.conn.guard("stream handler of "+s.method, func() { fn(s) })
}

// streamTable holds the streams of one connection. Ids of the two sides are
// separate spaces.
type streamTable struct {
	mu     sync.Mutex
	lastID uint64
	local  map[uint64]*Stream
	remote map[uint64]*Stream
	busy   int                 // dropped streams of the peer whose handlers still run
	gone   map[uint64]struct{} // ids of the peer's streams that are dropped, until their end bit
	cause  error
}

func (t *streamTable) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.local) + len(t.remote)
}

func (t *streamTable) openLocal(ctx context.Context, c *conn, method string) (*Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != nil {
		return nil, unsent(t.cause)
	}
	if n := len(t.local) + len(t.remote) + t.busy; n >= c.settings.maxStreams {
		return nil, unsent(Errorf(CodeResourceExhausted, "arpc: %d streams are open on the connection, the limit (WithMaxStreams)", n))
	}
	t.lastID++
	s := newStream(ctx, c, t.lastID, method, true)
	if t.local == nil {
		t.local = make(map[uint64]*Stream)
	}
	t.local[s.id] = s
	s.opener = ctx
	s.mu.Lock()
	s.stop = context.AfterFunc(ctx, s.abandon)
	s.mu.Unlock()
	return s, nil
}

// received handles a stream frame. It never waits.
func (t *streamTable) received(r *reader, snap *snapshot, h wire.Header, frame []byte) {
	c := r.conn
	method, data := wire.Split(frame, h)
	s, refused := t.find(c, snap, h, string(method))
	end := h.Cmd&wire.StreamEnd != 0
	if s == nil {
		if refused != nil {
			c.settings.logger.Debug("arpc: stream refused", "peer", c.peer(), "cause", refused)
			c.reply(wire.Header{Cmd: wire.CmdStream | wire.StreamEnd, Seq: h.Seq}, string(method), "")
		}
		r.drop(frame, "no such stream")
		return
	}
	if (len(data) > 0 || !end) && !s.push(data) && !(t.reclaim() && s.push(data)) {
		c.client.stats.overruns.Add(1)
		s.drop(ErrStreamOverrun)
	}
	if end {
		s.peerEnd()
	}
}

// reclaim abandons streams whose opener's context has ended and reports whether
// there were any. It happens by itself, but maybe a moment later.
func (t *streamTable) reclaim() bool {
	t.mu.Lock()
	var ended []*Stream
	for _, s := range t.local {
		if s.opener.Err() != nil {
			ended = append(ended, s)
		}
	}
	t.mu.Unlock()
	for _, s := range ended {
		s.abandon()
	}
	return len(ended) > 0
}

// find returns the stream of a frame, opens it if the frame does, or says why
// the stream is refused. Both are nil for a frame nobody waits for.
func (t *streamTable) find(c *conn, snap *snapshot, h wire.Header, method string) (*Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.Cmd&wire.StreamOpener == 0 {
		return t.local[h.Seq], nil
	}
	if s := t.remote[h.Seq]; s != nil {
		return s, nil
	}
	end := h.Cmd&wire.StreamEnd != 0
	if _, ok := t.gone[h.Seq]; ok {
		if end {
			delete(t.gone, h.Seq)
		}
		return nil, nil
	}
	rt := snap.streams[method]
	var refused error
	switch {
	case t.cause != nil:
		return nil, nil
	case rt == nil:
		refused = ErrMethodNotFound
	case len(t.local)+len(t.remote)+t.busy >= c.settings.maxStreams:
		refused = NewError(CodeResourceExhausted, "arpc: too many streams (WithMaxStreams)")
	}
	if refused != nil {
		if !end {
			t.bury(c, h.Seq)
		}
		return nil, refused
	}
	s := newStream(context.Background(), c, h.Seq, method, false)
	if t.remote == nil {
		t.remote = make(map[uint64]*Stream)
	}
	t.remote[h.Seq] = s
	go s.serve(rt.fn, c.gate)
	return s, nil
}

// bury remembers that frames of a stream of the peer are to be dropped until
// its end bit. Guarded by t.mu.
func (t *streamTable) bury(c *conn, id uint64) {
	if t.gone == nil {
		t.gone = make(map[uint64]struct{})
	}
	if len(t.gone) >= tombstonesPerStream*c.settings.maxStreams {
		go c.fail(NewError(CodeResourceExhausted, "arpc: the peer goes on with too many streams that were refused (WithMaxStreams)"))
		return
	}
	t.gone[id] = struct{}{}
}

// remove forgets a stream. When the peer may send more on one of its own, that
// is remembered.
func (t *streamTable) remove(s *Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.remote
	if s.local {
		table = t.local
	}
	if table[s.id] != s {
		return
	}
	delete(table, s.id)
	s.mu.Lock()
	s.settled()
	moreMayCome := !s.peerEnded && !s.local
	s.mu.Unlock()
	if moreMayCome {
		t.bury(s.conn, s.id)
		s.counted = true
		t.busy++
	}
}

// served is called when the handler of a stream of the peer has returned.
func (t *streamTable) served(s *Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.counted {
		s.counted = false
		t.busy--
	}
}

// reset drops the stream of a frame that makes no sense, or refuses the one that
// it would have opened.
func (t *streamTable) reset(c *conn, h wire.Header, method string, err error) {
	opener := h.Cmd&wire.StreamOpener != 0
	t.mu.Lock()
	s := t.local[h.Seq]
	if opener {
		s = t.remote[h.Seq]
	}
	_, gone := t.gone[h.Seq]
	opens := opener && s == nil && !gone
	if opens && h.Cmd&wire.StreamEnd == 0 {
		t.bury(c, h.Seq)
	}
	t.mu.Unlock()
	if s != nil {
		s.drop(err)
	}
	if opens {
		c.reply(wire.Header{Cmd: wire.CmdStream | wire.StreamEnd, Seq: h.Seq}, method, "")
	}
}

// fail ends all streams with the connection.
func (t *streamTable) fail(err error) {
	t.mu.Lock()
	t.cause = err
	var all []*Stream
	for _, table := range []map[uint64]*Stream{t.local, t.remote} {
		for _, s := range table {
			all = append(all, s)
		}
	}
	t.local, t.remote, t.gone = nil, nil, nil
	t.mu.Unlock()
	for _, s := range all {
		s.lost(err)
	}
}
