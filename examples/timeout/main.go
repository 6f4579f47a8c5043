// Command timeout has a server answer in time though a handler does not.
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

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	// Handlers have a second, those of reports a tenth of one. Both count from the
	// start of the handler, and what the caller sets may be less.
	handlers := router.NewTimeout(time.Second)
	reports := router.NewTimeout(100 * time.Millisecond)
	answered := make(chan struct{})
	handler := make(chan string, 2)
	server := arpc.NewServer()
	server.Handler.Use(handlers.Handler())
	server.Handler.Use(router.Only(reports.Handler(), "/report/*"))
	server.Handler.Handle("/report/yearly", func(ctx *arpc.Context) {
		<-ctx.Done() // what the handler calls meanwhile ends, too, if it has this context
		handler <- fmt.Sprint("its context ends: ", ctx.Err())
		<-answered // but it is slow to notice
		handler <- fmt.Sprint("its answer: ", ctx.Write("at last"))
	})
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

	err = client.CallWith(ctx, "/report/yearly", nil, nil)
	close(answered)
	fmt.Fprintf(stdout, "the caller hears: %v: %v\n", arpc.CodeOf(err), err)
	for range cap(handler) {
		select {
		case text := <-handler:
			fmt.Fprintln(stdout, text)
		case <-ctx.Done():
			return ctx.Err()
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
