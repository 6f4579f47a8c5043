// Command bulkhead keeps slow reports from taking everything that a server has.
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

	// Two reports at a time. One more may wait, as long as its caller does.
	reports := router.NewBulkhead(2, router.WithQueue(1, 0))
	finish := make(chan struct{})
	server := arpc.NewServer()
	server.Handler.Use(router.Only(reports.Handler(), "/report/*"))
	server.Handler.Handle("/report/yearly", func(ctx *arpc.Context) {
		<-finish // a long computation
		ctx.Write("all is well")
	})
	server.Handler.Handle("/ping", func(ctx *arpc.Context) { ctx.Write("pong") })
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

	ended := make(chan string, 4)
	for range cap(ended) {
		go func() {
			var text string
			if err := client.CallWith(ctx, "/report/yearly", nil, &text); err != nil {
				text = fmt.Sprintf("%v: %v", arpc.CodeOf(err), err)
			}
			ended <- text
		}()
	}
	fmt.Fprintln(stdout, "one of four has no place:", <-ended)
	var answer string
	if err := client.CallWith(ctx, "/ping", nil, &answer); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "other calls are not concerned:", answer)
	close(finish)
	for range cap(ended) - 1 {
		fmt.Fprintln(stdout, "report:", <-ended)
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
