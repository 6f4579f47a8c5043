package arpc

import (
	"context"
	"errors"

	"github.com/arpc-go/arpc/internal/wire"
)

// reply sends a frame that the engine makes itself. It never waits: when the
// peer reads nothing of what it asks for, the connection ends.
func (c *conn) reply(h wire.Header, method string) {
	c.sendReply(&outgoing{header: h, method: method, reply: true})
}

func (c *conn) sendReply(o *outgoing) error {
	err := c.send(context.Background(), o)
	switch {
	case errors.Is(err, ErrOverstock):
		c.fail(Errorf(CodeResourceExhausted, "arpc: the peer does not read the answers to what it sends: %w", ErrOverstock))
	case errors.Is(err, errCoding):
		c.fail(err)
	}
	return err
}

// replyError is reply with an error, its text cut short.
func (c *conn) replyError(h wire.Header, method string, err error) {
	h.Flag |= wire.FlagError
	text := publicText(err)
	c.sendReply(&outgoing{
		header:  h,
		method:  method,
		section: c.errorSection(nil, err),
		payload: payload{s: text[:min(len(text), exemptText)]},
		reply:   true,
	})
}

// errorSection appends to metadata what of an error travels beside its text.
// Details that do not encode or that the peer has no room for stay behind.
func (c *conn) errorSection(metadata []byte, err error) []byte {
	if c.hello.Load() == nil {
		return nil
	}
	code := CodeOf(err)
	if code == CodeOK {
		code = CodeUnknown // it is an error
	}
	section := wire.AppendCode(metadata, uint32(code))
	limit := c.maxMetadata()
	detailed, failed := c.handler.snapshot().details.appendTo(section, c.client.Codec, err)
	switch {
	case failed == nil && len(detailed) <= limit:
		return detailed
	case failed == nil:
		failed = metadataTooLarge(len(detailed), limit)
	}
	c.settings.logger.Warn("arpc: error details left out", "peer", c.peer(), "cause", failed)
	return section
}

// refuse answers a request with an error, on the reader.
func (c *conn) refuse(h wire.Header, method string, err error) {
	c.replyError(wire.Header{Cmd: wire.CmdResponse, Flag: h.Flag & wire.FlagAsync, Seq: h.Seq}, method, err)
}

// drop tells of a message that was received and is not handled.
func (r *reader) drop(frame []byte, why string) {
	c := r.conn
	c.client.count().dropped.Add(1)
	c.settings.logger.Debug("arpc: message dropped", "peer", c.peer(), "why", why)
	r.tell("message-dropped hook", c.handler.snapshot().hooks.dropped, frame)
}

// missed tells of a response that no call waits for.
func (r *reader) missed(frame []byte) {
	r.conn.client.count().missed.Add(1)
	r.tell("session-miss hook", r.conn.handler.snapshot().hooks.sessionMiss, frame)
}

// tell runs hooks for a message on the reader, as a handler that can lose the
// baton. Then r.lost is set.
func (r *reader) tell(what string, hooks []func(*Client, *Message), frame []byte) {
	if len(hooks) == 0 || r.lost {
		return
	}
	c := r.conn
	m := &Message{Buffer: frame}
	r.running = running{held: len(frame)}
	mark := r.begin(true)
	returned := false
	defer func() {
		if !returned { // a hook ended this goroutine with runtime.Goexit
			c.passBaton(mark, false)
			c.release(len(frame))
		}
	}()
	c.guard(what, func() {
		for _, hook := range hooks {
			hook(c.client, m)
		}
	})
	returned = true
	if !r.finish(mark) {
		r.lost = true
		c.release(len(frame))
	}
}
