// Command coder compresses messages with gzip, and counts the bytes that cross
// the wire with and without it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	text := bytes.Repeat([]byte("All work and no play makes Jack a dull boy.\n"), 1000)
	fmt.Fprintf(stdout, "text:         %5d bytes there, %5d back\n", len(text), len(text))

	plain, err := echo(ctx, text)
	if err != nil {
		return fmt.Errorf("without gzip: %w", err)
	}
	fmt.Fprintf(stdout, "without gzip: %5d bytes there, %5d back\n", plain.sent, plain.received)

	coded, err := echo(ctx, text, gzip.New())
	if err != nil {
		return fmt.Errorf("with gzip: %w", err)
	}
	fmt.Fprintf(stdout, "with gzip:    %5d bytes there, %5d back\n", coded.sent, coded.received)
	return nil
}

// traffic is how many bytes crossed the wire.
type traffic struct {
	sent, received int64
}

// echo has a server send a text back, with the coders given. Coders rewrite
// whole messages: Encode before they leave, Decode when they have arrived. Both
// sides need the same ones, in the same order.
func echo(ctx context.Context, text []byte, coders ...arpc.MessageCoder) (traffic, error) {
	serverHandler, clientHandler := arpc.NewHandler(), arpc.NewHandler()
	for _, coder := range coders {
		serverHandler.UseCoder(coder)
		clientHandler.UseCoder(coder)
	}
	serverHandler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return traffic{}, err
	}
	server := arpc.NewServer(arpc.WithHandler(serverHandler))
	go serve(server, ln)
	defer server.Stop()

	var count counter
	client, err := arpc.NewClient(func() (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
		if err != nil {
			return nil, err
		}
		return &countingConn{Conn: conn, counter: &count}, nil
	}, arpc.WithHandler(clientHandler))
	if err != nil {
		return traffic{}, err
	}
	defer client.Stop()

	var back []byte
	if err := client.CallWith(ctx, "/echo", text, &back); err != nil {
		return traffic{}, err
	}
	if !bytes.Equal(back, text) {
		return traffic{}, errors.New("the text came back changed")
	}
	client.Stop() // no write is being counted any more
	return traffic{sent: count.sent.Load(), received: count.received.Load()}, nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// counter counts while others read and write.
type counter struct {
	sent, received atomic.Int64
}

// countingConn is a connection that counts its bytes. The client does not care:
// anything that is a net.Conn will do.
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
