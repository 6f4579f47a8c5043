package router_test

import (
	"context"
	"errors"
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
func dialTo(handler *arpc.Handler, opts ...arpc.Option) (client *arpc.Client, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := arpc.NewServer(arpc.WithHandler(handler))
	go server.Serve(ln)
	client, err = arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, opts...)
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

func ExampleWithSampling() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "outcome" || a.Key == "sampled" {
				return a
			}
			return slog.Attr{}
		},
	}))
	logged := make(chan struct{})
	handler := arpc.NewHandler()
	handler.Use(func(ctx *arpc.Context) { ctx.Next(); logged <- struct{}{} })
	// One in a hundred of those that go well, and all others.
	handler.Use(router.Logger(router.WithLogger(log), router.WithSampling(100, 1)))
	handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello") })
	handler.Handle("/fail", func(ctx *arpc.Context) { ctx.Error("no") })
	client, stop := dialTo(handler)
	defer stop()

	for _, method := range []string{"/greet", "/greet", "/greet", "/fail"} {
		client.Call(method, nil, nil, time.Minute)
		<-logged
	}
	// Output:
	// outcome=answered sampled=100
	// outcome=error
}

func ExampleTimeout() {
	timeout := router.NewTimeout(50 * time.Millisecond)
	handler := arpc.NewHandler()
	handler.Use(timeout.Handler())
	done := make(chan error)
	handler.Handle("/report", func(ctx *arpc.Context) {
		<-ctx.Done() // so does what the handler calls with ctx
		done <- ctx.Err()
	})
	client, stop := dialTo(handler)
	defer stop()

	err := client.Call("/report", nil, nil, time.Minute)
	fmt.Println(arpc.CodeOf(err))
	fmt.Println(<-done)
	// Output:
	// DeadlineExceeded
	// context deadline exceeded
}

func ExampleRateLimit() {
	limit := router.NewRateLimit(router.ByPeer(), 1, 2) // one a second, two at once
	handler := arpc.NewHandler()
	handler.Use(limit.Handler())
	handler.UseStream(limit.Stream)
	handler.Handle("/search", func(ctx *arpc.Context) { ctx.Write("found") })
	client, stop := dialTo(handler)
	defer stop()

	for {
		var md arpc.Metadata
		ctx := arpc.ContextWithResponseMetadata(context.Background(), &md)
		if err := client.CallWith(ctx, "/search", nil, nil); err != nil {
			after, ok := router.RetryAfter(md)
			fmt.Println(arpc.CodeOf(err), ok, after <= time.Second)
			break
		}
	}
	// Output:
	// ResourceExhausted true true
}

func ExampleByFunc() {
	// What is paid for is what a gateway, which is trusted, says of its customers.
	limit := router.NewRateLimit(router.ByFunc(func(in router.Incoming) any {
		return in.Metadata()["customer"]
	}), 1.0/60, 1)
	handler := arpc.NewHandler()
	handler.Use(limit.Handler())
	handler.Handle("/search", func(ctx *arpc.Context) { ctx.Write("found") })
	gateway, stop := dialTo(handler)
	defer stop()

	for _, customer := range []string{"ann", "bob", "ann"} {
		ctx := arpc.ContextWithMetadata(context.Background(), arpc.Metadata{"customer": customer})
		fmt.Println(customer, arpc.CodeOf(gateway.CallWith(ctx, "/search", nil, nil)))
	}
	// Output:
	// ann OK
	// bob OK
	// ann ResourceExhausted
}

func ExampleBulkhead() {
	reports := router.NewBulkhead(1)
	handler := arpc.NewHandler()
	handler.Use(router.Only(reports.Handler(), "/report/*"))
	begun, finish := make(chan struct{}), make(chan struct{})
	handler.Handle("/report/yearly", func(ctx *arpc.Context) {
		close(begun)
		<-finish
		ctx.Write("all is well")
	})
	handler.Handle("/ping", func(ctx *arpc.Context) { ctx.Write("pong") })
	client, stop := dialTo(handler)
	defer stop()

	first := make(chan error)
	go func() { first <- client.Call("/report/yearly", nil, nil, time.Minute) }()
	<-begun
	fmt.Println(client.Call("/report/yearly", nil, nil, time.Minute))
	fmt.Println(client.Call("/ping", nil, nil, time.Minute))
	close(finish)
	fmt.Println(<-first)
	// Output:
	// 1 are handled at a time (NewBulkhead) and 0 wait (WithQueue)
	// <nil>
	// <nil>
}

func ExampleAdaptive() {
	adaptive := router.NewAdaptive(router.WithLimits(1, 8, 500))
	handler := arpc.NewHandler()
	handler.Use(adaptive.Handler())
	handler.Handle("/search", func(ctx *arpc.Context) { ctx.Write("found") })
	client, stop := dialTo(handler)
	defer stop()

	fmt.Println(client.Call("/search", nil, nil, time.Minute))
	fmt.Println("limit", adaptive.Limit(), "refused", adaptive.Refused())
	// Output:
	// <nil>
	// limit 8 refused 0
}

// member is an identity with roles.
type member map[string]bool

func (m member) HasRole(role string) bool { return m[role] }

func ExampleAuth() {
	auth := router.NewAuth(
		router.Allow(router.Anyone(), "/status"),
		router.Allow(router.Known(), "/*"),
		router.Allow(router.Role("admin"), "/admin/*"),
	)
	handler := arpc.NewHandler()
	handler.HandleAuth(func(_ context.Context, c *arpc.Client, credentials []byte) error {
		if string(credentials) == "a member's token" { // see examples/authorize
			c.SetIdentity(member{"editor": true})
		}
		return nil
	})
	handler.Use(auth.Handler())
	handler.UseStream(auth.Stream)
	for _, method := range []string{"/status", "/edit", "/admin/stop"} {
		handler.Handle(method, func(ctx *arpc.Context) { ctx.Write("done") })
	}

	for _, token := range []string{"", "a member's token"} {
		client, stop := dialTo(handler, arpc.WithCredentials(func(context.Context) ([]byte, error) { return []byte(token), nil }))
		for _, method := range []string{"/status", "/edit", "/admin/stop"} {
			fmt.Println(method, arpc.CodeOf(client.Call(method, nil, nil, time.Minute)))
		}
		stop()
	}
	// Output:
	// /status OK
	// /edit Unauthenticated
	// /admin/stop Unauthenticated
	// /status OK
	// /edit OK
	// /admin/stop PermissionDenied
}

// Ticket is a request.
type Ticket struct{ Seats int }

// Validate makes it a router.Validator.
func (t *Ticket) Validate() error {
	if t.Seats < 1 {
		return errors.New("at least one seat is needed")
	}
	return nil
}

func ExampleValidate() {
	book := arpc.NewMethod[Ticket, string]("/book")
	handler := arpc.NewHandler()
	handler.Use(router.Validate())
	book.Handle(handler, func(_ context.Context, t *Ticket) (*string, error) {
		text := fmt.Sprintf("%d seats are yours", t.Seats)
		return &text, nil
	})
	client, stop := dialTo(handler)
	defer stop()

	for _, seats := range []int{2, 0} {
		text, err := book.Call(context.Background(), client, &Ticket{Seats: seats})
		if err != nil {
			fmt.Println(arpc.CodeOf(err), err)
			continue
		}
		fmt.Println(*text)
	}
	// Output:
	// 2 seats are yours
	// InvalidArgument at least one seat is needed
}

func ExampleOnly() {
	handler := arpc.NewHandler()
	handler.Use(router.Only(func(ctx *arpc.Context) { ctx.Error("closed for today") }, "/shop/*"))
	handler.Handle("/shop/buy", func(ctx *arpc.Context) { ctx.Write("thank you") })
	handler.Handle("/hours", func(ctx *arpc.Context) { ctx.Write("nine to five") })
	client, stop := dialTo(handler)
	defer stop()

	for _, method := range []string{"/shop/buy", "/hours"} {
		var text string
		err := client.Call(method, nil, &text, time.Minute)
		fmt.Println(text, err)
	}
	// Output:
	//  closed for today
	// nine to five <nil>
}
