// Command broadcast sends news to all clients of a server, and to those in one
// room.
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

// roomKey is the key under which the server keeps a client's room.
type roomKey struct{}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	server.Handler.Handle("/join", func(ctx *arpc.Context) {
		ctx.Client.Set(roomKey{}, string(ctx.Body()))
		ctx.Write(nil)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	var readers []*reader
	for _, who := range []struct{ name, room string }{{"Ann", "sports"}, {"Bob", "science"}, {"Cleo", "sports"}} {
		r, err := join(ctx, ln.Addr().String(), who.name, who.room)
		if err != nil {
			return err
		}
		defer r.client.Stop()
		readers = append(readers, r)
	}

	if err := publish(server); err != nil {
		return err
	}
	for _, r := range readers {
		if err := r.print(ctx, stdout); err != nil {
			return err
		}
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// publish sends two messages to everybody and one between them to a room. Each
// is encoded once, however many clients get it. Broadcast waits for nobody: a
// client whose send queue is full misses the message, and a hook set with
// Handler.HandleOverstock is told.
func publish(server *arpc.Server) error {
	inSports := func(c *arpc.Client) bool {
		room, _ := c.Get(roomKey{})
		return room == "sports"
	}
	return errors.Join(
		server.Broadcast("/news", "Good morning!"),
		server.Broadcast("/news", "The match is at three.", inSports),
		server.Broadcast("/news", "Good night!"),
	)
}

// reader is a client that gets news.
type reader struct {
	name, room string
	client     *arpc.Client
	news       chan string
}

// join connects a client and puts it in a room.
func join(ctx context.Context, addr, name, room string) (*reader, error) {
	r := &reader{name: name, room: room, news: make(chan string, 10)}

	// A client with routes of its own from the start gets them in a Handler,
	// so that nothing that the server sends comes too early.
	handler := arpc.NewHandler()
	handler.Handle("/news", func(ctx *arpc.Context) { r.news <- string(ctx.Body()) })

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", addr, 3*time.Second)
	}, arpc.WithHandler(handler))
	if err != nil {
		return nil, err
	}
	if err := client.CallWith(ctx, "/join", room, nil); err != nil {
		client.Stop()
		return nil, fmt.Errorf("%s joins %s: %w", name, room, err)
	}
	r.client = client
	return r, nil
}

// print prints the news until the last.
func (r *reader) print(ctx context.Context, stdout io.Writer) error {
	for {
		select {
		case text := <-r.news:
			fmt.Fprintf(stdout, "%-4s in %-7s got: %s\n", r.name, r.room, text)
			if text == "Good night!" {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
