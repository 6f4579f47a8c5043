package arpc_test

import (
	"context"
	"fmt"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

type HelloRequest struct{ Name string }

type HelloReply struct{ Text string }

// What both ends share is in a package of its own as a rule.
var (
	Greet = arpc.NewMethod[HelloRequest, HelloReply]("/greet", arpc.Idempotent)
	Joins = arpc.NewNotice[HelloRequest]("/joins")
	Total = arpc.NewStreamMethod[int, int]("/total") // of the numbers sent so far
)

func ExampleMethod() {
	server := arpc.NewServer()
	Greet.Handle(server.Handler, func(_ context.Context, req *HelloRequest) (*HelloReply, error) {
		if req.Name == "" {
			return nil, arpc.NewError(arpc.CodeInvalidArgument, "who are you?")
		}
		return &HelloReply{Text: "hello, " + req.Name}, nil
	})
	client := exampleClient(server)
	defer server.Stop()
	defer client.Stop()

	ctx := context.Background()
	reply, err := Greet.Call(ctx, client, &HelloRequest{Name: "gopher"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.Text)

	_, err = Greet.Call(ctx, client, &HelloRequest{})
	fmt.Println(arpc.CodeOf(err), err)
	// Output:
	// hello, gopher
	// InvalidArgument who are you?
}

// A handler of the server calls its caller back.
func ExampleFromContext() {
	name := arpc.NewMethod[struct{}, string]("/name")
	server, handler := arpc.NewServer(), arpc.NewHandler()
	Greet.Handle(server.Handler, func(ctx context.Context, _ *HelloRequest) (*HelloReply, error) {
		c, _ := arpc.FromContext(ctx)
		name, err := name.Call(ctx, c.Client, nil)
		if err != nil {
			return nil, err
		}
		return &HelloReply{Text: "hello, " + *name}, nil
	})
	name.Handle(handler, func(context.Context, *struct{}) (*string, error) { return new("gopher"), nil })
	client := exampleClient(server, arpc.WithHandler(handler))
	defer server.Stop()
	defer client.Stop()

	reply, err := Greet.Call(context.Background(), client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reply.Text)
	// Output: hello, gopher
}

func ExampleNotice() {
	joined := make(chan string)
	server := arpc.NewServer()
	Joins.Handle(server.Handler, func(_ context.Context, v *HelloRequest) { joined <- v.Name })
	client := exampleClient(server)
	defer server.Stop()
	defer client.Stop()

	if err := Joins.Notify(context.Background(), client, &HelloRequest{Name: "gopher"}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-joined, "joins")
	// Output: gopher joins
}

func ExampleStreamMethod() {
	server := arpc.NewServer()
	Total.Handle(server.Handler, func(_ context.Context, s *arpc.TypedStream[int, int]) error {
		total := 0
		for n, err := range s.RecvSeq() {
			if err != nil {
				return err
			}
			total += *n
			if err := s.Send(&total); err != nil {
				return err
			}
		}
		return nil
	})
	client := exampleClient(server)
	defer server.Stop()
	defer client.Stop()

	stream, err := Total.Open(context.Background(), client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	for n := range 4 {
		if err := stream.Send(&n); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := stream.CloseSend(); err != nil {
		fmt.Println(err)
		return
	}
	for total, err := range stream.RecvSeq() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(*total)
	}
	// Output:
	// 0
	// 1
	// 3
	// 6
}

// exampleClient serves in memory and returns a client of the server.
func exampleClient(server *arpc.Server, opts ...arpc.Option) *arpc.Client {
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	client, err := arpc.NewClient(ln.Dial, opts...)
	if err != nil {
		panic(err)
	}
	return client
}
