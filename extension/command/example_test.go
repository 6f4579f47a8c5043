package command_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
	"github.com/arpc-go/arpc/middleware/call"
)

// Library is a receiver.
type Library struct{ titles []string }

// Count is a command with one result.
type Count struct{}

func (Count) Exec(_ context.Context, lib *Library, reply *command.Reply[int]) error {
	return reply.Last(len(lib.titles))
}

// List has many, of which it does not know the last.
type List struct{ From string }

func (c List) Exec(_ context.Context, lib *Library, reply *command.Reply[string]) error {
	for _, title := range lib.titles {
		if title < c.From {
			continue
		}
		if err := reply.Send(title); err != nil {
			return err
		}
	}
	return nil
}

// Burn has none.
type Burn struct{}

func (Burn) Exec(context.Context, *Library, *command.Reply[command.None]) error {
	return arpc.NewError(arpc.CodePermissionDenied, "certainly not")
}

func libraryCommands() *command.Registry[*Library] {
	reg := command.NewRegistry[*Library]()
	command.Register[*Library, Count](reg)
	command.Register[*Library, List](reg)
	command.Register[*Library, Burn](reg, command.WithMethod("library.burn"))
	return reg
}

// library starts a server and returns what dials it, and what stops it.
func library(invokers ...command.Invoker) (arpc.DialerFunc, func()) {
	server := arpc.NewServer()
	libraryCommands().Handle(server.Handler, &Library{[]string{"Emma", "Faust", "Ulysses"}}, invokers...)
	ln := arpctest.ListenMemory() // as net.Listen does
	go server.Serve(ln)
	return ln.Dial, server.Stop
}

func Example() {
	reg := command.NewRegistry[*Library]() // both ends have one
	command.Register[*Library, Count](reg)

	server := arpc.NewServer()
	reg.Handle(server.Handler, &Library{[]string{"Emma", "Faust"}})
	ln, _ := net.Listen("tcp", "127.0.0.1:0")
	go server.Serve(ln)
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	n, err := command.Send(context.Background(), reg.Sender(client), Count{})
	fmt.Println(n, err)
	// Output: 2 <nil>
}

// A pool sends commands over its connections as a client does over its one.
func ExampleSend() {
	dial, stop := library()
	defer stop()
	pool, err := arpc.NewClientPool(dial, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // Exec sees it
	defer cancel()
	sender := libraryCommands().Sender(pool)
	n, err := command.Send(ctx, sender, Count{})
	fmt.Println(n, err)
	_, err = command.Send(ctx, sender, Burn{})
	fmt.Println(arpc.CodeOf(err), arpc.IsRemote(err), err)
	// Output:
	// 3 <nil>
	// PermissionDenied true certainly not
}

func ExampleSendMulti() {
	dial, stop := library()
	defer stop()
	client, err := arpc.NewClient(dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()

	for r, err := range command.SendMulti(context.Background(), libraryCommands().Sender(client), List{From: "F"}) {
		if err != nil {
			fmt.Println(err) // it is not complete
			return
		}
		fmt.Println(r.Value)
	}
	// Output:
	// Faust
	// Ulysses
}

func ExampleStart() {
	dial, stop := library()
	defer stop()
	client, err := arpc.NewClient(dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()

	sender := libraryCommands().Sender(client)
	var pending []*command.Pending[string]
	for _, from := range []string{"U", "E"} { // they reach the server in this order
		p, err := command.Start(context.Background(), sender, List{From: from})
		if err != nil {
			fmt.Println(err)
			return
		}
		pending = append(pending, p)
	}
	for _, p := range pending {
		for r := range p.Results() {
			fmt.Print(r.Value, " ")
		}
		fmt.Println(p.Err())
	}
	// Output:
	// Ulysses <nil>
	// Emma Faust Ulysses <nil>
}

func ExamplePending_Cancel() {
	canceled := make(chan error)
	reg := orders()
	server := arpc.NewServer()
	reg.Handle(server.Handler, &desk{func(ctx context.Context, _ order, reply *command.Reply[int]) error {
		<-ctx.Done() // which tells the server
		canceled <- context.Cause(ctx)
		return ctx.Err()
	}})
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()
	client, err := arpc.NewClient(ln.Dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()

	p, err := command.Start(context.Background(), reg.Sender(client), order{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the server has it:", p.Has())
	p.Cancel()
	fmt.Println("Exec:", arpc.CodeOf(<-canceled))
	<-p.Done()
	fmt.Println("here:", arpc.CodeOf(p.Err()), errors.Is(p.Err(), context.Canceled))
	// Output:
	// the server has it: true
	// Exec: Canceled
	// here: Canceled true
}

// One function around all commands.
func ExampleInvoker() {
	dial, stop := library(func(ctx context.Context, in *command.Invocation, exec func(context.Context) error) error {
		fmt.Printf("executing %s %+v\n", in.Method, in.Command)
		if err := exec(ctx); err != nil {
			return fmt.Errorf("the librarian says: %w", err)
		}
		return nil
	})
	defer stop()
	client, err := arpc.NewClient(dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	_, err = command.Send(context.Background(), libraryCommands().Sender(client), Burn{})
	fmt.Println(err)
	// Output:
	// executing library.burn {}
	// the librarian says: certainly not
}

// A breaker around commands, whatever their results.
func ExampleWithInterceptors() {
	dial, stop := library()
	client, err := arpc.NewClient(dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	breaker := call.NewBreaker("library", call.WithFailureRate(1, 3, time.Minute), call.WithOpenFor(time.Minute))
	sender := libraryCommands().Sender(client, command.WithInterceptors(breaker.Intercept))

	stop()
	for {
		_, err = command.Send(context.Background(), sender, Count{})
		var open *call.OpenError
		if errors.As(err, &open) {
			fmt.Println("the breaker is open, nothing was sent:", arpc.SafeToRetry(err))
			return
		}
	}
	// Output: the breaker is open, nothing was sent: true
}

func ExampleWithOnResult() {
	dial, stop := library()
	defer stop()
	client, err := arpc.NewClient(dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	sender := libraryCommands().Sender(client, command.WithOnResult(func(_ context.Context, method string, result any) {
		fmt.Println(method, result)
	}))
	command.Send(context.Background(), sender, Count{})
	for range command.SendMulti(context.Background(), sender, List{From: "U"}) {
	}
	// Output:
	// /command/Count 3
	// /command/List Ulysses
}

// The command has a second to be on its way, and as long as it takes to be executed.
func ExampleContextWithSendDeadline() {
	dial, stop := library()
	defer stop()
	client, err := arpc.NewClient(dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	ctx := command.ContextWithSendDeadline(context.Background(), time.Now().Add(time.Second))
	n, err := command.Send(ctx, libraryCommands().Sender(client), Count{})
	fmt.Println(n, err)
	// Output: 3 <nil>
}

// What comes behind the end of a command is not lost without a word.
func ExampleRegistry_HandleUnexpected() {
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	reg := orders()
	server := arpc.NewServer()
	reg.Handle(server.Handler, &desk{func(_ context.Context, o order, reply *command.Reply[int]) error {
		cancel()  // the caller gives up
		<-release // and Exec does not care
		return reply.Last(o.N)
	}})
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()
	late := make(chan command.Unexpected, 1)
	handler := arpc.NewHandler()
	reg.HandleUnexpected(handler, func(u command.Unexpected) { late <- u })
	client, err := arpc.NewClient(ln.Dial, arpc.WithHandler(handler))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()

	_, err = command.Send(ctx, reg.Sender(client), order{7})
	fmt.Println(arpc.CodeOf(err))
	close(release)
	u := <-late
	fmt.Println(u.Method, u.Result)
	// Output:
	// Canceled
	// /command/order 7
}
