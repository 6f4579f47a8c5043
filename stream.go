package arpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// Stream is a sequence of messages in both directions between a handler and
// whoever opened it. Its messages arrive in the order they were sent. Send and
// Recv may be called at the same time from different goroutines.
//
// A sender waits while the receiver has as much in hand as WithStreamWindow says:
// a stream that nobody receives from holds its sender up, and nothing else on the
// connection. Version 1 of the wire has no flow control: what such a peer sends
// waits in a queue, WithStreamQueue, and a stream that overruns it is dropped with
// ErrStreamOverrun on this side and an end on the other.
type Stream struct {
	// Set when the stream is made, never changed.
	conn     *conn
	id       uint64
	method   string
	local    bool            // opened by this side
	opener   context.Context // of OpenStream, nil for a stream of the peer
	metadata Metadata
	section  []byte // metadata that travels when the stream is opened
	came     int64  // when the peer's opening came, on the connection's clock
	ctx      context.Context
	cancel   context.CancelCauseFunc
	ready    chan struct{} // capacity 1: something is in the queue
	ended    chan struct{} // closed when nothing more comes
	sending  chan struct{} // capacity 1: who sends has its token in it

	serving bool // its handler runs; guarded by streamTable.mu
	counted bool // in streamTable.busy; guarded by streamTable.mu

	opening sync.Mutex // held while the peer is told of the stream
	opened  bool       // it was, or is a stream of the peer; guarded by opening

	// Guarded by mu.
	mu        sync.Mutex
	flow      bool          // it has windows
	credit    int64         // what may still be sent; it may be negative
	granted   chan struct{} // closed when there is credit; nil: nobody waits
	held      int64         // cost of what was received and not granted again
	taken     int64         // of it, what Recv has taken
	queue     [][]byte
	head      int // queue[:head] is taken
	queued    int // bytes in the queue
	recvErr   error
	recvEnded bool  // recvErr is set
	peerEnded bool  // the peer's end bit has come
	sendErr   error // why Send fails; ErrStreamClosed when this side has closed
	endSent   bool
	over      bool        // it was dropped, or the peer has cancelled it
	dropped   error       // why this side has
	stop      func() bool // no longer wait for the end of the opener's context
}

// messageCost is what a message costs beside its bytes, so that empty ones are
// not for nothing.
const messageCost = wire.HeaderLen

// OpenStream opens a stream to the peer's handler of method. Metadata, trace and
// deadline of ctx travel along; ending ctx ends the stream at both ends, and not
// the connection. A peer of version 1 learns of the stream with the first Send or
// CloseSend, and not of the rest.
func (c *Client) OpenStream(ctx context.Context, method string) (*Stream, error) {
	snap := c.Handler.snapshot()
	if snap.around == nil {
		return c.openStream(ctx, infoOf(ctx), method)
	}
	call := &Call{Kind: KindStream, Method: method, Client: c}
	err := snap.intercept(ctx, call, func(ctx context.Context, call *Call) (err error) {
		call.Stream, err = c.openStream(ctx, infoOf(ctx), call.Method)
		return err
	})
	return call.opened(err)
}

// opened returns what the interceptors have made of opening a stream.
func (call *Call) opened(err error) (*Stream, error) {
	switch s := call.Stream; {
	case err == nil && s == nil:
		return nil, NewError(CodeInternal, "arpc: OpenStream: an interceptor returned no stream and no error")
	case err != nil && s != nil:
		s.Close()
		return nil, err
	default:
		return s, err
	}
}

// openStream is OpenStream behind the interceptors.
func (c *Client) openStream(ctx context.Context, info *callInfo, method string) (*Stream, error) {
	if err := checkMethod(method); err != nil {
		return nil, unsent(err)
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx, true)
	}
	section, err := info.section()
	if err != nil {
		return nil, unsent(err)
	}
	for {
		cn, _, err := c.acquire(ctx, 0, info)
		if err != nil {
			return nil, err
		}
		s, err := cn.streamTable().openLocal(ctx, cn, method, section)
		if err != nil {
			return nil, err
		}
		if _, err = s.begin(ctx, nil); err == nil {
			return s, nil
		}
		s.lost(err)
		cn.streamTable().remove(s, false)
		if !c.again(err, cn, info) {
			return nil, err
		}
	}
}

func newStream(ctx context.Context, c *conn, id uint64, method string, local bool) *Stream {
	s := &Stream{conn: c, id: id, method: method, local: local, ready: make(chan struct{}, 1), ended: make(chan struct{}), sending: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// begin tells the peer of the stream, once: with a frame of its own, or a peer of
// version 1 with the first one, which was sent then.
func (s *Stream) begin(ctx context.Context, first *outgoing) (sent bool, err error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.opened {
		return false, nil
	}
	if first != nil && !s.conn.hasWindows() {
		first.old = true
		if err := s.mayBegin(); err != nil && first.header.Cmd&wire.StreamEnd == 0 {
			return true, err
		}
		err := s.conn.send(ctx, first)
		if !errors.Is(err, errNewer) {
			s.opened = err == nil
			return true, err
		}
	}
	if !s.conn.hasWindows() {
		return false, nil
	}
	s.conn.mu.Lock()
	window := s.conn.limits.window
	s.conn.mu.Unlock()
	s.mu.Lock()
	s.flow, s.credit = true, window
	s.mu.Unlock()
	o := outgoing{header: s.header(0), method: s.method, section: s.section, left: timeLeft(s.opener, 0), begins: true}
	o.header.Flag |= wire.FlagOpen
	if err = s.conn.send(ctx, &o); err != nil {
		return false, err
	}
	s.opened = true
	s.mu.Lock()
	why := s.dropped
	s.mu.Unlock()
	if why != nil { // what told the peer so may have been before it knew the stream
		s.reset(why)
		return false, why
	}
	return false, nil
}

func (c *conn) hasWindows() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features&wire.FeatureWindows != 0
}

// ID returns the stream's number, unique among those that the same side opened
// on the connection.
func (s *Stream) ID() uint64 { return s.id }

// Method returns the name the stream was opened with.
func (s *Stream) Method() string { return s.method }

// Client returns the client at whose other end the peer is.
func (s *Stream) Client() *Client { return s.conn.client }

// Context ends when the stream does, at the handler's side also with the deadline
// that the opener set. Its cause says why.
func (s *Stream) Context() context.Context { return s.ctx }

// Metadata returns what the opener sent along. It is not to be changed.
func (s *Stream) Metadata() Metadata { return s.metadata }

// ReceivedAt returns when the stream that the peer opened came, whatever it waited
// for since. Streams that came later have no earlier time. It is the zero time for
// a stream of this side.
func (s *Stream) ReceivedAt() time.Time {
	if s.local {
		return time.Time{}
	}
	return s.conn.timeOf(s.came)
}

// Draining is closed when either end of the connection is about to go away: the
// stream may go on, but should come to its end soon.
func (s *Stream) Draining() <-chan struct{} { return s.conn.goesAway() }

// endRecv lets Recv return err after the messages that are queued.
func (s *Stream) endRecv(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.recvEnded {
		s.recvErr, s.recvEnded = err, true
		close(s.ended)
		s.settled()
	}
}

// Close ends the stream both ways: the peer's Recv returns io.EOF, what it still
// sends is dropped, and so is what was not received yet. It does not wait. A
// second Close does nothing. A stream that is not received to its end holds what
// has come until it is closed, or the context it was opened with ends.
func (s *Stream) Close() error {
	s.drop(ErrStreamClosed)
	s.discard()
	return nil
}

// Fail ends the stream both ways because of err: the peer's Recv returns it, with
// code and details, behind the messages that were sent before. To a peer of
// version 1 it looks like Close. On a stream that has ended it does nothing.
func (s *Stream) Fail(err error) {
	if err == nil {
		err = ErrStreamClosed
	}
	s.drop(err)
	s.discard()
}

// drop ends the stream both ways because of err.
func (s *Stream) drop(err error) {
	s.mu.Lock()
	peerEnded, endSent, flow, over := s.peerEnded, s.endSent, s.flow, s.over
	if !over {
		s.over, s.dropped = true, err
	}
	s.mu.Unlock()
	if over {
		return
	}
	s.conn.streamTable().remove(s, true) // before: who sees the end may open the next stream
	s.closeSend(err)
	s.endRecv(err)
	s.cancel(err)
	switch {
	case peerEnded && endSent:
	case !flow && !endSent, flow && peerEnded && errors.Is(err, ErrStreamClosed):
		s.conn.reply(s.header(wire.StreamEnd), s.method)
	case flow:
		s.reset(err)
	}
}

// reset tells the peer that the stream is over. ErrStreamClosed is an orderly end.
func (s *Stream) reset(err error) {
	s.conn.resetStream(s.header(0).Cmd, s.id, err)
}

func (c *conn) resetStream(bits byte, id uint64, err error) {
	o := outgoing{
		header: wire.Header{Cmd: bits&^wire.CmdMask | wire.CmdCancel | wire.StreamEnd, Flag: wire.FlagError, Seq: id},
		reply:  true,
	}
	if errors.Is(err, ErrStreamClosed) {
		o.header.Flag = 0
		o.section = wire.AppendCode(nil, uint32(CodeOK))
	} else {
		text := publicText(err)
		o.section = c.errorSection(nil, err)
		o.payload = payload{s: text[:min(len(text), exemptText, int(c.maxSend.Load()))]}
	}
	c.sendReply(&o)
}

// cancelled ends the stream because the peer says so. What came before stays to
// be received.
func (s *Stream) cancelled(err error) {
	s.mu.Lock()
	s.peerEnded, s.over = true, true
	s.mu.Unlock()
	s.conn.streamTable().remove(s, true)
	end := err
	if err == nil {
		end, err = io.EOF, ErrStreamClosed
	}
	s.closeSend(err) // before: who sees the end of what comes cannot send any more
	s.endRecv(end)
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
	s.closeSend(err)
	s.endRecv(err)
	s.cancel(err)
}

// peerEnd notes the peer's end bit.
func (s *Stream) peerEnd() {
	s.mu.Lock()
	s.peerEnded = true
	s.mu.Unlock()
	over := s.forgetIfOver() // before: who sees the end may open the next stream
	s.endRecv(io.EOF)
	if over {
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
		s.conn.streamTable().remove(s, false)
	}
	return over
}

// serve runs the handler of a stream that the peer opened.
func (s *Stream) serve(rt *streamRoute, gate chan struct{}) {
	if gate != nil {
		<-gate
	}
	defer s.Close()
	returned := false
	defer func() {
		s.conn.streamTable().served(s)
		if !returned {
			s.exited(recover())
		}
	}()
	if gate != nil && s.conn.stage.Load() != stageUsed {
		returned = true
		return
	}
	if rt.counters != nil {
		start := time.Now()
		defer func() { rt.counters.handled(time.Since(start), false) }()
	}
	rt.fn(s)
	returned = true
	if errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
		s.Fail(errExpired) // that is why it returned: no orderly end
	}
}

// exited ends the stream of a handler that panicked or ended its goroutine.
func (s *Stream) exited(panicked any) {
	if panicked != nil {
		s.conn.logPanic("stream handler of "+s.method, panicked)
	}
	s.Fail(errPanicked)
}
