// Command deadline shows how deadlines and cancellations travel: a client calls
// server A, whose handler calls B, whose handler calls C.
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

	// The last one first: each server is a client of the one behind it.
	c, toC, err := start("C", nil)
	if err != nil {
		return err
	}
	defer c.Stop()
	defer toC.Stop()
	b, toB, err := start("B", toC)
	if err != nil {
		return err
	}
	defer b.Stop()
	defer toB.Stop()
	a, toA, err := start("A", toB)
	if err != nil {
		return err
	}
	defer a.Stop()
	defer toA.Stop()

	// A context with a deadline is all that it takes.
	hurried, cancelHurried := context.WithTimeout(ctx, time.Second)
	defer cancelHurried()
	var budgets string
	if err := toA.CallWith(hurried, "/budget", nil, &budgets); err != nil {
		return fmt.Errorf("call /budget: %w", err)
	}
	fmt.Fprintf(stdout, "the client gives it 1s\n%s", budgets)

	if err := giveUp(ctx, toA, c, stdout); err != nil {
		return err
	}
	return tooLate(ctx, toC, c, stdout)
}

// start starts a server whose handlers pass calls on to the next one, and
// returns a client of it.
func start(name string, next *arpc.Client) (*arpc.Server, *arpc.Client, error) {
	server := arpc.NewServer()
	server.Handler.Handle("/budget", func(ctx *arpc.Context) {
		time.Sleep(20 * time.Millisecond) // some work
		deadline, _ := ctx.Deadline()
		text := fmt.Sprintf("%s has %v left\n", name, time.Until(deadline).Round(time.Millisecond))
		if next != nil {
			// A call with the context of the request has what is left of its time.
			var rest string
			if err := next.CallWith(ctx, "/budget", nil, &rest); err != nil {
				ctx.Error(err)
				return
			}
			text += rest
		}
		ctx.Write(text)
	})
	if next != nil {
		server.Handler.Handle("/wait", func(ctx *arpc.Context) { ctx.Error(next.CallWith(ctx, "/wait", nil, nil)) })
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	go serve(server, ln)
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
	if err != nil {
		server.Stop()
	}
	return server, client, err
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// giveUp cancels a call to A while a handler of C works on it.
func giveUp(ctx context.Context, toA *arpc.Client, c *arpc.Server, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	c.Handler.Handle("/wait", func(ctx *arpc.Context) {
		cancel() // the client has enough
		<-ctx.Done()
		ended <- context.Cause(ctx)
		ctx.Error(ctx.Err())
	})
	err := toA.CallWith(ctx, "/wait", nil, nil)
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("want a call that was canceled, got: %w", err)
	}
	fmt.Fprintln(stdout, "the client gives up:", err)
	cause := <-ended
	fmt.Fprintf(stdout, "C gives up: %v (code %v)\n", cause, arpc.CodeOf(cause))
	return nil
}

// tooLate has a request wait for its turn until its time is up.
func tooLate(ctx context.Context, toC *arpc.Client, c *arpc.Server, stdout io.Writer) error {
	const patience = 50 * time.Millisecond
	var printed []string // no lock: the jobs are handled one at a time
	queued := make(chan struct{})
	c.Handler.Handle("/print", func(ctx *arpc.Context) {
		if printed = append(printed, string(ctx.Body())); len(printed) == 1 {
			<-queued
			time.Sleep(2 * patience) // a long job
		}
		ctx.Write(fmt.Sprint(printed))
	}, false)
	c.Handler.Handle("/queued", func(*arpc.Context) { close(queued) }, true)

	// What one goroutine sends arrives in order: the ticket is in the queue when
	// the notification is handled.
	book, ticket := make(chan error, 1), make(chan error, 1)
	err := errors.Join(
		toC.CallAsync("/print", "a book", func(ctx *arpc.Context) { book <- ctx.Bind(nil) }, 3*time.Second),
		toC.CallAsync("/print", "a ticket", func(ctx *arpc.Context) { ticket <- ctx.Bind(nil) }, patience),
		toC.Notify("/queued", nil, time.Second),
	)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "the ticket is late:", arpc.CodeOf(<-ticket))
	if err := <-book; err != nil {
		return fmt.Errorf("print a book: %w", err)
	}
	var all string
	if err := toC.CallWith(ctx, "/print", "a letter", &all); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "nobody was waiting for it, so C did not run it:", all)
	return nil
}
