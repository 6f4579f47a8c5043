// Command rpc is the quick start: a server with two routes, and a client that
// calls them.
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

// Structs travel as JSON unless another codec is set. Strings and byte slices
// travel as they are.
type (
	sumRequest struct {
		Numbers []int `json:"numbers"`
	}
	sumReply struct {
		Total int `json:"total"`
	}
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	server := arpc.NewServer()
	server.Handler.Handle("/hello", hello)
	server.Handler.Handle("/sum", sum)

	// Port 0 means any free port. With a port of your own, server.Run(":8888")
	// listens and serves in one go.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	// The client calls this function again whenever it has to reconnect.
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
	if err != nil {
		return err
	}
	defer client.Stop()

	// Call takes a timeout.
	var greeting string
	if err := client.Call("/hello", "gopher", &greeting, 5*time.Second); err != nil {
		return fmt.Errorf("call /hello: %w", err)
	}
	fmt.Fprintln(stdout, greeting)

	// CallWith takes a context.
	var reply sumReply
	if err := client.CallWith(ctx, "/sum", &sumRequest{Numbers: []int{1, 2, 3}}, &reply); err != nil {
		return fmt.Errorf("call /sum: %w", err)
	}
	fmt.Fprintln(stdout, "1 + 2 + 3 =", reply.Total)

	// An error is what the peer answered, or says what happened on the way.
	err = client.Call("/goodbye", nil, nil, 5*time.Second)
	if !errors.Is(err, arpc.ErrMethodNotFound) {
		return fmt.Errorf("call /goodbye: want %q, got: %w", arpc.ErrMethodNotFound, err)
	}
	fmt.Fprintf(stdout, "/goodbye: %v (code %v)\n", err, arpc.CodeOf(err))
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// A handler answers with Write or Error, once. Both return an error when the
// answer cannot be sent, because the caller is gone: then there is nothing left
// to do, and handlers ignore it.
func hello(ctx *arpc.Context) {
	var name string
	if err := ctx.Bind(&name); err != nil {
		ctx.Error(err)
		return
	}
	ctx.Write("hello, " + name)
}

func sum(ctx *arpc.Context) {
	var req sumRequest
	if err := ctx.Bind(&req); err != nil {
		ctx.Error(err)
		return
	}
	var reply sumReply
	for _, n := range req.Numbers {
		reply.Total += n
	}
	ctx.Write(&reply)
}
