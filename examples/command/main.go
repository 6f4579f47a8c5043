// Command command sends commands: values that a server executes against a calculator,
// each with one result, whose type the compiler knows at both ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/command"
)

// Calc is the receiver.
type Calc struct{}

func (Calc) Add(a, b int) int { return a + b }

func (Calc) Div(a, b int) (int, error) {
	if b == 0 {
		return 0, arpc.NewError(arpc.CodeInvalidArgument, "division by zero") // the code travels
	}
	return a / b, nil
}

// Add is a command whose result is an int.
type Add struct{ A, B int }

// Exec runs on the server.
func (c Add) Exec(ctx context.Context, calc Calc, reply *command.Reply[int]) error {
	return reply.Last(calc.Add(c.A, c.B))
}

// Div is a command that may fail. Its error is its caller's and nobody else's.
type Div struct{ A, B int }

func (c Div) Exec(ctx context.Context, calc Calc, reply *command.Reply[int]) error {
	q, err := calc.Div(c.A, c.B)
	if err != nil {
		return err
	}
	return reply.Last(q)
}

// commands are those that both ends know.
func commands() *command.Registry[Calc] {
	reg := command.NewRegistry[Calc]()
	command.Register[Calc, Add](reg)
	command.Register[Calc, Div](reg)
	return reg
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	commands().Handle(server.Handler, Calc{}, logged(stdout))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.Dial("tcp", ln.Addr().String())
	})
	if err != nil {
		return err
	}
	defer client.Stop()
	sender := commands().Sender(client)

	sum, err := command.Send(ctx, sender, Add{A: 2, B: 3})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "2 + 3 =", sum)
	_, err = command.Send(ctx, sender, Div{A: 1, B: 0})
	fmt.Fprintf(stdout, "1 / 0: %v (code %v)\n", err, arpc.CodeOf(err))
	half, err := command.Send(ctx, sender, Div{A: 84, B: 2}) // the connection goes on
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "84 / 2 =", half)
	return nil
}

// logged is around each command on the server.
func logged(stdout io.Writer) command.Invoker {
	return func(ctx context.Context, in *command.Invocation, exec func(context.Context) error) error {
		fmt.Fprintf(stdout, "  the server executes %s: %+v\n", in.Method, in.Command)
		return exec(ctx)
	}
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
