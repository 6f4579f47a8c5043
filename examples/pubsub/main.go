// Command pubsub publishes to the subscribers of a topic. Its three parts are programs
// of their own in real life, in server.go, subscriber.go and publisher.go, and may be
// run so here, each in a terminal:
//
//	go run ./examples/pubsub server
//	go run ./examples/pubsub subscriber
//	go run ./examples/pubsub publisher
//
// Without an argument all of them run, one after the other, in one process.
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

const (
	address   = "localhost:8888"
	password  = "open sesame"
	topicName = "weather"
)

func main() {
	if err := start(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func start(args []string) error {
	if len(args) == 0 {
		return run(context.Background(), os.Stdout)
	}
	switch args[0] {
	case "server":
		return newServer().Run(address)
	case "subscriber":
		if _, err := subscribe(dialer(address), os.Stdout); err != nil {
			return err
		}
		select {} // until it is interrupted
	case "publisher":
		return publish(dialer(address))
	}
	return fmt.Errorf("server, subscriber or publisher, not %q", args[0])
}

func dialer(address string) arpc.DialerFunc {
	return func() (net.Conn, error) { return net.DialTimeout("tcp", address, 3*time.Second) }
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	server := newServer()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	defer server.Stop()

	subscriber, err := subscribe(dialer(ln.Addr().String()), stdout)
	if err != nil {
		return err
	}
	if err := publish(dialer(ln.Addr().String())); err != nil {
		return err
	}
	if err := server.Publish(topicName, "and now the sports"); err != nil {
		return err
	}
	// Publishing does not wait for subscribers. Shutdown waits until the callback has
	// run for everything that has come, of which this is the last.
	select {
	case <-subscriber.last:
	case <-ctx.Done():
		return ctx.Err()
	}
	return subscriber.Shutdown(ctx)
}
