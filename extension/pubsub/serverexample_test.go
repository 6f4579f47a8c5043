package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
)

func ExampleServer() {
	server := pubsub.NewServer(pubsub.WithMaxSubscriptions(100))
	server.Password = "open sesame"
	ln := arpctest.ListenMemory() // or server.Run(":8888")
	go server.Serve(ln)
	defer server.Stop()

	_, err := pubsub.NewClient(ln.Dial, pubsub.WithPassword("please"))
	fmt.Println(arpc.CodeOf(err))

	client, err := pubsub.NewClient(ln.Dial, pubsub.WithPassword("open sesame"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Stop()
	got := make(chan string)
	client.Subscribe("weather", func(topic *pubsub.Topic) { got <- string(topic.Data) }, time.Second)
	server.Publish("weather", "16 degrees")
	fmt.Println(<-got)
	// Output:
	// Unauthenticated
	// 16 degrees
}

// Everybody reads the news; who is known writes to a topic of its own.
func ExampleNewRules() {
	server := pubsub.NewServer(
		pubsub.WithAuthenticator(func(_ context.Context, _ *arpc.Client, credentials []byte) (any, error) {
			if name, ok := strings.CutPrefix(string(credentials), "token of "); ok {
				return name, nil
			}
			return nil, errors.New("no such token")
		}),
		pubsub.WithAccess(pubsub.NewRules(
			pubsub.Allow(pubsub.OpSubscribe, "news.>"),
			pubsub.Allow(pubsub.OpPublish, "news.ann").To(func(c *arpc.Client) bool { return c.Identity() == "ann" }),
		)),
	)
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()

	for _, name := range []string{"ann", "bob"} {
		client, err := pubsub.NewClient(ln.Dial, pubsub.WithPassword("token of "+name))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(name, "publishes:", client.Publish("news.ann", "hello", time.Second))
		client.Stop()
	}
	// Output:
	// ann publishes: <nil>
	// bob publishes: pubsub: not allowed (WithAccess)
}

func ExampleServer_HandleSlow() {
	server, client, stop := connect()
	defer stop()
	slow := make(chan pubsub.SlowConsumer, 1)
	server.HandleSlow(func(c pubsub.SlowConsumer) { slow <- c })

	resume := make(chan struct{})
	_, err := client.SubscribeWith(context.Background(), "prices", func(*pubsub.Topic) { <-resume },
		pubsub.WithWindow(1, 1<<20), pubsub.WithQueue(2, 1<<20), pubsub.WithPolicy(pubsub.DropOldest))
	if err != nil {
		log.Fatal(err)
	}
	for price := range 5 {
		server.Publish("prices", fmt.Sprint(price))
	}
	c := <-slow
	fmt.Println("too slow for", c.Filter, "with the policy:", c.Policy)
	fmt.Println("dropped:", server.Statistics().Dropped)
	close(resume)
	// Output:
	// too slow for prices with the policy: drop oldest
	// dropped: 2
}

func ExampleServer_Presence() {
	server, client, stop := connect()
	defer stop()
	nothing := func(*pubsub.Topic) {}
	client.SubscribeWith(context.Background(), "rooms.*", nothing, pubsub.WithMember("ann", []byte("moderator")))
	client.SubscribeWith(context.Background(), "rooms.42", nothing, pubsub.WithMember("bob", nil))

	present, err := server.Presence(context.Background(), "rooms.42")
	if err != nil {
		log.Fatal(err)
	}
	for _, who := range present {
		fmt.Printf("%s %s\n", who.ID, who.Info)
	}
	// Output:
	// ann moderator
	// bob
}
