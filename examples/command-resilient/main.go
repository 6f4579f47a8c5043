// Command command-resilient sends commands over a group of connections to a server that
// goes up and down: connections come back, a breaker keeps callers from waiting for
// nothing, and in the end every command is accounted for.
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
	"github.com/arpc-go/arpc/extension/command"
	"github.com/arpc-go/arpc/middleware/call"
)

const (
	workers = 8
	outages = 3
	up      = 400 * time.Millisecond
	down    = 200 * time.Millisecond
)

// Till is the receiver. It outlives the servers that it is behind.
type Till struct{ sold atomic.Int64 }

// Sell has one result, the number of the sale.
type Sell struct{ What string }

func (s Sell) Exec(ctx context.Context, till *Till, reply *command.Reply[int64]) error {
	return reply.Last(till.sold.Add(1))
}

// Receipts has many.
type Receipts struct{ N int }

func (r Receipts) Exec(ctx context.Context, till *Till, reply *command.Reply[string]) error {
	for n := range r.N {
		if err := reply.Send(fmt.Sprintf("receipt %d", n+1)); err != nil {
			return err
		}
	}
	return nil
}

// commands are those that both ends know.
func commands() *command.Registry[*Till] {
	reg := command.NewRegistry[*Till]()
	command.Register[*Till, Sell](reg)
	command.Register[*Till, Receipts](reg)
	return reg
}

// accounts say how commands have ended.
type accounts struct {
	sent    atomic.Int64
	done    atomic.Int64 // with all of their results
	refused atomic.Int64 // by the breaker: nothing was sent
	unsent  atomic.Int64 // there was no connection: nothing was sent either
	unknown atomic.Int64 // the connection was lost under them: they may have been executed
	strange atomic.Value // an error that is none of these
}

func (a *accounts) enter(err error) {
	var open *call.OpenError
	switch {
	case err == nil:
		a.done.Add(1)
	case errors.As(err, &open):
		a.refused.Add(1)
	case arpc.SafeToRetry(err):
		a.unsent.Add(1)
	case arpc.CodeOf(err) == arpc.CodeUnavailable:
		a.unknown.Add(1)
	default:
		a.strange.Store(err.Error())
	}
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	shop := &shop{till: &Till{}, addr: ln.Addr().String()}
	shop.open(ln)
	defer shop.close()
	pool, err := arpc.NewClientPool(func() (net.Conn, error) {
		return net.DialTimeout("tcp", shop.addr, time.Second)
	}, 4, arpc.WithReconnect(5*time.Millisecond, 50*time.Millisecond, arpc.Forever))
	if err != nil {
		return err
	}
	defer pool.Stop()
	breaker := call.NewBreaker("shop",
		call.WithScope(call.Whole),
		call.WithFailureRate(0.5, 5, 50*time.Millisecond), // half of at least five commands
		call.WithOpenFor(30*time.Millisecond),
	)
	sender := commands().Sender(pool, command.WithInterceptors(breaker.Intercept))

	var books accounts
	finish := books.fill(ctx, sender)
	err = shop.goUpAndDown(stdout)
	finish()
	if err != nil {
		return err
	}
	return books.report(stdout, shop.till)
}

// fill has workers send commands and enter how they have ended, until the function that
// it returns is called.
func (a *accounts) fill(ctx context.Context, sender *command.Sender[*Till]) (finish func()) {
	var all sync.WaitGroup
	var stop atomic.Bool
	for id := range workers {
		all.Go(func() {
			for n := 0; !stop.Load(); n++ {
				a.sent.Add(1)
				a.enter(one(ctx, sender, id+n))
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() {
		stop.Store(true)
		all.Wait()
	}
}

// one sends a command and returns how it has ended: one with a result, or one with many.
func one(ctx context.Context, sender *command.Sender[*Till], n int) error {
	if n%2 == 0 {
		_, err := command.Send(ctx, sender, Sell{What: "a book"})
		return err
	}
	count := 0
	for r, err := range command.SendMulti(ctx, sender, Receipts{N: 10}) {
		if err != nil {
			return err
		}
		if count++; r.Value != fmt.Sprintf("receipt %d", count) {
			return fmt.Errorf("%s came as number %d", r.Value, count)
		}
	}
	if count != 10 {
		return fmt.Errorf("%d of 10 receipts, and no error", count)
	}
	return nil
}

// shop is a server that is not always there. Its till is.
type shop struct {
	till   *Till
	addr   string
	server *arpc.Server
}

func (s *shop) open(ln net.Listener) {
	server := arpc.NewServer()
	commands().Handle(server.Handler, s.till)
	go func() {
		if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	s.server = server
}

func (s *shop) close() { s.server.Stop() }

// goUpAndDown closes and opens the shop at the same address; it is open in the end.
func (s *shop) goUpAndDown(stdout io.Writer) error {
	for range outages {
		time.Sleep(up)
		s.close()
		fmt.Fprintln(stdout, "the server is down")
		time.Sleep(down)
		ln, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		s.open(ln)
		fmt.Fprintln(stdout, "the server is up")
	}
	time.Sleep(up)
	return nil
}

func (a *accounts) report(stdout io.Writer, till *Till) error {
	fmt.Fprintf(stdout, "%d commands were sent\n", a.sent.Load())
	fmt.Fprintf(stdout, "%7d are done, with %d sales in all\n", a.done.Load(), till.sold.Load())
	fmt.Fprintf(stdout, "%7d were refused by the breaker and %d found no connection: to be sent again\n", a.refused.Load(), a.unsent.Load())
	fmt.Fprintf(stdout, "%7d lost their connection and may have been executed\n", a.unknown.Load())
	left := a.sent.Load() - a.done.Load() - a.refused.Load() - a.unsent.Load() - a.unknown.Load()
	fmt.Fprintf(stdout, "%7d are unaccounted for\n", left)
	if left != 0 {
		return fmt.Errorf("%d commands are unaccounted for, the last with %v", left, a.strange.Load())
	}
	return nil
}
