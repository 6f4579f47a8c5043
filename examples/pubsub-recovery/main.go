// Command pubsub-recovery loses the connection of a subscriber, twice. The server keeps
// the last ten orders: what was missed at first comes later, in order; the second time
// more was missed than is kept, and the subscriber is told.
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
	"github.com/arpc-go/arpc/extension/pubsub"
)

// Order is what is published.
type Order struct{ Number int }

// Orders is the topic, for both ends.
var Orders = pubsub.NewTopic[Order]("orders.created")

const kept = 10 // orders in the history

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	broker := pubsub.NewMemoryBroker(pubsub.WithHistory("orders.>", pubsub.History{Messages: kept}))
	defer broker.Close()
	server := pubsub.NewServer(pubsub.WithBroker(broker))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	line := newLine(ln.Addr().String())
	soon := arpc.WithReconnect(10*time.Millisecond, 50*time.Millisecond, arpc.Forever)
	client, err := pubsub.NewClient(line.dial, pubsub.WithClientOptions(soon))
	if err != nil {
		return err
	}
	defer client.Stop()
	return sell(ctx, server, client, line, stdout)
}

// sell has a shop publish orders to a desk, over a line that is cut.
func sell(ctx context.Context, server *pubsub.Server, client *pubsub.Client, line *line, stdout io.Writer) error {
	desk := &desk{out: stdout, seen: make(chan int, 100)}
	if _, err := Orders.Subscribe(ctx, client, desk.order, pubsub.OnEvent(desk.event)); err != nil {
		return err
	}

	shop := &shop{ctx: ctx, server: server, desk: desk}
	if err := shop.sell(2, func() {}); err != nil {
		return err
	}
	for _, missed := range []int{3, 20} {
		fmt.Fprintf(stdout, "-- the line is cut, and %d orders are made\n", missed)
		line.cut(client)
		if err := shop.sell(missed, line.mend); err != nil {
			return err
		}
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *pubsub.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// desk is the subscriber. Its functions run one after the other, so they need no lock.
type desk struct {
	out  io.Writer
	seen chan int // numbers of orders
}

func (d *desk) order(o *Order, _ *pubsub.Topic) {
	fmt.Fprintln(d.out, "order", o.Number)
	d.seen <- o.Number
}

func (d *desk) event(e pubsub.Event) {
	switch {
	case e.Kind == pubsub.EventInterrupted:
		fmt.Fprintln(d.out, "-- interrupted")
	case e.Kind == pubsub.EventStarted && e.Recovered:
		fmt.Fprintln(d.out, "-- nothing is missing")
	case e.Kind == pubsub.EventStarted:
		fmt.Fprintln(d.out, "-- something is missing")
	}
}

// shop is the publisher, in the server's process.
type shop struct {
	ctx    context.Context
	server *pubsub.Server
	desk   *desk
	last   int // number of an order
}

// sell publishes orders, does what then is to be done, and returns when the last of
// them has come to the desk.
func (s *shop) sell(orders int, then func()) error {
	for range orders {
		s.last++
		if _, err := Orders.Publish(s.ctx, s.server, &Order{Number: s.last}); err != nil {
			return err
		}
	}
	then()
	return s.wait()
}

func (s *shop) wait() error {
	for {
		select {
		case number := <-s.desk.seen:
			if number == s.last {
				return nil
			}
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}
