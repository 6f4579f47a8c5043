package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

// dialTo serves a handler and returns a client of it.
func dialTo(handler *arpc.Handler) (client *arpc.Client, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := arpc.NewServer(arpc.WithHandler(handler))
	go server.Serve(ln)
	client, err = arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	if err != nil {
		panic(err)
	}
	return client, func() { client.Stop(); server.Stop() }
}

func ExampleRecover() {
	handler := arpc.NewHandler()
	handler.Use(router.Recover(router.WithLogger(slog.New(slog.DiscardHandler))))
	handler.Handle("/divide", func(ctx *arpc.Context) {
		ctx.Write(100 / len(ctx.Body()))
	})
	client, stop := dialTo(handler)
	defer stop()

	var result int
	err := client.Call("/divide", "four", &result, time.Second)
	fmt.Println(result, err)
	err = client.Call("/divide", "", &result, time.Second)
	fmt.Println(strings.Fields(err.Error())[:3]) // and the id that the log has
	// Output:
	// 25 <nil>
	// [internal error, id]
}

func ExampleLogger() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "duration", "peer": // another one each time
				return slog.Attr{}
			}
			return a
		},
	}))
	logged := make(chan struct{})
	handler := arpc.NewHandler()
	handler.Use(func(ctx *arpc.Context) { ctx.Next(); logged <- struct{}{} })
	handler.Use(router.Logger(router.WithLogger(log)))
	handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello " + string(ctx.Body())) })
	handler.Handle("/event", func(ctx *arpc.Context) {})
	client, stop := dialTo(handler)
	defer stop()

	go client.CallWith(context.Background(), "/greet", "you", nil) // a deadline would travel along
	<-logged
	client.Notify("/event", nil, time.Second)
	<-logged
	// Output:
	// level=INFO msg="arpc: message" kind=request method=/greet bytes=25 outcome=answered
	// level=INFO msg="arpc: message" kind=notify method=/event bytes=22 outcome=handled
}

func ExampleGraceful() {
	var graceful router.Graceful
	handler := arpc.NewHandler()
	handler.Use(graceful.Handler())
	handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello") })
	client, stop := dialTo(handler)
	defer stop()

	fmt.Println(client.Call("/greet", nil, nil, time.Second))
	fmt.Println(graceful.Shutdown(context.Background()))
	fmt.Println(client.Call("/greet", nil, nil, time.Second))
	// Output:
	// <nil>
	// <nil>
	// shutting down
}
