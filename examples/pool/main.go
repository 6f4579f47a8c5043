// Command pool spreads calls over several connections to a server, and goes on
// with the others when one is lost.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

const (
	connections = 4
	calls       = 120
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	server.Handler.Handle("/where", func(ctx *arpc.Context) {
		ctx.Write(ctx.Client.Conn().RemoteAddr().String())
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	// Several servers? Give NewClientPoolFromDialers a dialer for each.
	pool, err := arpc.NewClientPool(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	}, connections)
	if err != nil {
		return err
	}
	defer pool.Stop()

	if err := callAll(ctx, pool, stdout, "all connected"); err != nil {
		return err
	}
	pool.Get(0).Stop()
	return callAll(ctx, pool, stdout, "without the first")
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// callAll makes many calls at the same time and prints how many went over each
// connection.
func callAll(ctx context.Context, pool *arpc.ClientPool, stdout io.Writer, title string) error {
	var (
		all    sync.WaitGroup
		errs   = make([]error, calls)
		mu     sync.Mutex
		counts = make(map[string]int) // guarded by mu
	)
	for i := range calls {
		all.Go(func() {
			// The pool has the methods of a client and takes the next
			// connection in turn.
			var addr string
			errs[i] = pool.CallWith(ctx, "/where", nil, &addr)
			mu.Lock()
			defer mu.Unlock()
			counts[addr]++
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}

	fmt.Fprintf(stdout, "%d calls, %s:\n", calls, title)
	for i := range pool.Size() {
		// This end's address is what the server sees as the remote one.
		addr := pool.Get(i).Conn().LocalAddr().String()
		fmt.Fprintf(stdout, "  connection %d: %3d\n", i+1, counts[addr])
	}
	return nil
}
