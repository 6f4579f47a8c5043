// Package nats has several servers of package pubsub be one, through NATS: a
// [pubsub.Broker] over it, and NATS itself in the process ([EmbeddedServer]) where
// nobody runs it yet.
//
//	broker, err := nats.NewBroker("nats://10.0.0.1:4222,nats://10.0.0.2:4222",
//		nats.WithHistory("orders.>", pubsub.History{Messages: 1000, Age: time.Hour}),
//		nats.WithReplicas(3),
//	)
//	defer broker.Close()
//	server := pubsub.NewServer(pubsub.WithBroker(broker))
//	err = server.Run(":8888")
//
// Every machine runs this, and clients connect to any of them: who publishes at one
// reaches who subscribes at another, presence and queue groups are of all of them, and a
// client that loses its server goes on at another where it was.
//
// Messages to topics without history are core NATS: delivered at most once, to those who
// are there. Messages to topics with history (WithHistory) are stored by JetStream before
// they are acknowledged, by most of WithReplicas servers, and every broker notices what it
// has missed and reads it again. Queue groups with acknowledgement are durable consumers
// of JetStream. Where NATS is away for a while publishing waits (WithWait), subscribers
// are told, and afterwards whether something is missing: what has history is not, within
// the limits of that history.
//
// What a Broker uses of NATS begins with WithPrefix: subjects, and one stream with its
// consumers. Messages travel with their own bytes as payload, so that other programs on
// the same NATS can read them, and publish. docs/PUBSUB.md, "Many servers", says exactly
// what is guaranteed, and lists limits and defaults.
package nats
