// Command unix talks over a Unix domain socket, which is a file: faster than
// TCP on one machine, and guarded by the permissions of its directory. Anything
// that is a net.Listener and a net.Conn is used in the same way.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/arpc-go/arpc"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	// MkdirTemp makes a directory that only this user may enter.
	dir, err := os.MkdirTemp("", "arpc")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "socket")

	server := arpc.NewServer()
	server.Handler.Handle("/hello", func(ctx *arpc.Context) {
		transport := ctx.Client.Conn().LocalAddr().Network()
		ctx.Write(fmt.Sprintf("hello, %s, over a %s socket", ctx.Body(), transport))
	})
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop() // closing the listener removes the socket

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("unix", path, 3*time.Second)
	})
	if err != nil {
		return err
	}
	defer client.Stop()

	var greeting string
	if err := client.CallWith(ctx, "/hello", "gopher", &greeting); err != nil {
		return fmt.Errorf("call /hello: %w", err)
	}
	fmt.Fprintln(stdout, greeting)
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
