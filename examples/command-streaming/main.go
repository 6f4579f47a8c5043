// Command command-streaming sends commands with many results: in a loop, which may be
// left, and without waiting, through a channel for each.
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
	"github.com/arpc-go/arpc/extension/command"
)

// Sky is the receiver.
type Sky struct{ left chan string }

// Countdown has the numbers down to zero as its results, the last one marked.
type Countdown struct{ From int }

func (c Countdown) Exec(ctx context.Context, _ *Sky, reply *command.Reply[int]) error {
	for n := c.From; n > 0; n-- {
		if err := reply.Send(n); err != nil {
			return err
		}
	}
	return reply.Last(0)
}

// Watch has a result for each star that falls, until nobody wants to know any more.
type Watch struct{}

func (Watch) Exec(ctx context.Context, sky *Sky, reply *command.Reply[string]) error {
	for n := 1; ; n++ {
		if err := reply.Send(fmt.Sprintf("star %d", n)); err != nil {
			sky.left <- fmt.Sprint(context.Cause(ctx))
			return err
		}
	}
}

// Look has as many results as there is to see.
type Look struct{ At string }

func (c Look) Exec(ctx context.Context, _ *Sky, reply *command.Reply[string]) error {
	seen := map[string][]string{"Orion": {"Betelgeuse", "Rigel"}, "the Moon": {"craters"}, "the dark": nil}
	things, ok := seen[c.At]
	if !ok {
		return arpc.Errorf(arpc.CodeNotFound, "%s is not up here", c.At)
	}
	for _, thing := range things {
		if err := reply.Send(thing); err != nil {
			return err
		}
	}
	return nil
}

// commands are those that both ends know.
func commands() *command.Registry[*Sky] {
	reg := command.NewRegistry[*Sky]()
	command.Register[*Sky, Countdown](reg)
	command.Register[*Sky, Watch](reg)
	command.Register[*Sky, Look](reg)
	return reg
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	sky := &Sky{left: make(chan string, 1)}
	server := arpc.NewServer()
	commands().Handle(server.Handler, sky)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.Dial("tcp", ln.Addr().String())
	})
	if err != nil {
		return err
	}
	defer client.Stop()
	sender := commands().Sender(client)
	if err := loops(ctx, stdout, sender, sky); err != nil {
		return err
	}
	return channels(ctx, stdout, sender)
}

// loops takes results as they come.
func loops(ctx context.Context, stdout io.Writer, sender *command.Sender[*Sky], sky *Sky) error {
	for r, err := range command.SendMulti(ctx, sender, Countdown{From: 3}) {
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, r.Value, "last:", r.Last)
	}
	for r, err := range command.SendMulti(ctx, sender, Watch{}) {
		if err != nil {
			return err
		}
		if r.Value == "star 3" {
			break // the server is told
		}
	}
	fmt.Fprintln(stdout, "seen enough, says the server:", <-sky.left)
	return nil
}

// channels starts commands and takes their results later, each command's in order.
func channels(ctx context.Context, stdout io.Writer, sender *command.Sender[*Sky]) error {
	places := []string{"Orion", "the Moon", "the dark", "an island"}
	var pending []*command.Pending[string]
	for _, place := range places {
		p, err := command.Start(ctx, sender, Look{At: place})
		if err != nil {
			return err
		}
		pending = append(pending, p)
	}
	for i, p := range pending {
		fmt.Fprint(stdout, places[i], ":")
		for r := range p.Results() {
			fmt.Fprint(stdout, " ", r.Value)
		}
		if err := p.Err(); err != nil {
			fmt.Fprint(stdout, " ", err)
		}
		fmt.Fprintln(stdout)
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
