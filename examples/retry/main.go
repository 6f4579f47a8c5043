// Command retry shows which calls are tried again, when, and how often.
package main

import (
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
	"github.com/arpc-go/arpc/middleware/call"
	"github.com/arpc-go/arpc/middleware/router"
)

// What both ends share: reading twice does no harm, paying twice does.
var (
	Balance = arpc.NewMethod[string, int]("/balance", arpc.Idempotent)
	Pay     = arpc.NewMethod[int, string]("/pay")
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	b := new(bank)
	if err := b.start(); err != nil {
		return err
	}
	defer b.server.Stop()
	client, err := b.dial(call.NewBudget(0.1, 20))
	if err != nil {
		return err
	}
	defer client.Stop()

	if err := show(ctx, b, client, stdout); err != nil {
		return err
	}
	return flood(ctx, b, stdout)
}

// show makes calls that are tried again, and one that is not.
func show(ctx context.Context, b *bank, client *arpc.Client, stdout io.Writer) error {
	fmt.Fprintln(stdout, "a busy server is asked again, when it says")
	b.busy.Store(2)
	balance, err := Balance.Call(ctx, client, new("alice"))
	if err != nil {
		return fmt.Errorf("ask for the balance: %w", err)
	}
	fmt.Fprintf(stdout, "  the balance is %d, after %d requests\n", *balance, b.requests.Swap(0))

	fmt.Fprintln(stdout, "a payment may have been made, and is not tried again")
	b.busy.Store(2)
	_, err = Pay.Call(ctx, client, new(100))
	fmt.Fprintf(stdout, "  %v, after %d request\n", err, b.requests.Swap(0))
	b.busy.Store(0)

	fmt.Fprintln(stdout, "unless nothing of it was sent, for there was no connection")
	b.hangUp(client)
	if _, err := Pay.Call(ctx, client, new(100)); err != nil {
		return fmt.Errorf("pay during an outage: %w", err)
	}
	fmt.Fprintf(stdout, "  paid, after %d request\n", b.requests.Swap(0))
	return nil
}

// flood makes many calls to a server that is busy for long.
func flood(ctx context.Context, b *bank, stdout io.Writer) error {
	budget := call.NewBudget(0.1, 20)
	client, err := b.dial(budget)
	if err != nil {
		return err
	}
	defer client.Stop()

	fmt.Fprintln(stdout, "a server that is down for long is not flooded")
	b.busy.Store(1000)
	for range 201 {
		Balance.Call(ctx, client, new("alice"))
	}
	stats := budget.Stats()
	fmt.Fprintf(stdout, "  %d calls made %d requests: %d were second attempts or more, then the budget was spent\n", stats.Calls, b.requests.Load(), stats.Extra)
	return nil
}

// bank is a server.
type bank struct {
	server   *arpc.Server
	addr     string
	requests atomic.Int64
	busy     atomic.Int64 // how many requests are still turned away
}

func (b *bank) start() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.addr = ln.Addr().String()
	b.server = arpc.NewServer()
	Balance.Handle(b.server.Handler, func(ctx context.Context, _ *string) (*int, error) { return new(1000), b.admit(ctx) })
	Pay.Handle(b.server.Handler, func(ctx context.Context, _ *int) (*string, error) { return new("receipt"), b.admit(ctx) })
	go func() {
		if err := b.server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return nil
}

// admit turns requests away while the server is busy, and says when to come back.
func (b *bank) admit(ctx context.Context) error {
	b.requests.Add(1)
	if b.busy.Load() == 0 {
		return nil
	}
	b.busy.Add(-1)
	if request, ok := arpc.FromContext(ctx); ok {
		request.SetMetadata(router.RetryAfterKey, "1") // milliseconds
	}
	return arpc.NewError(arpc.CodeUnavailable, "busy")
}

// dial returns a client that tries again.
func (b *bank) dial(budget *call.Budget) (*arpc.Client, error) {
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", b.addr, 3*time.Second)
	}, arpc.WithReconnect(5*time.Millisecond, 5*time.Millisecond, arpc.Forever))
	if err != nil {
		return nil, err
	}
	client.Handler.UseCall(call.Timeout(20 * time.Second)) // for all attempts together
	client.Handler.UseCall(call.Retry(
		call.WithBudget(budget),
		call.WithMaxAttempts(10),
		call.WithBackoff(5*time.Millisecond, 500*time.Millisecond),
	))
	return client, nil
}

// hangUp ends all connections, and returns when the client has noticed.
func (b *bank) hangUp(client *arpc.Client) {
	noticed := make(chan struct{}, 1)
	client.OnDisconnected(func(*arpc.Client) { noticed <- struct{}{} })
	for _, peer := range b.server.Clients() {
		peer.Stop()
	}
	<-noticed
}
