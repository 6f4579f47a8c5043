// Command service registers the methods of a Go value as routes. A method may
// have one of three shapes; all of them are called in the same way.
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
)

// Calculator is the service. Its methods are called concurrently.
type Calculator struct{}

// Numbers is what the methods get.
type Numbers struct {
	A, B float64
}

// Result is what they answer.
type Result struct {
	Value float64
}

// Divide has the first shape: it returns its answer, or an error for the
// caller. The context ends when the connection does.
func (Calculator) Divide(_ context.Context, in *Numbers) (*Result, error) {
	if in.B == 0 {
		return nil, arpc.NewError(arpc.CodeInvalidArgument, "division by zero")
	}
	return &Result{Value: in.A / in.B}, nil
}

// Add has the second shape: it fills its answer in, and cannot fail.
func (Calculator) Add(_ context.Context, in *Numbers, out *Result) {
	out.Value = in.A + in.B
}

// Negate has the third shape: it is a handler like any other, and answers by
// itself.
func (Calculator) Negate(ctx *arpc.Context) {
	var in Numbers
	if err := ctx.Bind(&in); err != nil {
		ctx.Error(err)
		return
	}
	ctx.Write(&Result{Value: -in.A})
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	// An empty name would stand for the name of the type, which is the same.
	server := arpc.NewServer()
	if err := server.Handler.Register("Calculator", Calculator{}); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
	if err != nil {
		return err
	}
	defer client.Stop()

	in := Numbers{A: 6, B: 4}
	for _, method := range []string{"Calculator.Divide", "Calculator.Add", "Calculator.Negate"} {
		var out Result
		if err := client.CallWith(ctx, method, &in, &out); err != nil {
			return fmt.Errorf("call %s: %w", method, err)
		}
		fmt.Fprintf(stdout, "%-17s of %v and %v is %v\n", method, in.A, in.B, out.Value)
	}

	err = client.CallWith(ctx, "Calculator.Divide", &Numbers{A: 1, B: 0}, nil)
	if !arpc.IsRemote(err) {
		return fmt.Errorf("want an error from the server, got: %w", err)
	}
	fmt.Fprintln(stdout, "Calculator.Divide of 1 and 0 fails:", err)
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
