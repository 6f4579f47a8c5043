package main

import (
	"context"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// grpcService is the server of a run.
type grpcService struct {
	work *Work
	news newsroom
}

func grpcRevise(service any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var d Document
	err := decode(&d)
	service.(*grpcService).work.Revise(&d)
	return &d, err
}

// grpcNotices receives what one sender notifies.
func grpcNotices(service any, stream grpc.ServerStream) error {
	var body []byte
	for {
		err := stream.RecvMsg(&body)
		if err == io.EOF {
			return stream.SendMsg(&[]byte{})
		}
		if err != nil {
			return err
		}
		service.(*grpcService).work.Notice(body)
	}
}

// grpcSender notifies in a stream of its own.
type grpcSender struct {
	client *grpc.ClientConn
	stream grpc.ClientStream // nil before the first
}

func (s *grpcSender) Notify(body []byte) (err error) {
	if s.stream == nil {
		desc := &grpc.StreamDesc{ClientStreams: true}
		if s.stream, err = s.client.NewStream(context.Background(), desc, grpcRoot+"Notify"); err != nil {
			return err
		}
	}
	body = slices.Clone(body) // SendMsg does not copy, and may return before it is written
	return s.stream.SendMsg(&body)
}

// Flush ends the stream and waits until the server has read it.
func (s *grpcSender) Flush() error {
	if s.stream == nil {
		return nil
	}
	if err := s.stream.CloseSend(); err != nil {
		return err
	}
	var end []byte
	return s.stream.RecvMsg(&end)
}

// grpcNews sends what is broadcast to one subscriber. The header tells it that it
// is one.
func grpcNews(service any, stream grpc.ServerStream) error {
	var nothing mem.BufferSlice
	if err := stream.RecvMsg(&nothing); err != nil {
		return err
	}
	subscribed := func() error { return stream.SendHeader(nil) }
	return service.(*grpcService).news.deliver(stream.Context(), subscribed, func(body []byte) error {
		return stream.SendMsg(&body)
	})
}

func (g grpcEcho) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	conn, err := g.Dial(addr)
	if err != nil {
		return nil, err
	}
	stream, err := conn.(grpcConn).client.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, grpcRoot+"News")
	if err == nil {
		err = grpcSubscribed(stream)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		var body []byte
		for stream.RecvMsg(&body) == nil {
			receive(body)
		}
	}()
	return conn, nil
}

func grpcSubscribed(stream grpc.ClientStream) error {
	if err := stream.SendMsg(&[]byte{}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err := stream.Header()
	return err
}
