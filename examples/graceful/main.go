// Command graceful shuts a server down without cutting anybody off: calls under
// way are answered, then the connections close.
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

const orders = 3

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	begun := make(chan struct{}, orders)
	server := arpc.NewServer()
	server.Handler.Handle("/cook", func(ctx *arpc.Context) {
		begun <- struct{}{}
		time.Sleep(200 * time.Millisecond) // some work
		ctx.Write("here is your " + string(ctx.Body()))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
	if err != nil {
		return err
	}
	defer client.Stop()

	answers := make(chan answer, orders)
	for _, dish := range []string{"soup", "omelette", "cake"} {
		go func() { answers <- order(ctx, client, dish) }()
	}
	for range orders {
		select {
		case <-begun:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Fprintf(stdout, "%d calls under way: shutting down\n", orders)

	// In a program of your own this is what follows on SIGTERM, for which
	// os/signal has NotifyContext. Shutdown closes the listener, waits for the
	// handlers and writes what they answered. When its context ends first, it
	// cuts off the rest and returns an error.
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	if err := <-served; !errors.Is(err, arpc.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	for range orders {
		a := <-answers
		if a.err != nil {
			return fmt.Errorf("call /cook: %w", a.err)
		}
		fmt.Fprintln(stdout, "answered:", a.text)
	}

	a := order(ctx, client, "late coffee")
	fmt.Fprintln(stdout, "a call after that:", arpc.CodeOf(a.err))
	return nil
}

// answer is how a call ended.
type answer struct {
	text string
	err  error
}

func order(ctx context.Context, client *arpc.Client, dish string) answer {
	var a answer
	a.err = client.CallWith(ctx, "/cook", dish, &a.text)
	return a
}
