package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// subscriber is a client that prints what is published.
type subscriber struct {
	*pubsub.Client
	last chan struct{} // closed when the sports come
}

func subscribe(dial arpc.DialerFunc, stdout io.Writer) (*subscriber, error) {
	client, err := pubsub.NewClient(dial)
	if err != nil {
		return nil, err
	}
	client.Password = password
	if err := client.Authenticate(); err != nil {
		return nil, err
	}

	last := make(chan struct{})
	var once sync.Once
	onTopic := func(topic *pubsub.Topic) {
		fmt.Fprintf(stdout, "%s: %s\n", topic.Name, topic.Data)
		if strings.Contains(string(topic.Data), "sports") {
			once.Do(func() { close(last) })
		}
	}
	if err := client.Subscribe(topicName, onTopic, time.Second); err != nil {
		return nil, err
	}
	return &subscriber{client, last}, nil
}
