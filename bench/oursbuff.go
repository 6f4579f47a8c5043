package main

import (
	"context"
	"fmt"
	"net"

	"github.com/arpc-go/arpc/extension/buffstreams"
)

// oursBuff is ours on the wire of BuffStreams: messages of one direction only.
type oursBuff struct{}

func (oursBuff) Name() string { return oursName + ", BuffStreams framing" }

func (oursBuff) Setup() string {
	return fmt.Sprintf("extension/buffstreams with default options, messages of %d bytes at most, a context for each message", buffMaxMessage)
}

func (oursBuff) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	l, err := buffstreams.NewListener(ln, buffstreams.ListenerConfig{
		MaxMessageSize: buffMaxMessage,
		Callback: func(body []byte) error {
			work.Notice(body)
			return nil
		},
	})
	if err != nil {
		return err
	}
	return l.Serve(ctx)
}

func (oursBuff) Dial(addr string) (Conn, error) {
	c, err := buffstreams.Dial(context.Background(), buffstreams.ConnConfig{Address: addr, MaxMessageSize: buffMaxMessage})
	if err != nil {
		return nil, err
	}
	return oursBuffConn{c}, nil
}

type oursBuffConn struct{ *buffstreams.Conn }

func (c oursBuffConn) Sender() Sender { return c }

func (c oursBuffConn) Notify(body []byte) error { return c.Send(context.Background(), body) }
