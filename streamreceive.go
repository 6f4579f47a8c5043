package arpc

import (
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

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
		data, grant, ok, err := s.pop()
		if ok {
			s.giveBack(grant)
			return data, s.received(err)
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
			if data, grant, ok, err := s.pop(); ok {
				s.giveBack(grant)
				return data, s.received(err)
			}
			return nil, contextError(ctx, false)
		}
	}
}

// received gives an error of the peer the values of its details. That our deadline
// passed is our own error, whoever was quicker to see it.
func (s *Stream) received(err error) error {
	if s.local && IsRemote(err) && CodeOf(err) == CodeDeadlineExceeded {
		if deadline, ok := s.opener.Deadline(); ok && !time.Now().Before(deadline) {
			return timeoutError(false)
		}
	}
	return s.conn.handler.snapshot().details.decode(s.conn.client.Codec, err)
}

// giveBack grants the peer what was taken.
func (s *Stream) giveBack(grant int64) {
	if grant == 0 {
		return
	}
	o := outgoing{header: s.header(0), reply: true, urgent: true, payload: payload{b: wire.AppendUvarintBody(nil, uint64(grant))}}
	o.header.Cmd = o.header.Cmd&^wire.CmdMask | wire.CmdWindow
	s.conn.sendReply(&o)
}

// pop takes the next message, or the end behind the last. It says what the peer
// is to be granted: half a window at a time.
func (s *Stream) pop() (data []byte, grant int64, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head == len(s.queue) {
		return nil, 0, s.recvEnded, s.recvErr
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
	s.taken += int64(messageCost + len(data))
	if s.flow && !s.recvEnded && s.taken >= int64(s.conn.settings.streamWindow)/2 {
		grant = s.taken
		s.held -= grant
		s.taken = 0
	}
	return data, grant, true, nil
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

// push queues a message for Recv. It reports false when there is no room.
func (s *Stream) push(data []byte) bool {
	c := s.conn
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recvEnded {
		return true // nobody wants it
	}
	if !s.hasRoom(len(data)) {
		return false
	}
	s.held += int64(messageCost + len(data))
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

// hasRoom reports whether one more message may wait. With a window the peer may
// overdraw it by one message; for one that is larger than the window the streams
// of a connection share a limit. Guarded by mu.
func (s *Stream) hasRoom(n int) bool {
	c := s.conn
	held := c.streamBytes.Load()
	fits := held == 0 || held+int64(n) <= int64(c.settings.maxInflightBytes)
	if s.flow {
		window := int64(c.settings.streamWindow)
		return s.held < window && (int64(n) <= window || fits)
	}
	waiting := len(s.queue) - s.head
	if waiting == 0 {
		return fits || n <= c.settings.streamBytes
	}
	return fits && waiting < c.settings.streamMessages && s.queued+n <= c.settings.streamBytes
}

// overrun is the error of a stream that the peer sent too much on.
func (s *Stream) overrun() error {
	if !s.flow {
		return ErrStreamOverrun
	}
	return Errorf(CodeResourceExhausted, "arpc: the peer sent more than the windows of its streams allow (WithStreamWindow, WithMaxInflightBytes): %w", ErrStreamOverrun)
}
