// Command overload asks a server for three times of what it can do, without and
// with middleware that sheds load.
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
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

const (
	places   = 20                              // the database does so many queries at a time
	query    = 20 * time.Millisecond           // and takes so long for each
	capacity = places * int(time.Second/query) // queries a second
	patience = 100 * time.Millisecond          // of callers
	during   = 2 * time.Second
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	adaptive := router.NewAdaptive()
	for _, c := range []struct {
		name       string
		middleware arpc.HandlerFunc
	}{
		{"without shedding", func(*arpc.Context) {}},
		{"with shedding", adaptive.Handler()},
	} {
		done, err := storm(ctx, c.middleware)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: %.0f of %d queries a second are answered in time\n", c.name, done, capacity)
	}
	fmt.Fprintf(stdout, "%d were refused at once; the limit is %d at a time now\n", adaptive.Refused(), adaptive.Limit())
	return nil
}

// storm asks for three times the capacity, and returns how many queries were
// answered in time each second.
func storm(ctx context.Context, middleware arpc.HandlerFunc) (perSecond float64, err error) {
	database := make(chan struct{}, places)
	server := arpc.NewServer()
	server.Handler.Use(middleware)
	server.Handler.Handle("/query", func(ctx *arpc.Context) {
		database <- struct{}{}
		time.Sleep(query)
		<-database
		ctx.Write("found")
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	go serve(server, ln)
	defer server.Stop()
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
	if err != nil {
		return 0, err
	}
	defer client.Stop()

	var answered atomic.Int64
	var calls sync.WaitGroup
	start := time.Now()
	const pause = time.Second / time.Duration(3*capacity)
	for next := time.Duration(0); next < during; next += pause {
		time.Sleep(next - time.Since(start))
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if client.CallWith(ctx, "/query", nil, nil) == nil {
				answered.Add(1)
			}
		})
	}
	calls.Wait()
	return float64(answered.Load()) / during.Seconds(), nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
