package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"connectrpc.com/connect"
)

// connectEcho is connectrpc.com/connect.
type connectEcho struct {
	grpc  bool // the gRPC protocol
	plain bool // default windows and frames
}

const (
	connectRoot    = "/bench.Echo/"
	connectWindow  = 4<<20 - 1 // the most that net/http takes
	connectFrame   = 256 << 10
	connectStreams = 1 << 20
)

func (c connectEcho) Name() string {
	name := "connect " + moduleVersion("connectrpc.com/connect")
	if c.grpc {
		name += ", gRPC protocol"
	}
	if c.plain {
		name += ", default windows"
	}
	return name
}

func (c connectEcho) Setup() string {
	setup := "its own protocol"
	if c.grpc {
		setup = "gRPC protocol"
	}
	setup += " over HTTP/2 without TLS of net/http, raw bytes codec that appends, no compression, any number of streams"
	if c.plain {
		return setup + ", default windows and frames"
	}
	return setup + ", server windows of 4 MiB and frames of 256 KiB"
}

func (c connectEcho) server() *http.HTTP2Config {
	h := &http.HTTP2Config{MaxConcurrentStreams: connectStreams}
	if !c.plain {
		h.MaxReadFrameSize = connectFrame
		h.MaxReceiveBufferPerConnection = connectWindow
		h.MaxReceiveBufferPerStream = connectWindow
	}
	return h
}

// client keeps net/http from a second connection. Its windows are large as they
// come.
func (c connectEcho) client() *http.HTTP2Config {
	h := &http.HTTP2Config{StrictMaxConcurrentRequests: true}
	if !c.plain {
		h.MaxReadFrameSize = connectFrame
	}
	return h
}

func plainHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func (c connectEcho) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	service := &connectService{work: work}
	work.CanBroadcast(service.news.broadcast)
	opts := connect.WithHandlerOptions(connect.WithCodec(connectCodec{}), connect.WithCompression("gzip", nil, nil))
	mux := http.NewServeMux()
	mux.Handle(connectRoot+"Echo", connect.NewUnaryHandler(connectRoot+"Echo", service.echo, opts))
	mux.Handle(connectRoot+"Revise", connect.NewUnaryHandler(connectRoot+"Revise", service.revise, opts))
	mux.Handle(connectRoot+"Notify", connect.NewClientStreamHandler(connectRoot+"Notify", service.notices, opts))
	mux.Handle(connectRoot+"News", connect.NewServerStreamHandler(connectRoot+"News", service.deliver, opts))
	s := &http.Server{Handler: mux, Protocols: plainHTTP2(), HTTP2: c.server()}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	return s.Serve(ln)
}

type connectService struct {
	work *Work
	news newsroom
}

func (s *connectService) echo(_ context.Context, req *connect.Request[[]byte]) (*connect.Response[[]byte], error) {
	s.work.Pause()
	return connect.NewResponse(req.Msg), nil
}

func (s *connectService) revise(_ context.Context, req *connect.Request[Document]) (*connect.Response[Document], error) {
	s.work.Revise(req.Msg)
	return connect.NewResponse(req.Msg), nil
}

func (s *connectService) notices(_ context.Context, stream *connect.ClientStream[[]byte]) (*connect.Response[[]byte], error) {
	for stream.Receive() {
		s.work.Notice(*stream.Msg())
	}
	return connect.NewResponse(&[]byte{}), stream.Err()
}

// deliver sends a subscriber an empty message and then what is broadcast.
func (s *connectService) deliver(ctx context.Context, _ *connect.Request[[]byte], stream *connect.ServerStream[[]byte]) error {
	send := func(body []byte) error { return stream.Send(&body) }
	return s.news.deliver(ctx, func() error { return send(nil) }, send)
}

// Dial makes a call, as net/http dials a connection for each of those that come
// before the first is there.
func (c connectEcho) Dial(addr string) (Conn, error) {
	conn := c.dial(addr)
	if _, err := conn.revise.CallUnary(conn.ctx, connect.NewRequest(&Document{})); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (c connectEcho) dial(addr string) *connectConn {
	conn := &connectConn{}
	conn.ctx, conn.cancel = context.WithCancel(context.Background())
	opts := connect.WithClientOptions(connect.WithCodec(connectCodec{}), connect.WithAcceptCompression("gzip", nil, nil))
	if c.grpc {
		opts = connect.WithClientOptions(opts, connect.WithGRPC())
	}
	conn.transport = &http.Transport{
		Protocols:          plainHTTP2(),
		HTTP2:              c.client(),
		DialContext:        conn.open,
		DisableCompression: true,
	}
	client, root := &http.Client{Transport: conn.transport}, "http://"+addr+connectRoot
	conn.echo = connect.NewClient[[]byte, []byte](client, root+"Echo", opts)
	conn.revise = connect.NewClient[Document, Document](client, root+"Revise", opts)
	conn.notify = connect.NewClient[[]byte, []byte](client, root+"Notify", opts)
	conn.news = connect.NewClient[[]byte, []byte](client, root+"News", opts)
	return conn
}

// Subscribe receives on a stream of its own.
func (c connectEcho) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	conn := c.dial(addr)
	stream, err := conn.news.CallServerStream(conn.ctx, connect.NewRequest(&[]byte{}))
	if err == nil && !stream.Receive() {
		err = stream.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		for stream.Receive() {
			receive(*stream.Msg())
		}
	}()
	return conn, nil
}

type connectConn struct {
	ctx       context.Context // of the TCP connection
	cancel    context.CancelFunc
	transport *http.Transport

	echo, notify, news *connect.Client[[]byte, []byte]
	revise             *connect.Client[Document, Document]
}

// open dials a TCP connection that ends with c.
func (c *connectConn) open(ctx context.Context, network, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		context.AfterFunc(c.ctx, func() { nc.Close() })
	}
	return nc, err
}

func (c *connectConn) Close() error {
	c.cancel()
	c.transport.CloseIdleConnections()
	return nil
}

func (c *connectConn) Caller() Caller { return &connectCaller{c} }

func (c *connectConn) JSONCaller() JSONCaller { return &connectCaller{c} }

func (c *connectConn) Sender() Sender { return &connectSender{conn: c} }

type connectCaller struct{ conn *connectConn }

func (c *connectCaller) Call(req []byte) ([]byte, error) {
	rsp, err := c.conn.echo.CallUnary(c.conn.ctx, connect.NewRequest(&req))
	if err != nil {
		return nil, err
	}
	return *rsp.Msg, nil
}

func (c *connectCaller) CallJSON(req, rsp *Document) error {
	r, err := c.conn.revise.CallUnary(c.conn.ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	*rsp = *r.Msg
	return nil
}

// connectSender notifies in a stream of its own.
type connectSender struct {
	conn   *connectConn
	stream *connect.ClientStreamForClient[[]byte, []byte] // nil before the first
	body   []byte
}

func (s *connectSender) Notify(body []byte) error {
	if s.stream == nil {
		s.stream = s.conn.notify.CallClientStream(s.conn.ctx)
	}
	s.body = body
	return s.stream.Send(&s.body)
}

// Flush ends the stream and waits until the server has read it.
func (s *connectSender) Flush() error {
	if s.stream == nil {
		return nil
	}
	_, err := s.stream.CloseAndReceive()
	return err
}

// connectCodec takes *[]byte, which it copies, and *Document as JSON.
type connectCodec struct{}

func (connectCodec) Name() string { return "raw" }

func (c connectCodec) Marshal(v any) ([]byte, error) { return c.MarshalAppend(nil, v) }

// MarshalAppend keeps connect from taking over the bytes for its buffers.
func (connectCodec) MarshalAppend(buf []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case *[]byte:
		return append(buf, *v...), nil
	case *Document:
		return DocumentCodec.MarshalAppend(buf, v)
	}
	return nil, fmt.Errorf("cannot marshal %T", v)
}

func (connectCodec) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = append((*v)[:0], data...)
		return nil
	case *Document:
		return DocumentCodec.Unmarshal(data, v)
	}
	return fmt.Errorf("cannot unmarshal into %T", v)
}
