package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const (
	grpcRoot   = "/bench.Echo/"
	grpcWindow = 64 << 20
	grpcBuffer = 128 << 10
)

// grpcEcho is google.golang.org/grpc with unary calls of raw bytes.
type grpcEcho struct {
	variant string // what differs from the fastest set-up, empty for that
	plain   bool   // default windows and buffers
	buffers bool   // default buffers
	workers bool   // NumStreamWorkers
}

func (g grpcEcho) Name() string {
	name := "gRPC " + moduleVersion("google.golang.org/grpc")
	if g.variant != "" {
		name += ", " + g.variant
	}
	return name
}

func (g grpcEcho) Setup() string {
	setup := []string{"unary calls, a stream for each sender and subscriber, raw bytes codec without copies on the server, no TLS, no deadline"}
	if !g.plain {
		setup = append(setup, "64 MiB windows")
	}
	if !g.plain && !g.buffers {
		setup = append(setup, "128 KiB buffers")
	}
	if g.workers {
		setup = append(setup, "a stream worker per core")
	}
	return strings.Join(setup, ", ")
}

func (g grpcEcho) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.MaxRecvMsgSize(grpcWindow),
	}
	if g.workers {
		opts = append(opts, grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))))
	}
	if !g.plain {
		opts = append(opts, grpc.InitialWindowSize(grpcWindow), grpc.InitialConnWindowSize(grpcWindow))
	}
	if !g.plain && !g.buffers {
		opts = append(opts, grpc.ReadBufferSize(grpcBuffer), grpc.WriteBufferSize(grpcBuffer))
	}
	s := grpc.NewServer(opts...)
	service := &grpcService{work: work}
	work.CanBroadcast(service.news.broadcast)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Echo", Handler: grpcHandle},
			{MethodName: "Revise", Handler: grpcRevise},
		},
		Streams: []grpc.StreamDesc{
			{StreamName: "Notify", Handler: grpcNotices, ClientStreams: true},
			{StreamName: "News", Handler: grpcNews, ServerStreams: true},
		},
	}, service)
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(ln)
}

func grpcHandle(service any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var body mem.BufferSlice
	err := decode(&body)
	service.(*grpcService).work.Pause()
	return &body, err
}

func (g grpcEcho) Dial(addr string) (Conn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(grpcWindow)),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
	}
	if !g.plain {
		opts = append(opts, grpc.WithInitialWindowSize(grpcWindow), grpc.WithInitialConnWindowSize(grpcWindow))
	}
	if !g.plain && !g.buffers {
		opts = append(opts, grpc.WithReadBufferSize(grpcBuffer), grpc.WithWriteBufferSize(grpcBuffer))
	}
	c, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, err
	}
	return grpcConn{c}, nil
}

type grpcConn struct{ client *grpc.ClientConn }

func (c grpcConn) Caller() Caller { return &grpcCaller{client: c.client} }

func (c grpcConn) Close() error { return c.client.Close() }

type grpcCaller struct {
	client   *grpc.ClientConn
	req, rsp []byte
}

func (c grpcConn) JSONCaller() JSONCaller { return &grpcCaller{client: c.client} }

func (c grpcConn) Sender() Sender { return &grpcSender{client: c.client} }

func (c *grpcCaller) CallJSON(req, rsp *Document) error {
	return c.client.Invoke(context.Background(), grpcRoot+"Revise", req, rsp)
}

func (c *grpcCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	err := c.client.Invoke(context.Background(), grpcRoot+"Echo", &c.req, &c.rsp)
	return c.rsp, err
}

// rawCodec takes *[]byte, which it reuses, on the client, *mem.BufferSlice, which
// goes out as it came in, on the server, and *Document as JSON.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *[]byte:
		return mem.BufferSlice{mem.SliceBuffer(*v)}, nil
	case *mem.BufferSlice:
		return *v, nil
	case *Document:
		b, err := DocumentCodec.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return nil, fmt.Errorf("raw codec: cannot marshal %T", v)
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = append((*v)[:0], make([]byte, data.Len())...)
		data.CopyTo(*v)
		return nil
	case *mem.BufferSlice:
		data.Ref()
		*v = data
		return nil
	case *Document:
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		return DocumentCodec.Unmarshal(buf.ReadOnlyData(), v)
	}
	return fmt.Errorf("raw codec: cannot unmarshal into %T", v)
}
