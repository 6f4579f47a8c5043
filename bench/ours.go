package main

import (
	"context"
	"net"

	"github.com/arpc-go/arpc"
)

const oursName = "ours"

// ours is the module this one belongs to, with its default options.
type ours struct{}

func (ours) Name() string { return oursName }

func (ours) Setup() string {
	return "default options, concurrent handlers, Call with reused pointers to byte slices, a timeout for each call"
}

func (ours) Serve(ctx context.Context, ln net.Listener) error {
	h := arpc.NewHandler()
	h.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	s := arpc.NewServer(arpc.WithHandler(h))
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(ln)
}

func (ours) Dial(addr string) (Conn, error) {
	c, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, arpc.WithReconnect(0, 0, 0))
	if err != nil {
		return nil, err
	}
	return oursConn{c}, nil
}

type oursConn struct{ client *arpc.Client }

func (c oursConn) Caller() Caller { return &oursCaller{client: c.client} }

func (c oursConn) Close() error {
	c.client.Stop()
	return nil
}

type oursCaller struct {
	client   *arpc.Client
	req, rsp []byte
}

func (c *oursCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	err := c.client.Call("/echo", &c.req, &c.rsp, callTimeout)
	return c.rsp, err
}
