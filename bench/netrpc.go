package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"runtime"
	"sync"
)

// netRPC is net/rpc of the standard library.
type netRPC struct {
	gob bool // the codec it comes with
}

func (n netRPC) Name() string {
	if n.gob {
		return "net/rpc of " + runtime.Version() + ", gob"
	}
	return "net/rpc of " + runtime.Version()
}

func (n netRPC) Setup() string {
	if n.gob {
		return "gob, the codec it comes with, Go with a reused channel"
	}
	return "a codec for raw bytes and JSON with buffers of 64 KiB, Go with a reused channel"
}

func (n netRPC) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	s := rpc.NewServer()
	if err := s.RegisterName("Bench", &netRPCService{work}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		serving.Go(func() {
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			if n.gob {
				s.ServeConn(nc)
			} else {
				s.ServeCodec(newNetRPCCodec(nc))
			}
		})
	}
}

type netRPCService struct{ work *Work }

func (s *netRPCService) Echo(req, rsp *[]byte) error {
	s.work.Pause()
	*rsp = *req
	return nil
}

func (s *netRPCService) Revise(req, rsp *Document) error {
	*rsp = *req
	s.work.Revise(rsp)
	return nil
}

func (n netRPC) Dial(addr string) (Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if n.gob {
		return netRPCConn{rpc.NewClient(nc)}, nil
	}
	return netRPCRawConn{netRPCConn{rpc.NewClientWithCodec(newNetRPCCodec(nc))}}, nil
}

type netRPCConn struct{ client *rpc.Client }

func (c netRPCConn) Close() error { return c.client.Close() }

func (c netRPCConn) Caller() Caller { return c.caller() }

func (c netRPCConn) caller() *netRPCCaller {
	return &netRPCCaller{client: c.client, done: make(chan *rpc.Call, 1)}
}

// netRPCRawConn is a netRPCConn whose codec has JSON.
type netRPCRawConn struct{ netRPCConn }

func (c netRPCRawConn) JSONCaller() JSONCaller { return c.caller() }

type netRPCCaller struct {
	client   *rpc.Client
	done     chan *rpc.Call
	req, rsp []byte
}

func (c *netRPCCaller) Call(req []byte) ([]byte, error) {
	c.req = req
	c.client.Go("Bench.Echo", &c.req, &c.rsp, c.done)
	err := (<-c.done).Error
	return c.rsp, err
}

func (c *netRPCCaller) CallJSON(req, rsp *Document) error {
	c.client.Go("Bench.Revise", req, rsp, c.done)
	return (<-c.done).Error
}

// netRPCCodec is the codec of both ends. A message is its length without these 4
// bytes, its number, a text with its length in a byte (the method of a request,
// the error of a response) and the body.
type netRPCCodec struct {
	nc   net.Conn
	in   *bufio.Reader
	out  *bufio.Writer
	left int // bytes of the body that is read next
	head []byte
}

const (
	netRPCHead   = 4 + 8 + 1
	netRPCBuffer = 64 << 10
)

func newNetRPCCodec(nc net.Conn) *netRPCCodec {
	return &netRPCCodec{
		nc:   nc,
		in:   bufio.NewReaderSize(nc, netRPCBuffer),
		out:  bufio.NewWriterSize(nc, netRPCBuffer),
		head: make([]byte, 0, netRPCHead+255),
	}
}

func (c *netRPCCodec) Close() error { return c.nc.Close() }

func (c *netRPCCodec) WriteRequest(r *rpc.Request, body any) error {
	return c.write(r.Seq, r.ServiceMethod, body)
}

func (c *netRPCCodec) WriteResponse(r *rpc.Response, body any) error {
	return c.write(r.Seq, r.Error, body)
}

func (c *netRPCCodec) write(seq uint64, text string, body any) error {
	data, err := netRPCMarshal(body)
	if err != nil {
		return err
	}
	text = text[:min(len(text), 255)]
	head := c.out.AvailableBuffer()
	head = binary.LittleEndian.AppendUint32(head, uint32(netRPCHead-4+len(text)+len(data)))
	head = binary.LittleEndian.AppendUint64(head, seq)
	head = append(head, byte(len(text)))
	head = append(head, text...)
	c.out.Write(head)
	c.out.Write(data)
	return c.out.Flush()
}

func netRPCMarshal(body any) ([]byte, error) {
	switch v := body.(type) {
	case *[]byte:
		return *v, nil
	case *Document:
		return DocumentCodec.Marshal(v)
	case struct{}: // of a response that is an error
		return nil, nil
	}
	return nil, fmt.Errorf("cannot marshal %T", body)
}

func (c *netRPCCodec) ReadRequestHeader(r *rpc.Request) (err error) {
	r.Seq, r.ServiceMethod, err = c.readHead()
	return err
}

func (c *netRPCCodec) ReadResponseHeader(r *rpc.Response) (err error) {
	r.Seq, r.Error, err = c.readHead()
	return err
}

func (c *netRPCCodec) readHead() (seq uint64, text string, err error) {
	head := c.head[:netRPCHead]
	if _, err := io.ReadFull(c.in, head); err != nil {
		return 0, "", err
	}
	size, seq, n := int(binary.LittleEndian.Uint32(head)), binary.LittleEndian.Uint64(head[4:]), int(head[12])
	if c.left = size - (netRPCHead - 4) - n; c.left < 0 {
		return 0, "", io.ErrUnexpectedEOF
	}
	b := c.head[netRPCHead : netRPCHead+n]
	_, err = io.ReadFull(c.in, b)
	return seq, string(b), err
}

func (c *netRPCCodec) ReadRequestBody(body any) error { return c.readBody(body) }

func (c *netRPCCodec) ReadResponseBody(body any) error { return c.readBody(body) }

func (c *netRPCCodec) readBody(body any) error {
	switch v := body.(type) {
	case nil:
		_, err := c.in.Discard(c.left)
		return err
	case *[]byte:
		if cap(*v) < c.left {
			*v = make([]byte, c.left)
		}
		*v = (*v)[:c.left]
		_, err := io.ReadFull(c.in, *v)
		return err
	case *Document:
		return c.readDocument(v)
	}
	return fmt.Errorf("cannot unmarshal into %T", body)
}

func (c *netRPCCodec) readDocument(d *Document) error {
	data := make([]byte, c.left)
	if _, err := io.ReadFull(c.in, data); err != nil {
		return err
	}
	return DocumentCodec.Unmarshal(data, d)
}
