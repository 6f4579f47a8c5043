// Command validate has requests say whether they make sense, before a handler sees
// them.
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
	"github.com/arpc-go/arpc/middleware/router"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// Order is a request. Both ends may validate it: the server has to.
type Order struct {
	Article string `json:"article"`
	Count   int    `json:"count"`
}

// Validate makes it a router.Validator.
func (o *Order) Validate() error {
	switch {
	case o.Article == "":
		return &FieldError{Field: "article", Problem: "is missing"}
	case o.Count < 1 || o.Count > 100:
		return &FieldError{Field: "count", Problem: fmt.Sprintf("is %d, 1 to 100 can be ordered", o.Count)}
	}
	return nil
}

// FieldError tells a program what is wrong. Both ends register it.
type FieldError struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

func (e *FieldError) Error() string { return e.Field + " " + e.Problem }

var order = arpc.NewMethod[Order, string]("/order")

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	arpc.RegisterDetail[*FieldError](server.Handler, "field")
	server.Handler.Use(router.Validate())
	order.Handle(server.Handler, func(_ context.Context, o *Order) (*string, error) {
		text := fmt.Sprintf("%d of %q are on their way", o.Count, o.Article)
		return &text, nil
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	handler := arpc.NewHandler()
	arpc.RegisterDetail[*FieldError](handler, "field")
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	}, arpc.WithHandler(handler))
	if err != nil {
		return err
	}
	defer client.Stop()

	for _, o := range []*Order{{Article: "book", Count: 2}, {Article: "book", Count: 200}, {Count: 1}, nil} {
		answer, err := order.Call(ctx, client, o)
		var field *FieldError
		switch {
		case err == nil:
			fmt.Fprintln(stdout, *answer)
		case errors.As(err, &field):
			fmt.Fprintf(stdout, "%v, field %s: %v\n", arpc.CodeOf(err), field.Field, err)
		default:
			return err
		}
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
