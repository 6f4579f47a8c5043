package main

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"

	peer "github.com/lesismal/arpc"
	peerlog "github.com/lesismal/arpc/log"
)

const peerBuffer = 64 << 10

// lesismal is github.com/lesismal/arpc, whose wire ours is compatible with. It is
// measured without EnablePool: that is not faster, and its messages are wrong now
// and then, since the loop that sends may free a buffer twice.
type lesismal struct {
	concurrent bool   // a goroutine for each request, otherwise on the reader
	direct     bool   // SetAsyncWrite(false): callers write, there is no queue
	variant    string // what else differs from the fastest set-up, empty for that
	// small leaves the sizes of the buffers as they come, 8 KiB to receive and 0
	// to send: batch send is on then, but each message is a write of its own.
	small   bool
	noDelay bool // without Nagle's algorithm, which its connected hook turns on
}

func (l lesismal) Name() string {
	name := "arpc " + moduleVersion("github.com/lesismal/arpc")
	if l.concurrent {
		name += ", concurrent handlers"
	} else {
		name += ", inline handlers"
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

func (l lesismal) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	s := peer.NewServer()
	s.Handler = l.handler()
	s.Codec = DocumentCodec
	l.route(s, work)
	work.CanBroadcast(func(body []byte) error {
		s.Broadcast("/news", body)
		return nil
	})
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	s.Serve(ln)
	return ctx.Err()
}

func (l lesismal) route(s *peer.Server, work *Work) {
	s.Handler.Handle("/echo", func(ctx *peer.Context) {
		work.Pause()
		body := ctx.Body()
		ctx.Write(&body)
	}, l.concurrent)
	s.Handler.Handle("/notice", func(ctx *peer.Context) { l.notice(work, ctx.Body()) }, l.concurrent)
	s.Handler.Handle("/revise", func(ctx *peer.Context) {
		var d Document
		if err := ctx.Bind(&d); err != nil {
			ctx.Error(err)
			return
		}
		work.Revise(&d)
		ctx.Write(&d)
	}, l.concurrent)
	s.Handler.Handle("/listed", func(ctx *peer.Context) {
		awaitListed(s, ctx.Client)
		ctx.Write([]byte{})
	}, true)
}

func (l lesismal) Blocks() bool { return !l.concurrent }

func (l lesismal) notice(work *Work, body []byte) {
	if l.concurrent {
		work.NoticeUnordered(body)
	} else {
		work.Notice(body)
	}
}

func (l lesismal) Dial(addr string) (Conn, error) {
	conn, err := l.dial(addr, l.handler())
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Subscribe handles on the reader, so that messages stay in order.
func (l lesismal) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	h := l.handler()
	h.Handle("/news", func(ctx *peer.Context) { receive(ctx.Body()) }, false)
	conn, err := l.dial(addr, h)
	if err != nil {
		return nil, err
	}
	var listed []byte
	if err := conn.client.Call("/listed", &listed, &listed, callTimeout); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// awaitListed waits until a client that has called is one of those that its
// server broadcasts to. The server lists it a little after it begins to read.
func awaitListed(s *peer.Server, c *peer.Client) {
	for listed := false; !listed; runtime.Gosched() {
		s.ForEach(func(other *peer.Client) { listed = listed || other == c })
	}
}

func (l lesismal) dial(addr string, h peer.Handler) (*lesismalConn, error) {
	h.SetMaxReconnectTimes(1)
	c, err := peer.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, h)
	if err != nil {
		return nil, err
	}
	c.Codec = DocumentCodec
	return &lesismalConn{c}, nil
}

type lesismalConn struct{ client *peer.Client }

func (c *lesismalConn) Caller() Caller { return &lesismalCaller{client: c.client} }

func (c *lesismalConn) Sender() Sender { return &lesismalCaller{client: c.client} }

func (c *lesismalConn) JSONCaller() JSONCaller { return &lesismalCaller{client: c.client} }

func (c *lesismalConn) Close() error {
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

func (c *lesismalCaller) Notify(body []byte) error {
	c.req = body
	return c.client.Notify("/notice", &c.req, callTimeout)
}

func (c *lesismalCaller) CallJSON(req, rsp *Document) error {
	return c.client.Call("/revise", req, rsp, callTimeout)
}
