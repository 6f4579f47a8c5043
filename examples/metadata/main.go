// Command metadata shows what travels beside payloads and error messages: pairs
// of keys and values, a trace, and details of errors.
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

// OutOfStock is an error that reaches the caller as a value.
type OutOfStock struct {
	Item string
	Left int
}

// Error returns the text of the error.
func (e *OutOfStock) Error() string { return "there is not enough of " + e.Item }

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	// A client calls the shop, whose handler calls the store.
	store := arpc.NewServer()
	defer store.Stop()
	toStore, err := connect(store)
	if err != nil {
		return err
	}
	defer toStore.Stop()
	shop := arpc.NewServer()
	defer shop.Stop()
	client, err := connect(shop)
	if err != nil {
		return err
	}
	defer client.Stop()

	shop.Handler.Handle("/order", func(ctx *arpc.Context) {
		// ctx passes the trace on, and the deadline. Metadata is for one hop.
		next := arpc.ContextWithMetadata(ctx, arpc.Metadata{"customer": ctx.Metadata()["customer"]})
		var answer string
		if err := toStore.CallWith(next, "/take", ctx.Body(), &answer); err != nil {
			ctx.Error(err) // with its code and details, as it came
			return
		}
		ctx.SetMetadata("stored-in", "Porto")
		ctx.Write(answer)
	})
	store.Handler.Handle("/take", take)

	// Both ends of the way know the error by a name. The shop need not.
	arpc.RegisterDetail[*OutOfStock](store.Handler, "out-of-stock")
	arpc.RegisterDetail[*OutOfStock](client.Handler, "out-of-stock")

	client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		return measure(ctx, call, next, stdout)
	})

	// A tracer makes the trace and says in which form it travels.
	ctx = arpc.ContextWithTrace(ctx, arpc.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	var answer string
	if err := client.CallWith(ctx, "/order", "lamps", &answer); err != nil {
		return fmt.Errorf("order lamps: %w", err)
	}
	fmt.Fprintln(stdout, answer)

	err = client.CallWith(ctx, "/order", "chairs", nil)
	var missing *OutOfStock
	if !errors.As(err, &missing) {
		return fmt.Errorf("want an error with details, got: %w", err)
	}
	fmt.Fprintf(stdout, "%v: %d %s are left\n", err, missing.Left, missing.Item)
	return nil
}

// connect serves on a free port and returns a client of the server.
func connect(server *arpc.Server) (*arpc.Client, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go serve(server, ln)
	return arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// take is a handler of the store.
func take(ctx *arpc.Context) {
	item := string(ctx.Body())
	if item == "chairs" {
		ctx.Error(arpc.Errorf(arpc.CodeFailedPrecondition, "%w", &OutOfStock{Item: item, Left: 2}))
		return
	}
	trace, _ := arpc.TraceOf(ctx)
	ctx.Write(fmt.Sprintf("%s taken for %s, trace %s", item, ctx.Metadata()["customer"], trace.Parent))
}

// measure goes around each call of the client: it adds metadata, and looks at
// what came back.
func measure(ctx context.Context, call *arpc.Call, next arpc.CallFunc, stdout io.Writer) error {
	var back arpc.Metadata
	ctx = arpc.ContextWithMetadata(ctx, arpc.Metadata{"customer": "ann"})
	ctx = arpc.ContextWithResponseMetadata(ctx, &back)
	begin := time.Now()
	err := next(ctx, call)
	fmt.Fprintf(stdout, "%v of %s: %v in %v, %v\n", call.Kind, call.Method, arpc.CodeOf(err), time.Since(begin), back)
	return err
}
