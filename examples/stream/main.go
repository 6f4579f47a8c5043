// Command stream shows streams: a conversation, in which both sides send and
// receive, and a download, in which one side sends and the other reads to the
// end.
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

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	server.Handler.HandleStream("/average", average)
	server.Handler.HandleStream("/countdown", countdown)
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

	if err := converse(ctx, client, stdout); err != nil {
		return fmt.Errorf("/average: %w", err)
	}
	if err := download(ctx, client, stdout); err != nil {
		return fmt.Errorf("/countdown: %w", err)
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// converse sends numbers and receives an average after each.
func converse(ctx context.Context, client *arpc.Client, stdout io.Writer) error {
	stream, err := client.OpenStream(ctx, "/average")
	if err != nil {
		return err
	}
	defer stream.Close()

	for _, x := range []float64{2, 4, 9} {
		if err := stream.Send(x); err != nil {
			return err
		}
		var average float64
		if err := stream.Recv(&average); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "sent %v, average so far %v\n", x, average)
	}

	// We have sent everything. The server's side ends when its handler returns.
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.Recv(nil); !errors.Is(err, io.EOF) {
		return fmt.Errorf("want the end of the stream, got: %w", err)
	}
	fmt.Fprintln(stdout, "both sides are done")
	return nil
}

// average answers each number with the average of those it has got. A stream
// handler has a goroutine of its own and may take its time; the stream is closed
// when it returns.
func average(stream *arpc.Stream) {
	var total float64
	for count := 1.0; ; count++ {
		var x float64
		err := stream.Recv(&x)
		if errors.Is(err, io.EOF) {
			return // the client has called CloseSend
		}
		if err != nil {
			log.Print(err)
			return
		}
		total += x
		if err := stream.Send(total / count); err != nil {
			log.Print(err)
			return
		}
	}
}

// download sends one number and reads whatever comes back. RecvSeq is for
// messages that are wanted as bytes: the loop ends with the stream.
func download(ctx context.Context, client *arpc.Client, stdout io.Writer) error {
	stream, err := client.OpenStream(ctx, "/countdown")
	if err != nil {
		return err
	}
	defer stream.Close()

	if err := stream.Send(3); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for line, err := range stream.RecvSeq() {
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s\n", line)
	}
	return nil
}

// countdown counts down from the number it gets.
func countdown(stream *arpc.Stream) {
	var from int
	if err := stream.Recv(&from); err != nil {
		log.Print(err)
		return
	}
	for i := from; i > 0; i-- {
		if err := stream.Send(fmt.Sprintf("%d ...", i)); err != nil {
			log.Print(err)
			return
		}
	}
	if err := stream.Send("lift-off"); err != nil {
		log.Print(err)
	}
}
