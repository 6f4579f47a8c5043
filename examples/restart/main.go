// Command restart replaces two servers by newer ones, one after the other, under
// the feet of clients that go on calling: no call fails.
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
)

const callers = 20

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	var places [2]place
	var dialers []arpc.DialerFunc
	for i := range places {
		if err := places[i].start("version 1"); err != nil {
			return err
		}
		defer func() { places[i].server.Stop() }()
		dialers = append(dialers, places[i].dial)
	}
	pool, err := arpc.NewClientPoolFromDialers(dialers)
	if err != nil {
		return err
	}
	defer pool.Stop()

	finish := load(ctx, pool)
	for i := range places {
		fmt.Fprintf(stdout, "server %d restarts\n", i+1)
		if err := restart(ctx, &places[i], pool.Get(i), stdout); err != nil {
			return err
		}
	}
	answered, failed := finish()
	fmt.Fprintf(stdout, "%d calls answered, %d failed\n", answered, failed)
	return nil
}

// restart replaces the server at a place, of which c is a client.
func restart(ctx context.Context, p *place, c *arpc.Client, stdout io.Writer) error {
	stream, err := c.OpenStream(ctx, "/clock")
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Recv(nil); err != nil { // it ticks
		return err
	}

	// Shutdown tells the clients, which turn to other servers. It returns when
	// the last call is answered and the last stream has ended.
	if err := p.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	if err := p.start("version 2"); err != nil {
		return err
	}

	var last string
	for text, err := range stream.RecvSeq() {
		if err != nil {
			return fmt.Errorf("the stream broke off: %w", err)
		}
		last = string(text)
	}
	fmt.Fprintf(stdout, "  its stream came to an end: %q\n", last)

	var version string
	if err := c.CallWith(arpc.ContextWithWaitForReady(ctx, true), "/work", nil, &version); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "  its client is back, at %s\n", version)
	return nil
}

// place is where a server runs. Its address changes, because another program
// may have taken the port meanwhile.
type place struct {
	server *arpc.Server
	addr   atomic.Value // string
}

func (p *place) start(version string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.addr.Store(ln.Addr().String())

	// Clients find the next server in the same place: they are to give it time
	// to start. With one address for all servers they could come back at once.
	server := arpc.NewServer(arpc.WithComeBackAfter(50 * time.Millisecond))
	server.Handler.Handle("/work", func(ctx *arpc.Context) {
		time.Sleep(5 * time.Millisecond) // some work
		ctx.Write(version)
	})
	server.Handler.HandleStream("/clock", clock)
	p.server = server
	go func() {
		if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return nil
}

func (p *place) dial() (net.Conn, error) {
	return net.DialTimeout("tcp", p.addr.Load().(string), 3*time.Second)
}

// clock ticks until the server is about to go: nobody can wait for the end of a
// stream that has none.
func clock(stream *arpc.Stream) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		text := "tick"
		select {
		case <-stream.Context().Done():
			return
		case <-stream.Draining():
			text = "closing time"
		case <-ticker.C:
		}
		if err := stream.Send(text); err != nil || text != "tick" {
			return
		}
	}
}

// load has callers call again and again, until finish is called.
func load(ctx context.Context, pool *arpc.ClientPool) (finish func() (answered, failed int64)) {
	var all sync.WaitGroup
	var answers, failures atomic.Int64
	ctx, cancel := context.WithCancel(ctx)
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				err := pool.Call("/work", nil, nil, 3*time.Second)
				if err != nil {
					log.Print(err)
					failures.Add(1)
					continue
				}
				answers.Add(1)
			}
		})
	}
	return func() (answered, failed int64) {
		cancel()
		all.Wait()
		return answers.Load(), failures.Load()
	}
}
