package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/gopkg/protocol/thrift"
	kitexclient "github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	kitexserver "github.com/cloudwego/kitex/server"
)

// kitex is github.com/cloudwego/kitex. It has one-way calls, each of which sleeps
// for half a millisecond in the client: they are no notifications to compare.
type kitex struct{}

func (kitex) Name() string { return "Kitex " + moduleVersion("github.com/cloudwego/kitex") }

func (kitex) Setup() string {
	return "mux transport with one connection, thrift structs with a hand-written fast codec, no timeouts or logs"
}

var quietKitex = sync.OnceFunc(func() { klog.SetOutput(io.Discard) })

func (kitex) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	quietKitex()
	s := kitexserver.NewServer(
		kitexserver.WithMuxTransport(),
		kitexserver.WithListener(ln),
		kitexserver.WithExitSignal(func() <-chan error {
			ended := make(chan error, 1)
			context.AfterFunc(ctx, func() { ended <- ctx.Err() })
			return ended
		}),
		kitexserver.WithExitWaitTime(time.Millisecond),
	)
	if err := s.RegisterService(kitexService(), work); err != nil {
		return err
	}
	return s.Run()
}

// kitexService is what the code generator makes of an interface definition.
func kitexService() *serviceinfo.ServiceInfo {
	return &serviceinfo.ServiceInfo{
		ServiceName:  "Bench",
		PayloadCodec: serviceinfo.Thrift,
		HandlerType:  (*any)(nil),
		Methods: map[string]serviceinfo.MethodInfo{
			"Echo":   serviceinfo.NewMethodInfo(kitexEcho, kitexArgs, kitexResult, false),
			"Alive":  serviceinfo.NewMethodInfo(kitexAlive, kitexArgs, kitexResult, false),
			"Revise": serviceinfo.NewMethodInfo(kitexRevise, kitexArgs, kitexResult, false),
		},
	}
}

func kitexArgs() any { return &kitexMessage{field: 1} }

func kitexResult() any { return &kitexMessage{field: 0} }

func kitexEcho(_ context.Context, handler, args, result any) error {
	handler.(*Work).Pause()
	result.(*kitexMessage).body = args.(*kitexMessage).body
	return nil
}

func kitexAlive(_ context.Context, _, _, _ any) error { return nil }

func kitexRevise(_ context.Context, handler, args, result any) (err error) {
	var d Document
	if err := DocumentCodec.Unmarshal(args.(*kitexMessage).body, &d); err != nil {
		return err
	}
	handler.(*Work).Revise(&d)
	result.(*kitexMessage).body, err = DocumentCodec.Marshal(&d)
	return err
}

func (kitex) Dial(addr string) (Conn, error) {
	quietKitex()
	c := &kitexConn{}
	c.end, c.cancel = context.WithCancel(context.Background())
	var err error
	c.client, err = kitexclient.NewClient(kitexService(),
		kitexclient.WithDestService("Bench"),
		kitexclient.WithHostPorts(addr),
		kitexclient.WithMuxConnection(1),
		kitexclient.WithMiddleware(c.ending),
		kitexclient.WithConnectTimeout(callTimeout),
	)
	if err != nil {
		return nil, err
	}
	// The first call dials. Several at once may dial several connections.
	if err := c.call("Alive", kitexArgs(), kitexResult()); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

type kitexConn struct {
	client kitexclient.Client
	end    context.Context
	cancel context.CancelFunc
	calls  sync.RWMutex // read-held by calls: one after the client's end panics
}

// ending has calls end with the connection: those that have just begun wait for
// ever otherwise. It is no context of the caller's, with which Kitex would use a
// goroutine for each call.
func (c *kitexConn) ending(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, rsp any) error { return next(kitexContext{ctx, c.end}, req, rsp) }
}

type kitexContext struct {
	context.Context
	end context.Context
}

func (c kitexContext) Done() <-chan struct{} { return c.end.Done() }

func (c kitexContext) Err() error { return c.end.Err() }

func (c *kitexConn) Close() error {
	c.cancel()
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.client.(io.Closer).Close()
}

func (c *kitexConn) call(method string, args, result any) error {
	c.calls.RLock()
	defer c.calls.RUnlock()
	if err := c.end.Err(); err != nil {
		return err
	}
	return c.client.Call(context.Background(), method, args, result)
}

func (c *kitexConn) Caller() Caller { return c.caller() }

func (c *kitexConn) JSONCaller() JSONCaller { return c.caller() }

func (c *kitexConn) caller() *kitexCaller {
	return &kitexCaller{conn: c, req: kitexMessage{field: 1}}
}

type kitexCaller struct {
	conn     *kitexConn
	req, rsp kitexMessage
}

func (c *kitexCaller) Call(req []byte) ([]byte, error) {
	c.req.body = req
	err := c.conn.call("Echo", &c.req, &c.rsp)
	return c.rsp.body, err
}

func (c *kitexCaller) CallJSON(req, rsp *Document) (err error) {
	if c.req.body, err = DocumentCodec.MarshalAppend(c.req.body[:0], req); err != nil {
		return err
	}
	if err := c.conn.call("Revise", &c.req, &c.rsp); err != nil {
		return err
	}
	return DocumentCodec.Unmarshal(c.rsp.body, rsp)
}

// kitexMessage is a thrift struct with one binary field, which it reuses.
type kitexMessage struct {
	field int16 // 0 in results, 1 in arguments
	body  []byte
}

var _ thrift.FastCodec = (*kitexMessage)(nil)

func (m *kitexMessage) BLength() int {
	return thrift.Binary.FieldBeginLength() + thrift.Binary.BinaryLength(m.body) + thrift.Binary.FieldStopLength()
}

func (m *kitexMessage) FastWriteNocopy(buf []byte, w thrift.NocopyWriter) int {
	n := thrift.Binary.WriteFieldBegin(buf, thrift.STRING, m.field)
	n += thrift.Binary.WriteBinaryNocopy(buf[n:], w, m.body)
	return n + thrift.Binary.WriteFieldStop(buf[n:])
}

func (m *kitexMessage) FastRead(buf []byte) (read int, err error) {
	for {
		kind, field, n, err := thrift.Binary.ReadFieldBegin(buf[read:])
		read += n
		if err != nil || kind == thrift.STOP {
			return read, err
		}
		if kind == thrift.STRING && field == m.field {
			n, err = m.readBody(buf[read:])
		} else {
			n, err = thrift.Binary.Skip(buf[read:], kind)
		}
		read += n
		if err != nil {
			return read, err
		}
	}
}

func (m *kitexMessage) readBody(buf []byte) (int, error) {
	size, n, err := thrift.Binary.ReadI32(buf)
	if err != nil {
		return n, err
	}
	if size < 0 || len(buf)-n < int(size) {
		return n, fmt.Errorf("a field of %d bytes in %d", size, len(buf)-n)
	}
	m.body = append(m.body[:0], buf[n:n+int(size)]...)
	return n + int(size), nil
}
