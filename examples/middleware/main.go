// Command middleware puts functions around all handlers of a server: they log,
// turn panics into errors, reject callers that have not logged in, and tell when
// no handler is at work any more.
package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
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

	var logs bytes.Buffer
	logger := newLogger(&logs)
	graceful := router.NewGraceful()
	server := arpc.NewServer()
	// Middleware runs in this order, and goes before the routes, for it wraps
	// those that are registered later.
	server.Handler.Use(graceful.Handler())
	server.Handler.Use(router.Logger(router.WithLogger(logger)))
	server.Handler.Use(router.Recover(router.WithLogger(logger)))
	server.Handler.Use(requireLogin)
	server.Handler.Handle("/login", login)
	server.Handler.Handle("/secret", func(ctx *arpc.Context) { ctx.Write("the key is under the mat") })
	server.Handler.Handle("/bug", func(ctx *arpc.Context) { panic("a bug") })

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

	for _, request := range []struct{ method, text string }{
		{"/secret", ""},
		{"/login", "a guess"},
		{"/login", "open sesame"},
		{"/secret", ""},
		{"/bug", ""},
	} {
		var answer string
		err := client.CallWith(ctx, request.method, request.text, &answer)
		switch {
		case arpc.IsRemote(err): // an answer, too
			fmt.Fprintf(stdout, "%-8s%-13s error: %v\n", request.method, request.text, err)
		case err != nil:
			return fmt.Errorf("call %s: %w", request.method, err)
		default:
			fmt.Fprintf(stdout, "%-8s%-13s %s\n", request.method, request.text, answer)
		}
	}

	// Middleware may still be at work when its client has the answer already.
	if err := graceful.Shutdown(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nThe server's log:\n%s", logs.Bytes())
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// userKey is the key under which the server keeps who a client is.
type userKey struct{}

// login is a handler.
func login(ctx *arpc.Context) {
	if subtle.ConstantTimeCompare(ctx.Body(), []byte("open sesame")) != 1 {
		ctx.Error(arpc.NewError(arpc.CodeUnauthenticated, "wrong password"))
		return
	}
	ctx.Client.Set(userKey{}, "Ali")
	ctx.Write("welcome, Ali")
}

// requireLogin is middleware: a handler that goes before others. When it returns
// the next one runs, unless it has called Abort.
func requireLogin(ctx *arpc.Context) {
	_, known := ctx.Client.Get(userKey{})
	if known || ctx.Message.Method() == "/login" {
		return
	}
	ctx.Error(arpc.NewError(arpc.CodeUnauthenticated, "log in first"))
	ctx.Abort()
}

// newLogger returns a logger that leaves out what is long or changes from run to
// run. A program of your own would rather log everything.
func newLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			switch attr.Key {
			case slog.TimeKey, "peer", "bytes", "duration", "stack":
				return slog.Attr{}
			}
			return attr
		},
	}))
}
