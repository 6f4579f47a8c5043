package main

import (
	"context"
	"fmt"
	"net"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// oursPubSub is extension/pubsub. The zero value has its default options.
type oursPubSub struct {
	history bool // the last 1,000 messages of each topic are kept
}

func (o oursPubSub) Name() string {
	if o.history {
		return oursName + ", pub/sub, history"
	}
	return oursName + ", pub/sub"
}

func (o oursPubSub) Setup() string {
	setup := "extension/pubsub, callbacks that run where messages are read (WithInline), default options else; a sender that publishes without waiting asks for a position every " + thousands(natsWindow)
	if o.history {
		setup += fmt.Sprintf(", a history of %d messages in memory", pubSubHistory)
	}
	return setup
}

const pubSubHistory = 1000

func (o oursPubSub) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	var broker []pubsub.MemoryOption
	if o.history {
		broker = append(broker, pubsub.WithHistory(">", pubsub.History{Messages: pubSubHistory}))
	}
	s := pubsub.NewServer(pubsub.WithBroker(pubsub.NewMemoryBroker(broker...)))
	work.CanBroadcast(func(body []byte) error { return s.Publish("news", body) })
	work.CanCount(func() uint64 { return s.Statistics().Published })
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(ln)
}

func (o oursPubSub) Dial(addr string) (Conn, error) {
	c, err := pubsub.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) },
		pubsub.WithClientOptions(arpc.WithReconnect(0, 0, 0)))
	if err != nil {
		return nil, err
	}
	return oursPubSubConn{c}, nil
}

func (o oursPubSub) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	conn, err := o.Dial(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, err = conn.(oursPubSubConn).SubscribeWith(ctx, "news", func(t *pubsub.Topic) { receive(t.Data) }, pubsub.WithInline())
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

type oursPubSubConn struct{ *pubsub.Client }

func (c oursPubSubConn) Close() error {
	c.Stop()
	return nil
}

func (c oursPubSubConn) Publisher() Sender { return &oursPublisher{client: c.Client} }

// oursPublisher waits for the server every natsWindow messages.
type oursPublisher struct {
	client *pubsub.Client
	sent   int
	body   []byte
}

func (p *oursPublisher) Notify(body []byte) error {
	p.body = body
	if p.sent++; p.sent%natsWindow == 0 {
		return p.publish(body)
	}
	_, err := p.client.PublishWith(context.Background(), unread, &p.body, pubsub.NoAck())
	return err
}

func (p *oursPublisher) publish(body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, err := p.client.PublishWith(ctx, unread, body)
	return err
}
