package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

const oursName = "ours"

// ours is the module this one belongs to. The zero value has its default options.
type ours struct {
	async       bool // CallAsync
	ordered     bool // handlers one after the other, in the order of requests
	tls         bool
	oldClient   bool // the end that dials speaks version 1 only
	oldServer   bool // the end that accepts does
	busyPoll    bool // both ends
	deep        bool // limits that let all calls of a test be in flight
	middlewares int  // that do nothing
	guarded     bool // the middleware of a server in production
	routes      int  // that calls use in turn, 0: 1
	fresh       bool // responses in slices of their own
}

func (o ours) Name() string {
	name := oursName
	for _, v := range []struct {
		on   bool
		text string
	}{
		{o.async, "CallAsync"},
		{o.ordered, "ordered handlers"},
		{o.tls, "TLS"},
		{o.oldClient, "client of version 1"},
		{o.oldServer, "server of version 1"},
		{o.busyPoll, "busy poll"},
		{o.deep, "wide limits"},
		{o.middlewares > 0, plural(o.middlewares, "empty middleware")},
		{o.guarded, "middleware/router"},
		{o.routes > 0, plural(o.routes, "route")},
		{o.fresh, "fresh slices"},
	} {
		if v.on {
			name += ", " + v.text
		}
	}
	return name
}

func (o ours) Setup() string {
	setup := []string{"default options"}
	if o.ordered {
		setup = append(setup, "ordered handlers")
	} else {
		setup = append(setup, "concurrent handlers")
	}
	switch {
	case o.async:
		setup = append(setup, "CallAsync with pointers to byte slices")
	case o.fresh:
		setup = append(setup, "Call with reused pointers to byte slices")
	default:
		setup = append(setup, "Call with a reused pointer to a byte slice and a reused bytes.Buffer for the response")
	}
	if o.deep {
		setup = append(setup, fmt.Sprintf("limits of %d messages on both ends", deepCalls))
	}
	if o.guarded {
		setup = append(setup, "Logger (one of a million calls), Recover, Auth, RateLimit by peer and Timeout on the server")
	}
	if o.busyPoll {
		setup = append(setup, fmt.Sprintf("WithBusyPoll(%v) on both ends", oursPoll))
	}
	return strings.Join(setup, ", ") + ", a timeout for each call"
}

func (o ours) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	if o.tls {
		config, err := selfSigned()
		if err != nil {
			return err
		}
		ln = tls.NewListener(ln, config)
	}
	s := arpc.NewServer(append(o.options(o.oldServer), arpc.WithHandler(o.handler(work)))...)
	work.CanBroadcast(func(body []byte) error { return s.Broadcast("/news", body) })
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(ln)
}

func (o ours) handler(work *Work) *arpc.Handler {
	h := arpc.NewHandler()
	h.SetAsyncResponse(!o.ordered)
	for range o.middlewares {
		h.Use(func(ctx *arpc.Context) { ctx.Next() })
	}
	if o.guarded {
		guard(h)
	}
	for _, route := range o.echoRoutes() {
		h.Handle(route, func(ctx *arpc.Context) {
			work.Pause()
			ctx.WriteBytes(ctx.Body())
		})
	}
	h.Handle("/notice", func(ctx *arpc.Context) { work.Notice(ctx.Body()) })
	h.Handle("/revise", func(ctx *arpc.Context) {
		var d Document
		if err := ctx.Bind(&d); err != nil {
			ctx.Error(err)
			return
		}
		work.Revise(&d)
		ctx.Write(&d)
	})
	return h
}

// guard has a server log, recover, authorize, limit and time out. Nothing of that
// has anything to do.
func guard(h *arpc.Handler) {
	h.HandleConnected(func(c *arpc.Client) { c.SetIdentity("ann") }) // as a HandleAuth hook would
	log := router.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	h.Use(router.Logger(log, router.WithSampling(1_000_000, 1)))
	h.Use(router.Recover(log))
	h.Use(router.NewAuth(router.Allow(router.Known(), "/*"), router.Allow(router.Role("admin"), "/admin/*")).Handler())
	h.Use(router.NewRateLimit(router.ByPeer(), 1e9, 1e9).Handler())
	h.Use(router.NewTimeout(30 * time.Second).Handler())
}

func (o ours) echoRoutes() []string {
	routes := []string{"/echo"}
	for i := 1; i < o.routes; i++ {
		routes = append(routes, fmt.Sprintf("/echo/%d", i))
	}
	return routes
}

func (o ours) options(old bool) (opts []arpc.Option) {
	if old {
		opts = append(opts, arpc.WithVersions(1, 1))
	}
	if o.busyPoll {
		opts = append(opts, arpc.WithBusyPoll(oursPoll))
	}
	if o.deep {
		opts = append(opts, arpc.WithMaxInflight(deepCalls), arpc.WithSendQueue(deepCalls, deepBytes))
	}
	return opts
}

// What ours with wide limits lets wait: more than any workload has.
const (
	deepCalls = 1 << 18
	deepBytes = 256 << 20
)

// oursPoll is how long ours with busy poll looks for more before it sleeps.
const oursPoll = 200 * time.Microsecond

func (o ours) Dial(addr string) (Conn, error) {
	c, err := o.client(addr, arpc.NewHandler())
	if err != nil {
		return nil, err
	}
	conn := oursConn{c, o.echoRoutes(), o.fresh}
	if o.async {
		return oursAsyncConn{conn}, nil
	}
	return conn, nil
}

func (o ours) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	h := arpc.NewHandler()
	h.Handle("/news", func(ctx *arpc.Context) { receive(ctx.Body()) })
	c, err := o.client(addr, h)
	if err != nil {
		return nil, err
	}
	return oursConn{client: c}, nil
}

func (o ours) client(addr string, h *arpc.Handler) (*arpc.Client, error) {
	opts := append(o.options(o.oldClient), arpc.WithHandler(h), arpc.WithReconnect(0, 0, 0))
	return arpc.NewClient(func() (net.Conn, error) {
		if o.tls {
			return tls.Dial("tcp", addr, trusting())
		}
		return net.Dial("tcp", addr)
	}, opts...)
}

type oursConn struct {
	client *arpc.Client
	routes []string
	fresh  bool
}

func (c oursConn) Close() error {
	c.client.Stop()
	return nil
}

func (c oursConn) Caller() Caller {
	caller := &oursCaller{oursConn: c}
	caller.rsp = &caller.buffer
	if c.fresh {
		caller.rsp = &caller.slice
	}
	return caller
}

func (c oursConn) Sender() Sender { return &oursCaller{oursConn: c} }

func (c oursConn) JSONCaller() JSONCaller { return &oursCaller{oursConn: c} }

type oursCaller struct {
	oursConn
	calls  int
	req    []byte
	rsp    any // the buffer or the slice
	buffer bytes.Buffer
	slice  []byte
}

func (c *oursCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	route := c.routes[0]
	if n := len(c.routes); n > 1 {
		c.calls++
		route = c.routes[c.calls%n]
	}
	if err := c.client.Call(route, &c.req, c.rsp, callTimeout); err != nil {
		return nil, err
	}
	if c.fresh {
		return c.slice, nil
	}
	return c.buffer.Bytes(), nil
}

func (c *oursCaller) Notify(body []byte) error {
	c.req = body
	return c.client.Notify("/notice", &c.req, callTimeout)
}

func (c *oursCaller) CallJSON(req, rsp *Document) error {
	return c.client.Call("/revise", req, rsp, callTimeout)
}

type oursAsyncConn struct{ oursConn }

func (c oursAsyncConn) Start(req []byte, done func(rsp []byte, err error)) {
	err := c.client.CallAsync("/echo", &req, func(ctx *arpc.Context) { done(ctx.Body(), ctx.Message.Error()) }, callTimeout)
	if err != nil {
		done(nil, err)
	}
}
