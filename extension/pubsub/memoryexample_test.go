package pubsub_test

import (
	"context"
	"fmt"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// memoryPrinter is a pubsub.Watcher with one subscriber.
type memoryPrinter struct{ name string }

func (p memoryPrinter) Deliver(m *pubsub.Message) {
	fmt.Printf("%s: %s on %s, offset %d\n", p.name, m.Data, m.Topic, m.Offset)
}

func (p memoryPrinter) DeliverToOne(m *pubsub.Message) bool {
	fmt.Printf("%s alone: %s on %s\n", p.name, m.Data, m.Topic)
	return true
}

func (p memoryPrinter) Size() int { return 1 }

func (p memoryPrinter) Interrupted(error) {}

func (p memoryPrinter) Resumed(bool) {}

// What a server does with its Broker.
func ExampleNewMemoryBroker() {
	ctx := context.Background()
	b := pubsub.NewMemoryBroker(pubsub.WithHistory("orders.>", pubsub.History{Messages: 100, Age: time.Hour}))
	defer b.Close()

	stop, err := b.Watch("orders.*", memoryPrinter{"eu"})
	if err != nil {
		fmt.Println(err)
		return
	}
	b.Publish(ctx, &pubsub.Message{Topic: "orders.created", Data: []byte("one"), Time: time.Now()})
	b.Publish(ctx, &pubsub.Message{Topic: "orders.paid", Data: []byte("two"), Time: time.Now()})
	b.PublishToOne(ctx, &pubsub.Message{Topic: "orders.created", Data: []byte("three"), Time: time.Now()})
	stop()
	b.Publish(ctx, &pubsub.Message{Topic: "orders.paid", Data: []byte("four"), Time: time.Now()})

	page, err := b.Read(ctx, "orders.paid", pubsub.Start{Kind: pubsub.StartAll}, 10)
	for _, m := range page.Messages {
		fmt.Printf("history: %s\n", m.Data)
	}
	fmt.Println("complete:", page.Complete, err)
	// Output:
	// eu: one on orders.created, offset 1
	// eu: two on orders.paid, offset 2
	// eu alone: three on orders.created
	// history: two
	// history: four
	// complete: true <nil>
}

// A position says where to go on after a while, and reading whether anything is
// missing.
func ExampleWithHistory() {
	ctx := context.Background()
	b := pubsub.NewMemoryBroker(
		pubsub.WithHistory("config.>", pubsub.History{Messages: 1}), // the last value of each
		pubsub.WithHistory(">", pubsub.History{Messages: 2}),
	)
	defer b.Close()
	publish := func(topic, text string) pubsub.Position {
		p, _ := b.Publish(ctx, &pubsub.Message{Topic: topic, Data: []byte(text), Time: time.Now()})
		return p
	}
	read := func(filter string, from pubsub.Start) {
		page, err := b.Read(ctx, filter, from, 10)
		for _, m := range page.Messages {
			fmt.Printf("%s ", m.Data)
		}
		fmt.Println(page.Complete, err)
	}

	one := publish("news", "one")
	two := publish("news", "two")
	publish("news", "three")
	publish("news", "four")
	read("news", pubsub.Start{Kind: pubsub.StartAfter, Position: one})
	read("news", pubsub.Start{Kind: pubsub.StartAfter, Position: two})

	publish("config.colour", "red")
	publish("config.size", "10")
	publish("config.colour", "blue")
	read("config.*", pubsub.Start{Kind: pubsub.StartLast})
	// Output:
	// three four false <nil>
	// three four true <nil>
	// 10 blue true <nil>
}

// memoryWorker is a pubsub.Member.
type memoryWorker struct{ works bool }

func (w memoryWorker) Take(d pubsub.Delivery) {
	fmt.Printf("%s, attempt %d\n", d.Data, d.Attempt)
	if w.works {
		d.Done(true)
	}
}

// A message goes to one member of a queue group, and to another if that leaves before
// it has acknowledged.
func ExampleMemoryBroker_Join() {
	b := pubsub.NewMemoryBroker(pubsub.WithHistory("jobs", pubsub.History{Messages: 1000}))
	defer b.Close()
	ack := pubsub.GroupOptions{Ack: true}
	leave, err := b.Join("jobs", "workers", ack, memoryWorker{works: false})
	if err != nil {
		fmt.Println(err)
		return
	}
	b.Publish(context.Background(), &pubsub.Message{Topic: "jobs", Data: []byte("a job")})
	leave()
	b.Join("jobs", "workers", ack, memoryWorker{works: true})
	// Output:
	// a job, attempt 1
	// a job, attempt 2
}
