// Command compression sends the same orders with several coders, and counts the bytes
// that cross the wire. Coders with a name are used where both ends have them.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	orders := list(1000)
	fmt.Fprintf(stdout, "1000 orders in one call: %d bytes\n", len(orders))
	for _, c := range []struct {
		name           string
		server, client []arpc.MessageCoder
	}{
		{"no coder", nil, nil},
		{"s2", coders(s2.New()), coders(s2.New())},
		{"zstd", coders(zstd.New()), coders(zstd.New())},
		{"zstd, level 9", coders(zstd.New(zstd.WithLevel(9))), coders(zstd.New(zstd.WithLevel(9)))},
		// The first in the chain that both have compresses, or none does.
		{"both, and the client has s2", coders(zstd.New(), s2.New()), coders(s2.New())},
		{"zstd, and the client has none", coders(zstd.New()), nil},
	} {
		sent, received, err := traffic(ctx, c.server, c.client, [][]byte{orders})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Fprintf(stdout, "  %-30s %6d there, %6d back\n", c.name, sent, received)
	}
	return short(ctx, stdout)
}

// short sends messages that are too short to get shorter on their own. A dictionary of
// typical ones, which both ends have, changes that.
func short(ctx context.Context, stdout io.Writer) error {
	var messages [][]byte
	for n := range 1000 {
		messages = append(messages, order(n))
	}
	with := func(opts ...zstd.Option) []arpc.MessageCoder {
		return coders(zstd.New(append(opts, zstd.WithThreshold(64))...))
	}
	dictionary := zstd.WithDictionary(bytes.Join(messages[:20], nil))
	fmt.Fprintln(stdout, "1000 orders in 1000 calls:")
	for _, c := range []struct {
		name   string
		coders []arpc.MessageCoder
	}{
		{"no coder", nil},
		{"zstd", with()},
		{"zstd with a dictionary", with(dictionary)},
	} {
		sent, received, err := traffic(ctx, c.coders, c.coders, messages)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Fprintf(stdout, "  %-30s %6d there, %6d back\n", c.name, sent, received)
	}
	return nil
}

func coders(list ...arpc.MessageCoder) []arpc.MessageCoder { return list }

// order returns one order as JSON.
func order(n int) []byte {
	b, err := json.Marshal(map[string]any{
		"id": 1_000_000 + n*37, "customer": fmt.Sprintf("customer-%d", n*7%500),
		"state": []string{"open", "paid", "sent"}[n%3], "total": float64(n*n%10_000) / 100,
	})
	if err != nil {
		panic(err) // it has nothing that JSON cannot hold
	}
	return b
}

func list(n int) []byte {
	var all [][]byte
	for i := range n {
		all = append(all, order(i))
	}
	return append(append([]byte{'['}, bytes.Join(all, []byte{','})...), ']')
}

// traffic has a server send messages back, and returns how many bytes crossed the
// wire in each direction.
func traffic(ctx context.Context, server, client []arpc.MessageCoder, messages [][]byte) (sent, received int64, err error) {
	s := arpc.NewServer(arpc.WithHandler(handler(server)))
	s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	go serve(s, ln)
	defer s.Stop()

	var count counter
	c, err := arpc.NewClient(func() (net.Conn, error) {
		nc, err := net.Dial("tcp", ln.Addr().String())
		return &countingConn{nc, &count}, err
	}, arpc.WithHandler(handler(client)))
	if err != nil {
		return 0, 0, err
	}
	defer c.Stop()
	for _, message := range messages {
		var back []byte
		if err := c.CallWith(ctx, "/echo", message, &back); err != nil {
			return 0, 0, err
		}
		if !bytes.Equal(back, message) {
			return 0, 0, errors.New("the message came back changed")
		}
	}
	c.Stop() // no byte is being counted any more
	return count.sent.Load(), count.received.Load(), nil
}

func handler(coders []arpc.MessageCoder) *arpc.Handler {
	h := arpc.NewHandler()
	for _, coder := range coders {
		h.UseCoder(coder)
	}
	return h
}

// serve serves until the server is stopped.
func serve(s *arpc.Server, ln net.Listener) {
	if err := s.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// counter counts while others read and write.
type counter struct{ sent, received atomic.Int64 }

// countingConn is a connection that counts its bytes.
type countingConn struct {
	net.Conn
	counter *counter
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.counter.received.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.counter.sent.Add(int64(n))
	return n, err
}
