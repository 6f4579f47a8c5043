package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmanager"
	"storj.io/drpc/drpcpool"
	"storj.io/drpc/drpcserver"
	"storj.io/drpc/drpcstream"
	"storj.io/drpc/drpcwire"
)

// drpcEcho is storj.io/drpc.
type drpcEcho struct {
	single bool // one TCP connection for calls, which wait for each other
	plain  bool // default buffers, a flush after each message
}

func (d drpcEcho) Name() string {
	name := "drpc " + moduleVersion("storj.io/drpc")
	if d.single {
		name += ", one TCP connection"
	}
	if d.plain {
		name += ", as it comes"
	}
	return name
}

func (d drpcEcho) Setup() string {
	setup := fmt.Sprintf("its pool, as a connection has one call at a time: %d TCP connections at most for each connection here, and one more for the notifications of all senders", drpcMaxConns)
	if d.single {
		setup = "one TCP connection for calls, which wait for each other"
	}
	if d.plain {
		return setup + ", default buffers"
	}
	return setup + ", buffers of 64 KiB and ManualFlush, so that a response is one write and a sender fills its buffer"
}

const (
	drpcMaxConns = 256 // the pool has no limit, but more are slower
	drpcBuffer   = 64 << 10
	drpcMaxBody  = 8 << 20
)

// Blocks is true for a single connection, which has one call at a time.
func (d drpcEcho) Blocks() bool { return d.single }

func (d drpcEcho) options() drpcmanager.Options {
	opts := drpcmanager.Options{Reader: drpcwire.ReaderOptions{MaximumBufferSize: drpcMaxBody}}
	if !d.plain {
		opts.WriterBufferSize = drpcBuffer
		opts.Stream = drpcstream.Options{ManualFlush: true, SplitSize: -1}
	}
	return opts
}

func (d drpcEcho) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	handler := &drpcHandler{work: work}
	work.CanBroadcast(handler.news.broadcast)
	return drpcserver.NewWithOptions(handler, drpcserver.Options{Manager: d.options()}).Serve(ctx, ln)
}

type drpcHandler struct {
	work *Work
	news newsroom
}

func (h *drpcHandler) HandleRPC(stream drpc.Stream, rpc string) error {
	switch rpc {
	case "Echo":
		return h.echo(stream)
	case "Revise":
		return h.revise(stream)
	case "Notify":
		return h.notices(stream)
	case "News":
		return h.deliver(stream)
	}
	return drpc.ProtocolError.New("unknown rpc: %q", rpc)
}

func (h *drpcHandler) echo(stream drpc.Stream) error {
	var body []byte
	if err := stream.MsgRecv(&body, drpcCodec{}); err != nil {
		return err
	}
	h.work.Pause()
	return stream.MsgSend(&body, drpcCodec{})
}

func (h *drpcHandler) revise(stream drpc.Stream) error {
	var d Document
	if err := stream.MsgRecv(&d, drpcCodec{}); err != nil {
		return err
	}
	h.work.Revise(&d)
	return stream.MsgSend(&d, drpcCodec{})
}

func (h *drpcHandler) notices(stream drpc.Stream) error {
	var body []byte
	for {
		if err := stream.MsgRecv(&body, drpcCodec{}); err != nil {
			return err
		}
		h.work.Notice(body)
	}
}

// deliver sends a subscriber an empty message and then what is broadcast.
func (h *drpcHandler) deliver(stream drpc.Stream) error {
	send := func(body []byte) error {
		if err := stream.MsgSend(&body, drpcCodec{}); err != nil {
			return err
		}
		return drpcFlush(stream)
	}
	return h.news.deliver(stream.Context(), func() error { return send(nil) }, send)
}

// drpcFlush writes what a stream with ManualFlush holds back.
func drpcFlush(stream drpc.Stream) error {
	return stream.(interface{ RawFlush() error }).RawFlush()
}

func (d drpcEcho) Dial(addr string) (Conn, error) {
	c, err := d.dial(addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (d drpcEcho) dial(addr string) (*drpcConn, error) {
	c := &drpcConn{
		addr: addr,
		opts: drpcconn.Options{Manager: d.options()},
		free: make(chan struct{}, drpcMaxConns),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.notices = sync.OnceValues(c.openNotices)
	first, err := c.open(c.ctx, addr)
	if err != nil {
		return nil, err
	}
	if d.single {
		c.rpc = first
		return c, nil
	}
	c.pool = drpcpool.New[string, *drpcconn.Conn](drpcpool.Options{})
	c.pool.Put(addr, first)
	c.rpc = c.pool.Get(c.ctx, addr, c.open)
	return c, nil
}

// Subscribe receives on a stream, and a connection, of its own.
func (d drpcEcho) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	c, err := d.dial(addr)
	if err != nil {
		return nil, err
	}
	stream, err := c.rpc.NewStream(c.ctx, "News", drpcCodec{})
	var body []byte
	if err == nil {
		err = stream.MsgRecv(&body, drpcCodec{})
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	go func() {
		for stream.MsgRecv(&body, drpcCodec{}) == nil {
			receive(body)
		}
	}()
	return c, nil
}

type drpcConn struct {
	ctx    context.Context // of all that is under way
	cancel context.CancelFunc
	addr   string
	opts   drpcconn.Options
	pool   *drpcpool.Pool[string, *drpcconn.Conn] // nil for a single connection
	rpc    drpc.Conn
	free   chan struct{} // an element for each call

	notices func() (drpc.Stream, error) // of all senders
}

// open dials a TCP connection that ends with c.
func (c *drpcConn) open(ctx context.Context, addr string) (*drpcconn.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := drpcconn.NewWithOptions(nc, c.opts)
	context.AfterFunc(c.ctx, func() { conn.Close() })
	return conn, nil
}

// openNotices opens a stream with a TCP connection of its own: it keeps others
// away, and a stream of the pool's cannot be flushed.
func (c *drpcConn) openNotices() (drpc.Stream, error) {
	conn, err := c.open(c.ctx, c.addr)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(c.ctx, "Notify", drpcCodec{})
}

func (c *drpcConn) Close() error {
	c.cancel()
	return nil
}

func (c *drpcConn) invoke(rpc string, req, rsp any) error {
	c.free <- struct{}{}
	defer func() { <-c.free }()
	return c.rpc.Invoke(c.ctx, rpc, drpcCodec{}, req, rsp)
}

func (c *drpcConn) Caller() Caller { return &drpcCaller{conn: c} }

func (c *drpcConn) JSONCaller() JSONCaller { return &drpcCaller{conn: c} }

func (c *drpcConn) Sender() Sender { return &drpcSender{conn: c} }

type drpcCaller struct {
	conn     *drpcConn
	req, rsp []byte
}

func (c *drpcCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	err := c.conn.invoke("Echo", &c.req, &c.rsp)
	return c.rsp, err
}

func (c *drpcCaller) CallJSON(req, rsp *Document) error {
	return c.conn.invoke("Revise", req, rsp)
}

type drpcSender struct {
	conn *drpcConn
	body []byte
}

func (s *drpcSender) Notify(body []byte) error {
	stream, err := s.conn.notices()
	if err != nil {
		return err
	}
	s.body = body
	return stream.MsgSend(&s.body, drpcCodec{})
}

func (s *drpcSender) Flush() error {
	stream, err := s.conn.notices()
	if err != nil {
		return err
	}
	return drpcFlush(stream)
}

// drpcCodec takes *[]byte, which it reuses, and *Document as JSON.
type drpcCodec struct{}

func (c drpcCodec) Marshal(v drpc.Message) ([]byte, error) { return c.MarshalAppend(nil, v) }

func (drpcCodec) MarshalAppend(buf []byte, v drpc.Message) ([]byte, error) {
	switch v := v.(type) {
	case *[]byte:
		return append(buf, *v...), nil
	case *Document:
		return DocumentCodec.MarshalAppend(buf, v)
	}
	return nil, fmt.Errorf("cannot marshal %T", v)
}

func (drpcCodec) Unmarshal(buf []byte, v drpc.Message) error {
	switch v := v.(type) {
	case *[]byte:
		*v = append((*v)[:0], buf...)
		return nil
	case *Document:
		return DocumentCodec.Unmarshal(buf, v)
	}
	return fmt.Errorf("cannot unmarshal into %T", v)
}
