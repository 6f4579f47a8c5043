package buffstreams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
)

// Receive returns the next message of the peer. It is valid until somebody reads
// again. It is io.EOF when the peer has closed the connection, until there is
// another. With a dial under way it waits for that. When ctx ends nothing is lost:
// the next call goes on.
func (c *Conn) Receive(ctx context.Context) ([]byte, error) {
	if err := c.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer c.giveTurn()
	_, message, err := c.receive(ctx)
	return message, err
}

// Messages returns the messages that are still to come, each valid until the next,
// and ends with the connection or with ctx. The last pair has an error, unless the
// peer has closed the connection. Others who want to read wait until the loop is
// over.
func (c *Conn) Messages(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := c.takeTurn(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer c.giveTurn()
		for {
			_, message, err := c.receive(ctx)
			if errors.Is(err, io.EOF) || !yield(message, err) || err != nil {
				return
			}
		}
	}
}

// Read copies the next message to b and returns its size. When b is too short the
// error is io.ErrShortBuffer, and the next call returns the same message.
func (c *Conn) Read(b []byte) (int, error) {
	ctx := context.Background()
	if err := c.takeTurn(ctx); err != nil {
		return 0, err
	}
	defer c.giveTurn()
	l, message, err := c.receive(ctx)
	if err != nil {
		return 0, err
	}
	if len(message) > len(b) {
		c.received.Add(^uint64(0))
		l.in.undo(message)
		return 0, fmt.Errorf("buffstreams: a message of %d bytes does not fit into %d: %w", len(message), len(b), io.ErrShortBuffer)
	}
	return copy(b, message), nil
}

func (c *Conn) takeTurn(ctx context.Context) error {
	if c.owned {
		return errOwned
	}
	select {
	case <-c.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.life.Done():
		return ErrClosed
	}
}

func (c *Conn) giveTurn() { c.turn <- struct{}{} }

// receive is Receive for who has the turn. It also returns where the message came
// from.
func (c *Conn) receive(ctx context.Context) (*link, []byte, error) {
	for {
		l, err := c.current(ctx)
		if err != nil {
			return nil, nil, err
		}
		message, ok, err := l.in.next()
		if ok {
			c.received.Add(1)
			return l, message, nil
		}
		if err == nil {
			err = l.read(ctx)
		}
		if err != nil && (ctx.Err() == nil || err != ctx.Err()) {
			l.in.discard()
			c.lose(l, err)
		}
		if err != nil && !errors.Is(err, net.ErrClosed) { // who closed it has said why
			return nil, nil, err
		}
	}
}

// current returns the link to read from. It waits for one that is being dialled.
func (c *Conn) current(ctx context.Context) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return nil, ErrClosed
		case c.link != nil:
			return c.link, nil
		case !c.dialing:
			return nil, c.lost()
		}
		if err := c.wait(ctx, c.changes()); err != nil {
			return nil, err
		}
	}
}
