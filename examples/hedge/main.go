// Command hedge cuts off the slowest calls: one request in twenty stalls on its
// server, and a second attempt overtakes it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/call"
)

const (
	calls   = 1000
	callers = 50
	stall   = 300 * time.Millisecond
)

// Price may be asked for twice.
var Price = arpc.NewMethod[string, int]("/price", arpc.Idempotent)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	s := new(shop)
	if err := s.start(); err != nil {
		return err
	}
	defer s.server.Stop()
	for _, c := range []struct {
		title string
		hedge []arpc.CallInterceptor
	}{
		{"without hedging", nil},
		{"a second attempt after 20 ms", []arpc.CallInterceptor{call.Hedge(call.WithDelay(20 * time.Millisecond))}},
		{"after twice the time that nine calls in ten take", []arpc.CallInterceptor{call.Hedge()}},
	} {
		if err := s.measure(ctx, stdout, c.title, c.hedge); err != nil {
			return fmt.Errorf("%s: %w", c.title, err)
		}
	}
	return nil
}

// shop is a server.
type shop struct {
	server             *arpc.Server
	addr               string
	requests, canceled atomic.Int64
}

func (s *shop) start() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr = ln.Addr().String()
	s.server = arpc.NewServer()
	Price.Handle(s.server.Handler, s.price)
	go func() {
		if err := s.server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return nil
}

// price stalls now and then, unless nobody waits for it any more.
func (s *shop) price(ctx context.Context, _ *string) (*int, error) {
	takes := time.Millisecond
	if s.requests.Add(1)%20 == 0 {
		takes = stall
	}
	select {
	case <-ctx.Done():
		s.canceled.Add(1)
		return nil, ctx.Err()
	case <-time.After(takes):
		return new(1250), nil
	}
}

// measure makes calls and prints what the slowest of them took.
func (s *shop) measure(ctx context.Context, stdout io.Writer, title string, hedge []arpc.CallInterceptor) error {
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", s.addr, 3*time.Second)
	})
	if err != nil {
		return err
	}
	defer client.Stop()
	for _, fn := range hedge {
		client.Handler.UseCall(fn)
	}
	if _, err := callAll(ctx, client, 200); err != nil { // a measured delay needs some calls first
		return err
	}
	s.requests.Store(0)
	s.canceled.Store(0)
	took, err := callAll(ctx, client, calls)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s:\n  p50 %v, p99 %v, %d more requests, %d handlers were told to stop\n",
		title, took[calls/2].Round(time.Millisecond), took[calls*99/100].Round(time.Millisecond), s.requests.Load()-calls, s.canceled.Load())
	return nil
}

// callAll makes n calls, some at the same time, and returns how long each took, the
// shortest first.
func callAll(ctx context.Context, client *arpc.Client, n int) ([]time.Duration, error) {
	took, errs := make([]time.Duration, n), make([]error, n)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for j := i; j < n; j += callers {
				start := time.Now()
				_, errs[j] = Price.Call(ctx, client, new("bread"))
				took[j] = time.Since(start)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took, errors.Join(errs...)
}
