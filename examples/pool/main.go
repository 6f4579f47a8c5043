// Command pool spreads calls over servers that come, go and break down.
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
	"time"

	"github.com/arpc-go/arpc"
)

const calls = 120

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	pool, err := arpc.NewPool()
	if err != nil {
		return err
	}
	defer pool.Stop()

	servers, err := addServers(pool, "a", "b", "c")
	defer func() {
		for _, server := range servers {
			server.Stop()
		}
	}()
	if err != nil {
		return err
	}
	if err := callAll(ctx, pool, stdout, "three servers"); err != nil {
		return err
	}

	// What is in flight on a member that is removed still ends as it would have.
	if _, err := pool.Remove("c"); err != nil {
		return err
	}
	if err := callAll(ctx, pool, stdout, "without c"); err != nil {
		return err
	}

	pool.SetPicker(arpc.ConsistentHash(userOf))
	if err := callAs(ctx, pool, stdout, "alice", "bob", "carol"); err != nil {
		return err
	}

	// A call that is lost with its connection may have run. The pool tries it on
	// another member only when told that running it twice does no harm.
	servers["a"].Stop()
	pool.SetPicker(arpc.RoundRobin())
	return callAll(arpc.ContextWithIdempotent(ctx), pool, stdout, "a is down")
}

// addServers starts servers and adds a member to the pool for each.
func addServers(pool *arpc.ClientPool, names ...string) (map[string]*arpc.Server, error) {
	servers := make(map[string]*arpc.Server)
	for _, name := range names {
		server, dialer, err := start(name)
		if err != nil {
			return servers, err
		}
		servers[name] = server
		if _, err := pool.Add(name, dialer); err != nil {
			return servers, err
		}
	}
	return servers, nil
}

// start starts a server that answers with its name.
func start(name string) (*arpc.Server, arpc.DialerFunc, error) {
	server := arpc.NewServer()
	server.Handler.Handle("/where", func(ctx *arpc.Context) { ctx.Write(name) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	go func() {
		if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return server, func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	}, nil
}

// callAll makes many calls at the same time and prints how many each server
// answered.
func callAll(ctx context.Context, pool *arpc.ClientPool, stdout io.Writer, title string) error {
	var (
		all    sync.WaitGroup
		errs   = make([]error, calls)
		mu     sync.Mutex
		counts = make(map[string]int) // guarded by mu
	)
	for i := range calls {
		all.Go(func() {
			// The pool has the methods of a client.
			var name string
			errs[i] = pool.CallWith(ctx, "/where", nil, &name)
			mu.Lock()
			defer mu.Unlock()
			counts[name]++
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d calls, %s:\n", calls, title)
	for _, m := range pool.Members() {
		fmt.Fprintf(stdout, "  %s: %3d\n", m.Name(), counts[m.Name()])
	}
	return nil
}

type userKey struct{}

// userOf is the key of a call: those of a user go to the same server.
func userOf(ctx context.Context, _ string) string {
	user, _ := ctx.Value(userKey{}).(string)
	return user
}

// callAs makes some calls for each user and prints who answered.
func callAs(ctx context.Context, pool *arpc.ClientPool, stdout io.Writer, users ...string) error {
	for _, user := range users {
		var names [3]string
		for i := range names {
			if err := pool.CallWith(context.WithValue(ctx, userKey{}, user), "/where", nil, &names[i]); err != nil {
				return err
			}
		}
		fmt.Fprintf(stdout, "calls for %s: %v\n", user, names)
	}
	return nil
}
