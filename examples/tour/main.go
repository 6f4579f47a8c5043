// Command tour shows in a few seconds what arpc does: a server and its clients
// in one process, talking over TCP. Each section is a function of its own; the
// other examples show the same things one by one, as you would write them.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/arpc-go/arpc"
)

// measureFor is how long each of the two measurements takes.
const measureFor = 2 * time.Second

var sections = []struct {
	title string
	show  func(context.Context, *tour) error
}{
	{"Calls, both ways", callsBothWays},
	{"Asynchronous calls", asynchronousCalls},
	{"Notifications, in order", notifications},
	{"Broadcast", broadcast},
	{"A stream", stream},
	{"A slow handler delays nobody", slowHandlers},
	{"Errors say what happened", errorsWithCodes},
	{"A handler ends with its call", handlersGiveUp},
	{"The server restarts, the client comes back", restart},
	{"Calls per second", callsPerSecond},
	{"Notifications per second", notificationsPerSecond},
}

func main() {
	if err := run(context.Background(), os.Stdout, measureFor); err != nil {
		log.Fatal(err)
	}
}

// run makes the tour, with measurements of the given length.
func run(ctx context.Context, stdout io.Writer, measure time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()

	t := &tour{out: bufio.NewWriter(stdout), measure: measure, handler: arpc.NewHandler()}
	if err := t.start(); err != nil {
		return err
	}
	defer t.stop()

	fmt.Fprintln(t.out, "A tour of arpc: a server and its clients in one process, over loopback TCP.")
	fmt.Fprintf(t.out, "%s, %s/%s, %d CPUs\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	for i, section := range sections {
		if err := t.heading(i+1, section.title); err != nil {
			return err
		}
		if err := section.show(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", section.title, err)
		}
	}
	return t.out.Flush()
}

// tour is what the sections share. They run one after the other, and each adds
// the routes it needs.
type tour struct {
	out     *bufio.Writer // keeps its first error, which Flush returns
	measure time.Duration

	handler *arpc.Handler // of the server; outlives its restart
	server  *arpc.Server
	addr    address
	client  *arpc.Client
	events  chan event // what happens to the client's connection
}

// start starts the server and connects the client.
func (t *tour) start() error {
	if err := t.serve(); err != nil {
		return err
	}
	t.events = make(chan event, 100)
	handler := arpc.NewHandler(arpc.WithReconnect(50*time.Millisecond, time.Second, arpc.Forever))
	t.watch(handler)
	client, err := arpc.NewClient(t.dial, arpc.WithHandler(handler))
	if err != nil {
		t.server.Stop()
		return err
	}
	t.client = client
	return nil
}

// serve starts a server with the handler on a free port.
func (t *tour) serve() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.addr.set(ln.Addr().String())
	server := arpc.NewServer(arpc.WithHandler(t.handler))
	t.server = server
	go func() {
		if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return nil
}

// dial connects to where the server is at the moment. The client calls it again
// to reconnect.
func (t *tour) dial() (net.Conn, error) {
	return net.DialTimeout("tcp", t.addr.get(), 3*time.Second)
}

func (t *tour) stop() {
	t.client.Stop()
	t.server.Stop()
}
