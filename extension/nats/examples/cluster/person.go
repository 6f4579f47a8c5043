package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// person is a client, connected to the first of some servers that is there.
type person struct {
	name   string
	client *pubsub.Client
	heard  chan string
}

func enter(ctx context.Context, name string, nodes []*node) (*person, error) {
	client, err := pubsub.NewClient(dialer(nodes), pubsub.WithClientOptions(
		arpc.WithReconnect(10*time.Millisecond, 100*time.Millisecond, arpc.Forever),
		arpc.WithWaitForReady(true),
	))
	if err != nil {
		return nil, err
	}
	p := &person{name: name, client: client, heard: make(chan string, 100)}
	if _, err := client.SubscribeWith(ctx, "chat.room", p.hear, pubsub.OnEvent(p.event)); err != nil {
		client.Stop()
		return nil, err
	}
	return p, nil
}

func dialer(nodes []*node) arpc.DialerFunc {
	return func() (net.Conn, error) {
		var errs error
		for _, n := range nodes {
			nc, err := net.Dial("tcp", n.address)
			if err == nil {
				return nc, nil
			}
			errs = errors.Join(errs, err)
		}
		return nil, errs
	}
}

func (p *person) hear(topic *pubsub.Topic) { p.heard <- string(topic.Data) }

func (p *person) event(e pubsub.Event) {
	if e.Kind == pubsub.EventStarted && !e.Recovered {
		p.heard <- "(something is missing)"
	}
}

// say publishes with an ID: if the connection is lost meanwhile the client publishes again,
// and it is heard once.
func (p *person) say(ctx context.Context, text string) error {
	_, err := p.client.PublishWith(ctx, "chat.room", p.name+": "+text, pubsub.WithMessageID(p.name+text))
	return err
}

// print prints the next few things that the person hears.
func (p *person) print(ctx context.Context, n int, to io.Writer) error {
	fmt.Fprintf(to, "%s hears\n", p.name)
	for range n {
		select {
		case text := <-p.heard:
			fmt.Fprintf(to, "  %s\n", text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
