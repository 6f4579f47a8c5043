package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
)

// callsBothWays: either side may call the other, also in the middle of a call.
func callsBothWays(ctx context.Context, t *tour) error {
	t.handler.Handle("/greet", func(ctx *arpc.Context) {
		ctx.Write("hello, " + string(ctx.Body()))
	})
	t.client.Handler.Handle("/name", func(ctx *arpc.Context) {
		ctx.Write("gopher")
	})
	t.handler.Handle("/greet-me", func(ctx *arpc.Context) {
		// The handler calls back over the connection that it serves.
		var name string
		if err := ctx.Client.CallWith(ctx, "/name", nil, &name); err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write("hello, " + name)
	})

	call := func(direction string, from *arpc.Client, method string, req any) error {
		var rsp string
		begin := time.Now()
		if err := from.CallWith(ctx, method, req, &rsp); err != nil {
			return fmt.Errorf("call %s: %w", method, err)
		}
		t.timed(begin, "%-33s%-9s  ->  %q", direction, method, rsp)
		return nil
	}
	if err := call("client calls server", t.client, "/greet", "gopher"); err != nil {
		return err
	}
	if err := call("server calls client", t.server.Clients()[0], "/name", nil); err != nil {
		return err
	}
	return call("client calls, server calls back", t.client, "/greet-me", nil)
}

// asynchronousCalls: CallAsync sends and returns; a callback gets the answer.
func asynchronousCalls(ctx context.Context, t *tour) error {
	const calls = 5
	t.handler.Handle("/square", func(ctx *arpc.Context) {
		var n int
		if err := ctx.Bind(&n); err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write(n * n)
	})

	type answer struct {
		square int
		err    error
	}
	answers := make(chan answer, calls)
	begin := time.Now()
	for n := 1; n <= calls; n++ {
		err := t.client.CallAsync("/square", n, func(ctx *arpc.Context) {
			var a answer
			a.err = ctx.Bind(&a.square) // the answer, or the call's error
			answers <- a
		}, 5*time.Second)
		if err != nil {
			return err
		}
	}
	t.timed(begin, "%d calls sent, none waited for", calls)

	sum := 0
	for range calls {
		a := <-answers // a callback runs once, whatever happens
		if a.err != nil {
			return a.err
		}
		sum += a.square
	}
	t.timed(begin, "%d answers came to the callback, their sum is %d", calls, sum)
	return nil
}

// notifications are not answered, and are handled in the order they were sent.
func notifications(ctx context.Context, t *tour) error {
	const count = 10_000
	outOfOrder, next := 0, 0 // no lock: these handlers run one at a time
	t.handler.Handle("/number", func(ctx *arpc.Context) {
		var n int
		if err := ctx.Bind(&n); err != nil || n != next {
			outOfOrder++
		}
		next++
	})
	t.handler.Handle("/no-more", func(ctx *arpc.Context) {
		text := fmt.Sprintf("%s received, %d out of order", grouped(next), outOfOrder)
		if err := ctx.Client.Notify("/received", text, time.Second); err != nil {
			log.Print(err)
		}
	})
	received := make(chan string, 1)
	t.client.Handler.Handle("/received", func(ctx *arpc.Context) { received <- string(ctx.Body()) })

	begin := time.Now()
	for n := range count {
		if err := t.client.NotifyWith(ctx, "/number", n); err != nil {
			return err
		}
	}
	if err := t.client.NotifyWith(ctx, "/no-more", nil); err != nil {
		return err
	}
	t.timed(begin, "client to server:  %s sent", grouped(count))
	select {
	case text := <-received:
		t.timed(begin, "server to client:  %s", text)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// evenKey is the key under which the server keeps whether a client's number is
// even.
type evenKey struct{}

// broadcast: a message to all clients, or to some, is encoded once.
func broadcast(ctx context.Context, t *tour) error {
	const clients = 100
	t.handler.Handle("/join", func(ctx *arpc.Context) {
		var number int
		if err := ctx.Bind(&number); err != nil {
			ctx.Error(err)
			return
		}
		ctx.Client.Set(evenKey{}, number%2 == 0)
		ctx.Write(nil)
	})

	news := make(chan string, 2*clients)
	handler := arpc.NewHandler()
	handler.Handle("/news", func(ctx *arpc.Context) { news <- string(ctx.Body()) })
	pool, err := arpc.NewClientPool(t.dial, clients, arpc.WithHandler(handler))
	if err != nil {
		return err
	}
	defer pool.Stop()
	for number := range clients {
		if err := pool.Get(number).CallWith(ctx, "/join", number, nil); err != nil {
			return err
		}
	}

	// The tour's own client gets this one too, but has no such route.
	begin := time.Now()
	if err := t.server.Broadcast("/news", "for everybody"); err != nil {
		return err
	}
	if err := expect(ctx, news, "for everybody", clients); err != nil {
		return err
	}
	t.timed(begin, "news for everybody:          received by %3d of %d clients", clients, clients)

	isEven := func(c *arpc.Client) bool {
		even, _ := c.Get(evenKey{})
		return even == true
	}
	begin = time.Now()
	if err := t.server.Broadcast("/news", "for the even", isEven); err != nil {
		return err
	}
	if err := expect(ctx, news, "for the even", clients/2); err != nil {
		return err
	}
	t.timed(begin, "news for the even numbers:   received by %3d of %d clients", clients/2, clients)
	return nil
}

// expect receives a text so many times.
func expect(ctx context.Context, news <-chan string, text string, times int) error {
	for range times {
		select {
		case got := <-news:
			if got != text {
				return fmt.Errorf("received %q instead of %q", got, text)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stream: a sequence of messages both ways, with an end.
func stream(ctx context.Context, t *tour) error {
	t.handler.HandleStream("/sum", func(s *arpc.Stream) {
		sum, n := 0, 0
		for s.Recv(&n) == nil {
			sum += n
			if s.Send(sum) != nil {
				return
			}
		}
	})

	s, err := t.client.OpenStream(ctx, "/sum")
	if err != nil {
		return err
	}
	defer s.Close()
	var sent, sums []string
	for n := 1; n <= 10; n++ {
		if err := s.Send(n); err != nil {
			return err
		}
		var sum int
		if err := s.Recv(&sum); err != nil {
			return err
		}
		sent, sums = append(sent, fmt.Sprint(n)), append(sums, fmt.Sprint(sum))
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.Recv(nil); !errors.Is(err, io.EOF) {
		return fmt.Errorf("want the end of the stream, got: %w", err)
	}
	t.line("client sends:      %s, end", strings.Join(sent, " "))
	t.line("server sums up:    %s, end", strings.Join(sums, " "))
	return nil
}
