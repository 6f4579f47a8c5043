// Command cluster runs a chat on three pub/sub servers that are one, with NATS behind them
// in the same process: nothing needs to be set up. Everybody is connected to another
// server. Then one server goes away, and who was connected to it goes on at another,
// without having missed a word.
//
// What there is to see: servers need nothing of each other but the same NATS (WithBroker);
// a topic with history (WithHistory) is what lets a client recover at another server than
// the one it came from; and a dialer that tries several addresses is all it needs to get
// there.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	// In production NATS runs on machines of its own, or in each of the processes with
	// WithCluster.
	behind, err := nats.EmbeddedServer()
	if err != nil {
		return err
	}
	defer behind.Close()

	var nodes []*node
	for range 3 {
		n, err := start(behind.URL())
		if err != nil {
			return err
		}
		defer n.stop(ctx)
		nodes = append(nodes, n)
	}
	return chat(ctx, nodes, stdout)
}

// chat has three people talk.
func chat(ctx context.Context, nodes []*node, stdout io.Writer) error {
	var people []*person
	for i, name := range []string{"ann", "bob", "cid"} {
		p, err := enter(ctx, name, slices.Concat(nodes[i:], nodes[:i]))
		if err != nil {
			return err
		}
		defer p.client.Stop()
		people = append(people, p)
	}
	if err := people[0].say(ctx, "hello"); err != nil {
		return err
	}
	if err := people[1].say(ctx, "hello ann"); err != nil {
		return err
	}
	if err := nodes[2].stop(ctx); err != nil {
		return err
	}
	if err := people[0].say(ctx, "where is cid?"); err != nil {
		return err
	}
	if err := people[2].say(ctx, "here, on another server"); err != nil {
		return err
	}
	for _, p := range people {
		if err := p.print(ctx, 4, stdout); err != nil {
			return err
		}
	}
	return nil
}

// node is one of the servers, with a broker of its own.
type node struct {
	*pubsub.Server
	broker  *nats.Broker
	address string

	once sync.Once
	err  error
}

func start(url string) (*node, error) {
	broker, err := nats.NewBroker(url, nats.WithHistory("chat.>", pubsub.History{Messages: 1000}))
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, broker.Close())
	}
	n := &node{Server: pubsub.NewServer(pubsub.WithBroker(broker)), broker: broker, address: ln.Addr().String()}
	go func() {
		if err := n.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return n, nil
}

// stop has clients go elsewhere first.
func (n *node) stop(ctx context.Context) error {
	n.once.Do(func() { n.err = errors.Join(n.Shutdown(ctx), n.broker.Close()) })
	return n.err
}
