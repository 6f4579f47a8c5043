package arpc

import (
	"context"

	"github.com/arpc-go/arpc/internal/wire"
)

// Send sends a message, encoded as Client.Call does. It waits while the receiver
// has a window full in hand or the send queue is full, until the stream ends. The
// value may be reused when Send returns.
func (s *Stream) Send(v any) error { return s.SendContext(s.ctx, v) }

// SendContext is Send that gives up when ctx ends. The stream goes on.
func (s *Stream) SendContext(ctx context.Context, v any) error {
	p, err := encode(s.conn.client.Codec, v)
	if err != nil {
		return unsent(err)
	}
	defer p.release()
	if err = s.sendPayload(ctx, p); err != nil {
		if why := s.mayBegin(); why != nil {
			return why // the stream ended meanwhile, and ctx with it
		}
	}
	return err
}

func (s *Stream) sendPayload(ctx context.Context, p payload) error {
	o := outgoing{header: s.header(0), method: s.method, payload: p}
	if err := s.mayBegin(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return contextError(ctx, true)
	}
	if sent, err := s.begin(ctx, &o); sent || err != nil {
		return err
	}
	if err := s.lockSend(ctx); err != nil {
		return err
	}
	defer func() { <-s.sending }()
	cost := int64(messageCost + p.len())
	if err := s.spend(ctx, cost); err != nil {
		return err
	}
	err := s.conn.send(ctx, &o)
	if err != nil {
		s.grant(cost)
	}
	return err
}

// mayBegin says why nothing can be sent any more.
func (s *Stream) mayBegin() error {
	s.mu.Lock()
	err := s.sendErr
	s.mu.Unlock()
	return s.received(err)
}

// lockSend waits for other senders, so that messages leave in the order in which
// they took credit.
func (s *Stream) lockSend(ctx context.Context) error {
	select {
	case s.sending <- struct{}{}:
		return nil
	default:
	}
	s.conn.passBaton(s.conn.mark.Load(), false)
	select {
	case s.sending <- struct{}{}:
		return nil
	case <-ctx.Done():
		if err := s.mayBegin(); err != nil {
			return err
		}
		return contextError(ctx, true)
	}
}

// spend takes credit for a message, when there is some.
func (s *Stream) spend(ctx context.Context, cost int64) error {
	for {
		s.mu.Lock()
		if s.sendErr != nil || !s.flow || s.credit > 0 {
			err := s.sendErr
			s.credit -= cost
			s.mu.Unlock()
			return s.received(err)
		}
		if s.granted == nil {
			s.granted = make(chan struct{})
		}
		granted := s.granted
		s.mu.Unlock()
		s.conn.passBaton(s.conn.mark.Load(), false)
		select {
		case <-granted:
		case <-ctx.Done():
			s.mu.Lock()
			err := s.sendErr
			s.mu.Unlock()
			if err == nil {
				return contextError(ctx, true)
			}
			return s.received(err)
		}
	}
}

// maxCredit is the most that a peer may grant, in bytes.
const maxCredit = int64(1) << 40

// grant adds to what may be sent.
func (s *Stream) grant(cost int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.credit = min(s.credit+cost, maxCredit)
	if s.credit > 0 {
		s.wakeSenders()
	}
}

// wakeSenders lets who waits for credit look again. Guarded by mu.
func (s *Stream) wakeSenders() {
	if s.granted != nil {
		close(s.granted)
		s.granted = nil
	}
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
	sent, err := s.begin(s.ctx, &o)
	if !sent && err == nil {
		err = s.conn.send(s.ctx, &o)
	}
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
	s.wakeSenders()
	return first
}
