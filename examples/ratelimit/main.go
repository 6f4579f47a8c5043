// Command ratelimit has a server turn away who asks too often, and a client come
// back when it is told to.
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

	// Each address may call five times a second, and three times at once after a
	// pause. What a login costs is limited for all addresses together.
	perPeer := router.NewRateLimit(router.ByPeer(), 5, 3)
	logins := router.NewRateLimit(router.All(), 1, 1)
	server := arpc.NewServer()
	server.Handler.Use(perPeer.Handler())
	server.Handler.Use(router.Only(logins.Handler(), "/login"))
	server.Handler.Handle("/search", func(ctx *arpc.Context) { ctx.Write("found") })
	server.Handler.Handle("/login", func(ctx *arpc.Context) { ctx.Write("welcome") })

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

	after, err := search(ctx, client)
	if arpc.CodeOf(err) != arpc.CodeResourceExhausted {
		return fmt.Errorf("want a call that is refused, got: %w", err)
	}
	fmt.Fprintf(stdout, "refused: %v\n", err)

	select {
	case <-time.After(after):
	case <-ctx.Done():
		return ctx.Err()
	}
	var answer string
	if err := client.CallWith(ctx, "/search", "gopher", &answer); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "later: %s\n", answer)
	fmt.Fprintf(stdout, "%d refused, %d addresses known\n", perPeer.Refused(), perPeer.Keys())
	return nil
}

// search searches until it is refused, and returns when it may come back.
func search(ctx context.Context, client *arpc.Client) (after time.Duration, err error) {
	for err == nil {
		var md arpc.Metadata
		err = client.CallWith(arpc.ContextWithResponseMetadata(ctx, &md), "/search", "gopher", nil)
		after, _ = router.RetryAfter(md)
	}
	return after, err
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
