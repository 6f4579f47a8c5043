package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	rpcxclient "github.com/smallnest/rpcx/client"
	rpcxlog "github.com/smallnest/rpcx/log"
	"github.com/smallnest/rpcx/protocol"
	rpcxserver "github.com/smallnest/rpcx/server"
)

// rpcx is github.com/smallnest/rpcx.
type rpcx struct {
	service bool // handlers found by reflection, not by AddHandler
	oneWay  bool // notifications by Call without a reply, not by SendRaw
}

const rpcxPath = "Bench"

func (r rpcx) Name() string {
	name := "rpcx " + moduleVersion("github.com/smallnest/rpcx")
	if r.service {
		name += ", service by reflection"
	}
	if r.oneWay {
		name += ", Call one-way"
	}
	return name
}

func (r rpcx) Setup() string {
	handlers := "AddHandler"
	if r.service {
		handlers = "a service by reflection"
	}
	notices := "SendRaw"
	if r.oneWay {
		notices = "Call without a reply"
	}
	return "raw bytes (SerializeNone), " + handlers + ", notifications by " + notices + ", no gateways, plug-ins, heartbeats or logs"
}

var quietRPCX = sync.OnceFunc(rpcxlog.SetDummyLogger)

func (r rpcx) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	quietRPCX()
	s := rpcxserver.NewServer()
	h := &rpcxHandler{ctx: ctx, work: work, server: s}
	work.CanBroadcast(h.news.broadcast)
	if r.service {
		if err := s.RegisterName(rpcxPath, &rpcxService{work}, ""); err != nil {
			return err
		}
	} else {
		s.AddHandler(rpcxPath, "Echo", h.echo)
	}
	s.AddHandler(rpcxPath, "Revise", h.revise)
	s.AddHandler(rpcxPath, "Notify", h.notice)
	s.AddHandler(rpcxPath, "News", h.deliver)
	defer context.AfterFunc(ctx, func() { s.Close() })()
	return s.ServeListener("plain", ln) // tcp would be with gateways, which look into each connection
}

type rpcxService struct{ work *Work }

func (s *rpcxService) Echo(_ context.Context, req, rsp *[]byte) error {
	s.work.Pause()
	*rsp = *req
	return nil
}

type rpcxHandler struct {
	ctx    context.Context // of the server
	work   *Work
	server *rpcxserver.Server
	news   newsroom
}

func (h *rpcxHandler) echo(ctx *rpcxserver.Context) error {
	h.work.Pause()
	return ctx.Write(ctx.Payload())
}

func (h *rpcxHandler) revise(ctx *rpcxserver.Context) error {
	var d Document
	if err := DocumentCodec.Unmarshal(ctx.Payload(), &d); err != nil {
		return err
	}
	h.work.Revise(&d)
	b, err := DocumentCodec.Marshal(&d)
	if err != nil {
		return err
	}
	return ctx.Write(b)
}

func (h *rpcxHandler) notice(ctx *rpcxserver.Context) error {
	h.work.NoticeUnordered(ctx.Payload())
	return nil
}

// deliver answers a subscriber and then sends it what is broadcast.
func (h *rpcxHandler) deliver(ctx *rpcxserver.Context) error {
	conn := ctx.Get(rpcxserver.RemoteConnContextKey).(net.Conn)
	h.news.deliver(h.ctx, func() error { return ctx.Write([]byte{}) }, func(body []byte) error {
		return h.server.SendMessage(conn, rpcxPath, "News", nil, body)
	})
	return nil // the connection has ended
}

func (r rpcx) Dial(addr string) (Conn, error) {
	c, err := r.dial(addr, nil)
	if err != nil {
		return nil, err
	}
	return rpcxConn{c, r.oneWay}, nil
}

func (r rpcx) dial(addr string, news chan<- *protocol.Message) (*rpcxclient.Client, error) {
	quietRPCX()
	c := rpcxclient.NewClient(rpcxclient.Option{
		ConnectTimeout:     callTimeout,
		SerializeType:      protocol.SerializeNone,
		BidirectionalBlock: true, // nothing that the server sends is dropped
	})
	if news != nil {
		c.RegisterServerMessageChan(news)
	}
	return c, c.Connect("tcp", addr)
}

func (r rpcx) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	news := make(chan *protocol.Message, maxAhead)
	c, err := r.dial(addr, news)
	if err != nil {
		return nil, err
	}
	go func() {
		for m := range news {
			if m.MessageStatusType() == protocol.Error { // the connection has ended
				return
			}
			receive(m.Payload)
		}
	}()
	var nothing []byte
	if err := c.Call(context.Background(), rpcxPath, "News", &nothing, &nothing); err != nil {
		c.Close()
		return nil, err
	}
	return rpcxConn{client: c}, nil
}

type rpcxConn struct {
	client *rpcxclient.Client
	oneWay bool
}

func (c rpcxConn) Close() error {
	c.client.Close() // tells only that it was closed before
	return nil
}

func (c rpcxConn) Caller() Caller { return &rpcxCaller{client: c.client} }

func (c rpcxConn) JSONCaller() JSONCaller { return &rpcxCaller{client: c.client} }

func (c rpcxConn) Sender() Sender {
	if c.oneWay {
		return &rpcxCaller{client: c.client}
	}
	m := protocol.NewMessage()
	m.SetMessageType(protocol.Request)
	m.SetSerializeType(protocol.SerializeNone)
	m.SetOneway(true)
	m.SetSeq(rpcxSenders.Add(1)) // no other sender's, and none of what is answered
	m.ServicePath, m.ServiceMethod = rpcxPath, "Notify"
	return rpcxSender{c.client, m}
}

var rpcxSenders atomic.Uint64

type rpcxSender struct {
	client  *rpcxclient.Client
	message *protocol.Message
}

func (s rpcxSender) Notify(body []byte) error {
	s.message.Payload = body
	_, _, err := s.client.SendRaw(context.Background(), s.message)
	return err
}

type rpcxCaller struct {
	client   *rpcxclient.Client
	req, rsp []byte
}

func (c *rpcxCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	err := c.client.Call(context.Background(), rpcxPath, "Echo", &c.req, &c.rsp)
	return c.rsp, err
}

func (c *rpcxCaller) Notify(body []byte) error {
	c.req = body
	return c.client.Call(context.Background(), rpcxPath, "Notify", &c.req, nil)
}

func (c *rpcxCaller) CallJSON(req, rsp *Document) (err error) {
	if c.req, err = DocumentCodec.MarshalAppend(c.req[:0], req); err != nil {
		return err
	}
	if err := c.client.Call(context.Background(), rpcxPath, "Revise", &c.req, &c.rsp); err != nil {
		return err
	}
	return DocumentCodec.Unmarshal(c.rsp, rsp)
}
