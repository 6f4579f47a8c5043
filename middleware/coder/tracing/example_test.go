package tracing_test

import (
	"context"
	"fmt"
	"net"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
)

// Both ends register the coder with the same key. The caller gives the value along
// with the context of the call; handlers and middleware find it under the key.
func Example() {
	server := arpc.NewServer()
	server.Handler.UseCoder(tracing.New("trace"))
	server.Handler.Use(func(ctx *arpc.Context) {
		trace, _ := ctx.Get("trace")
		fmt.Printf("%s is part of %s\n", ctx.Message.Method(), trace)
	})
	server.Handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello " + string(ctx.Body())) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(ln)
	defer server.Stop()

	handler := arpc.NewHandler()
	handler.UseCoder(tracing.New("trace"))
	client, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, arpc.WithHandler(handler))
	if err != nil {
		panic(err)
	}
	defer client.Stop()

	ctx := arpc.ContextWithValues(context.Background(), map[any]any{"trace": "request 4711"})
	var reply string
	err = client.CallWith(ctx, "/greet", "you", &reply)
	fmt.Println(reply, err)
	// Output:
	// /greet is part of request 4711
	// hello you <nil>
}
