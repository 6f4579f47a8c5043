package nats_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// Two pub/sub servers with a NATS server behind them, all in one process: who publishes at
// one reaches who subscribes at the other.
func ExampleNewBroker() {
	behind, err := nats.EmbeddedServer()
	if err != nil {
		log.Fatal(err)
	}
	defer behind.Close()
	var clients [2]*pubsub.Client
	for i := range clients {
		broker, err := nats.NewBroker(behind.URL(), nats.WithHistory("orders.>", pubsub.History{Messages: 100}))
		if err != nil {
			log.Fatal(err)
		}
		defer broker.Close()
		server := pubsub.NewServer(pubsub.WithBroker(broker))
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		go server.Serve(ln)
		defer server.Stop()
		clients[i], err = pubsub.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
		if err != nil {
			log.Fatal(err)
		}
		defer clients[i].Stop()
	}

	ctx, got := context.Background(), make(chan string)
	handle := func(topic *pubsub.Topic) { got <- topic.Name + " " + string(topic.Data) }
	if _, err := clients[0].SubscribeWith(ctx, "orders.*", handle); err != nil {
		log.Fatal(err)
	}
	if _, err := clients[1].PublishWith(ctx, "orders.created", "number 1"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-got)
	// Output: orders.created number 1
}

// History outlives servers and brokers: here it is read by a broker that comes later.
func ExampleWithHistory() {
	behind, err := nats.EmbeddedServer()
	if err != nil {
		log.Fatal(err)
	}
	defer behind.Close()
	ctx, last := context.Background(), nats.WithHistory("price.*", pubsub.History{Messages: 1})
	before, err := nats.NewBroker(behind.URL(), last)
	if err != nil {
		log.Fatal(err)
	}
	for _, price := range []string{"1.10", "1.20"} {
		if _, err := before.Publish(ctx, &pubsub.Message{Topic: "price.milk", Data: []byte(price)}); err != nil {
			log.Fatal(err)
		}
	}
	before.Close()

	later, err := nats.NewBroker(behind.URL(), last)
	if err != nil {
		log.Fatal(err)
	}
	defer later.Close()
	page, err := later.Read(ctx, "price.*", pubsub.Start{Kind: pubsub.StartLast}, 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range page.Messages {
		fmt.Println(m.Topic, string(m.Data))
	}
	// Output: price.milk 1.20
}

// A server that is stopped starts again where it was, with what it has stored: for a test
// of what your program does meanwhile.
func ExampleEmbeddedServer() {
	s, err := nats.EmbeddedServer()
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	url := s.URL()
	s.Stop()
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.URL() == url)
	// Output: true
}

// Three NATS servers that store each message three times: one may be lost.
func ExampleEmbeddedCluster() {
	cluster, err := nats.EmbeddedCluster(3)
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	broker, err := nats.NewBroker(cluster.URL(), nats.WithReplicas(3), nats.WithHistory(">", pubsub.History{Messages: 10}))
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	cluster[0].Stop()
	p, err := broker.Publish(context.Background(), &pubsub.Message{Topic: "a", ID: "1"})
	fmt.Println(p.Offset > 0, err)
	// Output: true <nil>
}
