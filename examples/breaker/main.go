// Command breaker shows calls that fail fast while their server is ill, and a pool
// that goes round a member until it is well again.
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
)

const openFor = 400 * time.Millisecond

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := failFast(ctx, stdout); err != nil {
		return err
	}
	return ejectMember(ctx, stdout)
}

// failFast calls a server that gets ill and well again.
func failFast(ctx context.Context, stdout io.Writer) error {
	s, err := start("a")
	if err != nil {
		return err
	}
	defer s.server.Stop()
	client, err := arpc.NewClient(s.dial)
	if err != nil {
		return err
	}
	defer client.Stop()
	breaker := call.NewBreaker("orders",
		call.WithFailureRate(0.5, 5, time.Second), // half of at least five calls
		call.WithOpenFor(openFor),
		call.WithOnChange(func(c call.Change) {
			fmt.Fprintf(stdout, "  %s: %v, was %v\n", c.Method, c.State, c.From)
		}),
	)
	client.Handler.UseCall(breaker.Intercept)

	fmt.Fprintln(stdout, "the server is ill")
	s.ill.Store(true)
	refused := 0
	for range 100 {
		var open *call.OpenError
		if errors.As(client.CallWith(ctx, "/where", nil, nil), &open) {
			refused++
		}
	}
	fmt.Fprintf(stdout, "  of 100 calls it got %d, %d were refused here\n", s.requests.Load(), refused)

	fmt.Fprintln(stdout, "the server is well")
	s.ill.Store(false)
	return callPatiently(ctx, client)
}

// callPatiently makes a call when the breaker lets it through, which is a probe.
func callPatiently(ctx context.Context, client *arpc.Client) error {
	for {
		err := client.CallWith(ctx, "/where", nil, nil)
		var open *call.OpenError
		if !errors.As(err, &open) {
			return err
		}
		time.Sleep(open.Wait)
	}
}

// ejectMember calls a pool with a member that is connected and ill, which the
// breaker sees and the pool alone does not.
func ejectMember(ctx context.Context, stdout io.Writer) error {
	pool, err := arpc.NewPool()
	if err != nil {
		return err
	}
	defer pool.Stop()
	servers := make(map[string]*server)
	for _, name := range []string{"a", "b", "c"} {
		s, err := start(name)
		if err != nil {
			return err
		}
		defer s.server.Stop()
		servers[name] = s
		if _, err := pool.Add(name, s.dial); err != nil {
			return err
		}
	}
	breaker := call.NewBreaker("members", call.WithScope(call.PerPeer), call.WithFailureRate(0.5, 5, time.Second), call.WithOpenFor(openFor))
	pool.Handler().UseCall(breaker.Intercept)
	pool.SetPicker(breaker.Picker(arpc.RoundRobin()))

	servers["b"].ill.Store(true)
	callPool(ctx, pool, servers, stdout, "b is ill")
	servers["b"].ill.Store(false)
	time.Sleep(2 * openFor) // the next call to b is a probe
	callPool(ctx, pool, servers, stdout, "b is well")
	return nil
}

func callPool(ctx context.Context, pool *arpc.ClientPool, servers map[string]*server, stdout io.Writer, title string) {
	failed := 0
	for range 300 {
		if pool.CallWith(ctx, "/where", nil, nil) != nil {
			failed++
		}
	}
	fmt.Fprintf(stdout, "a pool of three, %s: %d of 300 calls failed\n", title, failed)
	for _, m := range pool.Members() {
		fmt.Fprintf(stdout, "  %s: %3d\n", m.Name(), servers[m.Name()].requests.Swap(0))
	}
}

// server answers with its name, or fails while it is ill.
type server struct {
	server   *arpc.Server
	addr     string
	ill      atomic.Bool
	requests atomic.Int64
}

func start(name string) (*server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{server: arpc.NewServer(), addr: ln.Addr().String()}
	s.server.Handler.Handle("/where", func(ctx *arpc.Context) {
		s.requests.Add(1)
		if s.ill.Load() {
			ctx.Error(arpc.NewError(arpc.CodeInternal, "no space left on the disk"))
			return
		}
		ctx.Write(name)
	})
	go func() {
		if err := s.server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return s, nil
}

func (s *server) dial() (net.Conn, error) { return net.DialTimeout("tcp", s.addr, 3*time.Second) }
