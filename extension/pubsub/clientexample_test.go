package pubsub_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// connect returns a server, a client that is connected to it, and what stops both.
func connect(opts ...pubsub.Option) (*pubsub.Server, *pubsub.Client, func()) {
	ln := arpctest.ListenMemory()
	server := pubsub.NewServer(opts...)
	go server.Serve(ln)
	client, err := pubsub.NewClient(ln.Dial)
	if err != nil {
		log.Fatal(err)
	}
	return server, client, func() {
		client.Stop()
		server.Stop()
	}
}

// keeps is a server's option: it keeps the last messages of all topics.
func keeps(messages int) pubsub.Option {
	return pubsub.WithBroker(pubsub.NewMemoryBroker(pubsub.WithHistory(">", pubsub.History{Messages: messages})))
}

func ExampleClient() {
	server, client, stop := connect()
	defer stop()

	done := make(chan struct{})
	err := client.Subscribe("greetings", func(topic *pubsub.Topic) {
		fmt.Printf("%s: %s\n", topic.Name, topic.Data)
		done <- struct{}{}
	}, time.Second)
	if err != nil {
		log.Fatal(err)
	}
	client.Publish("greetings", "hello from a client", time.Second)
	<-done
	server.Publish("greetings", "hello from the server")
	<-done
	// Output:
	// greetings: hello from a client
	// greetings: hello from the server
}

func ExampleClient_SubscribeWith() {
	_, client, stop := connect(keeps(100))
	defer stop()
	ctx := context.Background()

	client.PublishWith(ctx, "orders.created", "order 1")
	client.PublishWith(ctx, "orders.paid", "order 1")

	done := make(chan struct{}, 2)
	_, err := client.SubscribeWith(ctx, "orders.*", func(topic *pubsub.Topic) {
		fmt.Printf("%s: %s\n", topic.Name, topic.Data)
		done <- struct{}{}
	},
		pubsub.WithStart(pubsub.Start{Kind: pubsub.StartAll}),
		pubsub.WithPolicy(pubsub.Block),
		pubsub.OnEvent(func(e pubsub.Event) { fmt.Println(e.Kind, e.Recovered) }),
	)
	if err != nil {
		log.Fatal(err)
	}
	<-done
	<-done
	// Output:
	// started true
	// orders.created: order 1
	// orders.paid: order 1
}

func ExampleClient_SubscribeSeq() {
	_, client, stop := connect(keeps(100))
	defer stop()
	ctx := context.Background()

	for i := range 3 {
		client.PublishWith(ctx, "orders", fmt.Sprint("order ", i))
	}
	all := pubsub.WithStart(pubsub.Start{Kind: pubsub.StartAll})
	for topic, err := range client.SubscribeSeq(ctx, "orders", all) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(topic.Data))
		if string(topic.Data) == "order 1" {
			break // which unsubscribes
		}
	}
	// Output:
	// order 0
	// order 1
}

func ExampleClient_PublishWith() {
	_, client, stop := connect(keeps(100))
	defer stop()
	ctx := context.Background()

	first, err := client.PublishWith(ctx, "orders", "order 1", pubsub.WithMessageID("7c1f"))
	if err != nil {
		log.Fatal(err)
	}
	again, err := client.PublishWith(ctx, "orders", "order 1", pubsub.WithMessageID("7c1f"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first.Offset, "is the place of both:", first == again)
	// Output: 1 is the place of both: true
}

func ExampleClient_SetWill() {
	server, client, stop := connect()
	defer stop()
	ctx := context.Background()

	gone := make(chan string)
	_, err := server.SubscribeWith(ctx, "gone", func(topic *pubsub.Topic) { gone <- string(topic.Data) })
	if err != nil {
		log.Fatal(err)
	}
	if err := client.SetWill(ctx, "gone", "till 7"); err != nil {
		log.Fatal(err)
	}
	client.Restart() // its connection is lost; Stop would take the will back
	fmt.Println(<-gone)
	// Output: till 7
}

func ExampleWithGroupAck() {
	_, client, stop := connect(keeps(100))
	defer stop()
	ctx := context.Background()

	done := make(chan struct{})
	options := pubsub.GroupOptions{AckWait: time.Minute}
	_, err := client.SubscribeWith(ctx, "jobs", func(topic *pubsub.Topic) {
		if topic.Attempt == 1 {
			fmt.Println("not now")
			topic.Nak() // another member gets it; here there is only one
			return
		}
		fmt.Printf("%s, attempt %d\n", topic.Data, topic.Attempt)
		close(done)
	}, pubsub.WithGroupAck("workers", options)) // acknowledged when the callback returns
	if err != nil {
		log.Fatal(err)
	}
	client.PublishWith(ctx, "jobs", "resize a picture")
	<-done
	// Output:
	// not now
	// resize a picture, attempt 2
}

func ExampleWithMember() {
	_, client, stop := connect()
	defer stop()
	ctx := context.Background()

	events := make(chan pubsub.Event, 10)
	_, err := client.SubscribeWith(ctx, "room.7", func(*pubsub.Topic) {},
		pubsub.WithPresence(), pubsub.OnEvent(func(e pubsub.Event) { events <- e }))
	if err != nil {
		log.Fatal(err)
	}
	ann, err := client.SubscribeWith(ctx, "room.*", func(*pubsub.Topic) {}, pubsub.WithMember("ann", []byte("away")))
	if err != nil {
		log.Fatal(err)
	}
	who, _ := client.Presence(ctx, "room.7")
	for _, s := range who {
		fmt.Printf("%s (%s) has subscribed to %s\n", s.ID, s.Info, s.Filter)
	}
	ann.Unsubscribe(ctx)
	for e := range events {
		if e.Kind == pubsub.EventLeft {
			fmt.Println(e.Subscriber.ID, e.Kind)
			break
		}
	}
	// Output:
	// ann (away) has subscribed to room.*
	// ann left
}

func ExampleNewTopic() {
	type Order struct {
		ID    int
		Price float64
	}
	created := pubsub.NewTopic[Order]("orders.created") // shared by both ends

	_, client, stop := connect()
	defer stop()
	ctx := context.Background()

	done := make(chan struct{})
	_, err := created.Subscribe(ctx, client, func(o *Order, topic *pubsub.Topic) {
		fmt.Printf("order %d for %.2f\n", o.ID, o.Price)
		close(done)
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := created.Publish(ctx, client, &Order{ID: 7, Price: 9.5}); err != nil {
		log.Fatal(err)
	}
	<-done
	// Output: order 7 for 9.50
}

func ExampleServer_SubscribeWith() {
	server, client, stop := connect()
	defer stop()
	ctx := context.Background()

	done := make(chan struct{})
	_, err := server.SubscribeWith(ctx, "log.>", func(topic *pubsub.Topic) {
		fmt.Printf("%s: %s\n", topic.Name, topic.Data)
		close(done)
	})
	if err != nil {
		log.Fatal(err)
	}
	client.Publish("log.shop.till", "out of paper", time.Second)
	<-done
	// Output: log.shop.till: out of paper
}
