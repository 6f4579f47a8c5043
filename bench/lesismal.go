package main

import (
	"context"
	"net"
	"strings"
	"sync"

	peer "github.com/lesismal/arpc"
	peerlog "github.com/lesismal/arpc/log"
)

const peerBuffer = 64 << 10

// lesismal is github.com/lesismal/arpc, whose wire ours is compatible with.
type lesismal struct {
	concurrent bool   // a goroutine for each request, otherwise on the reader
	direct     bool   // SetAsyncWrite(false): callers write, there is no queue
	variant    string // what else differs from the fastest set-up, empty for that
	// small leaves the sizes of the buffers as they come, 8 KiB to receive and 0
	// to send: batch send is on then, but each message is a write of its own.
	small   bool
	noDelay bool // without Nagle's algorithm, which its connected hook turns on
	// pool is EnablePool. It is not faster, and answers are wrong now and then
	// once a connection has ended: the loop that sends frees its first buffer
	// twice.
	pool bool
}

func (l lesismal) Name() string {
	name := "arpc 1.2.17, inline handlers"
	if l.concurrent {
		name = "arpc 1.2.17, concurrent handlers"
	}
	if l.direct {
		name += ", direct writes"
	}
	if l.variant != "" {
		name += ", " + l.variant
	}
	return name
}

func (l lesismal) Setup() string {
	setup := []string{"handlers on the reader"}
	if l.concurrent {
		setup[0] = "a goroutine for each request"
	}
	for _, s := range []struct {
		on   bool
		text string
	}{
		{l.direct, "AsyncWrite off"},
		{l.small, "buffers as they come"},
		{!l.small, "send and receive buffers 64 KiB"},
		{!l.noDelay, "Nagle's algorithm as it comes"},
		{l.pool, "EnablePool"},
	} {
		if s.on {
			setup = append(setup, s.text)
		}
	}
	return strings.Join(setup, ", ") + ", Call with reused pointers to byte slices, a timeout for each call"
}

var quietPeer = sync.OnceFunc(func() { peerlog.SetLevel(peerlog.LevelNone) })

func (l lesismal) handler() peer.Handler {
	quietPeer()
	h := peer.NewHandler()
	h.EnablePool(l.pool)
	h.SetAsyncWrite(!l.direct)
	if !l.small {
		h.SetRecvBufferSize(peerBuffer)
		h.SetSendBufferSize(peerBuffer)
	}
	if l.noDelay {
		h.HandleConnected(func(*peer.Client) {}) // how sockets start
	}
	return h
}

func (l lesismal) Serve(ctx context.Context, ln net.Listener) error {
	h := l.handler()
	h.Handle("/echo", func(ctx *peer.Context) {
		body := ctx.Body()
		ctx.Write(&body)
	}, l.concurrent)
	s := peer.NewServer()
	s.Handler = h
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	s.Serve(ln)
	return ctx.Err()
}

func (l lesismal) Dial(addr string) (Conn, error) {
	h := l.handler()
	h.SetMaxReconnectTimes(1)
	c, err := peer.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, h)
	if err != nil {
		return nil, err
	}
	return lesismalConn{c}, nil
}

type lesismalConn struct{ client *peer.Client }

func (c lesismalConn) Caller() Caller { return &lesismalCaller{client: c.client} }

func (c lesismalConn) Close() error {
	c.client.Stop()
	return nil
}

type lesismalCaller struct {
	client   *peer.Client
	req, rsp []byte
}

func (c *lesismalCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	err := c.client.Call("/echo", &c.req, &c.rsp, callTimeout)
	return c.rsp, err
}
