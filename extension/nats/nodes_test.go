package nats_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// node is a pub/sub server with a broker of its own: a node of a cluster.
type node struct {
	*pubsub.Server
	broker  *nats.Broker
	valve   *valve // between it and NATS
	address string
	served  chan error
	stop    func()
}

// patient are options of connections that end by nothing but a test.
var patient = []arpc.Option{arpc.WithHelloTimeout(patience), arpc.WithKeepalive(0, 0), arpc.WithReadTimeout(0), arpc.WithWriteTimeout(0)}

// serve starts a node, at an address if one is given.
func serve(t testing.TB, url, address string, opts ...nats.Option) *node {
	n := &node{valve: new(valve), served: make(chan error, 1)}
	n.broker = broker(t, url, append(slices.Clip(opts), n.valve.option())...)
	const soon = time.Second
	n.Server = pubsub.NewServer(pubsub.WithBroker(n.broker), pubsub.WithPresenceTimeout(soon), pubsub.WithServerOptions(patient...))
	if address == "" {
		address = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	n.address = ln.Addr().String()
	go func() { n.served <- n.Serve(ln) }()
	n.stop = sync.OnceFunc(func() {
		n.Stop()
		require.ErrorIs(t, <-n.served, arpc.ErrServerClosed)
		require.NoError(t, n.broker.Close())
	})
	t.Cleanup(n.stop)
	return n
}

// kill ends a node without a word to the others.
func (n *node) kill() {
	n.valve.shut()
	n.stop()
}

// three starts as many nodes on one NATS server.
func three(t testing.TB, url string, opts ...nats.Option) (nodes [3]*node) {
	for i := range nodes {
		nodes[i] = serve(t, url, "", opts...)
	}
	return nodes
}

// dial connects a client to nodes: to the first that is there.
func dial(t testing.TB, nodes ...*node) *pubsub.Client { return dialThrough(t, new(valve), nodes...) }

func dialThrough(t testing.TB, v *valve, nodes ...*node) *pubsub.Client {
	soon := arpc.WithReconnect(5*time.Millisecond, 50*time.Millisecond, arpc.Forever)
	c, err := pubsub.NewClient(func() (net.Conn, error) {
		var errs error
		for _, n := range nodes {
			nc, err := v.Dial("tcp", n.address)
			if err == nil {
				return nc, nil
			}
			errs = errors.Join(errs, err)
		}
		return nil, errs
	}, pubsub.WithClientOptions(append(slices.Clip(patient), soon)...))
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

// inbox is what a subscription got, with its events as "recovered true" and the like.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (in *inbox) add(text string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.got = append(in.got, text)
}

func (in *inbox) topic(topic *pubsub.Topic) { in.add(string(topic.Data)) }

func (in *inbox) event(e pubsub.Event) {
	switch e.Kind {
	case pubsub.EventStarted, pubsub.EventResumed:
		in.add(fmt.Sprint("recovered ", e.Recovered))
	case pubsub.EventInterrupted:
		in.add("interrupted")
	case pubsub.EventGap:
		in.add("gap")
	case pubsub.EventJoined:
		in.add("joined " + e.Subscriber.ID)
	case pubsub.EventLeft:
		in.add("left " + e.Subscriber.ID)
	}
}

func (in *inbox) all() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.got)
}

// messages returns what is no event.
func (in *inbox) messages() []string {
	return slices.DeleteFunc(in.all(), func(text string) bool {
		return slices.Contains([]string{"recovered true", "recovered false", "interrupted", "gap"}, text)
	})
}

func subscribe(t testing.TB, c *pubsub.Client, filter string, opts ...pubsub.SubscribeOption) *inbox {
	in := new(inbox)
	_, err := c.SubscribeWith(t.Context(), filter, in.topic, append(opts, pubsub.OnEvent(in.event))...)
	require.NoError(t, err)
	return in
}

func send(t testing.TB, c *pubsub.Client, topic, text string) {
	_, err := c.PublishWith(t.Context(), topic, text)
	require.NoError(t, err)
}

// sendSafely publishes until it is acknowledged, with an ID so that it comes once.
func sendSafely(t testing.TB, c *pubsub.Client, topic, text string) {
	for t.Context().Err() == nil {
		if _, err := c.PublishWith(t.Context(), topic, text, pubsub.WithMessageID(text)); err == nil {
			return
		}
	}
}

// random returns choices that are the same for the same seed, which it prints.
func random(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("NATS_TEST_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("NATS_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}
