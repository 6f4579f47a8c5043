package main

import (
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// publish sends the weather of a day, most of it to everybody and some to one
// subscriber, whoever that is.
func publish(dial arpc.DialerFunc) error {
	client, err := pubsub.NewClient(dial)
	if err != nil {
		return err
	}
	defer client.Stop()
	client.Password = password
	if err := client.Authenticate(); err != nil {
		return err
	}

	for hour := 6; hour < 24; hour += 6 {
		report := fmt.Sprintf("%02d:00, %d degrees", hour, 10+hour%12)
		if err := client.Publish(topicName, report, time.Second); err != nil {
			return err
		}
	}
	return client.PublishToOne(topicName, "somebody please clean the thermometer", time.Second)
}
