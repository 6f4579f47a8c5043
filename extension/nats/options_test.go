package nats_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string][]nats.Option{
		"WithPrefix":       {nats.WithPrefix("a.b")},
		`WithPrefix("")`:   {nats.WithPrefix("")},
		"WithReplicas(0)":  {nats.WithReplicas(0)},
		"WithWait(-1ns)":   {nats.WithWait(-1)},
		"WithDedup(0s)":    {nats.WithDedup(0)},
		"WithIdleGroup":    {nats.WithIdleGroup(-time.Second)},
		"WithLease(0s)":    {nats.WithLease(0)},
		`WithHistory("")`:  {nats.WithHistory("", pubsub.History{Messages: 1})},
		"negative":         {nats.WithHistory("a", pubsub.History{Messages: -1})},
		"Bytes":            {nats.WithHistory("a", pubsub.History{Bytes: 1})},
		"Topics":           {nats.WithHistory("a", pubsub.History{Messages: 1, Topics: 1})},
		`WithHistory("b")`: {nats.WithHistory("a", pubsub.History{Messages: 1}), nats.WithHistory("b", pubsub.History{Messages: 2})},
	} {
		_, err := nats.NewBroker("nats://127.0.0.1:1", opts...)
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, want)
	}
}

func TestWithoutNATSThereIsNoBroker(t *testing.T) {
	t.Parallel()
	s := server(t)
	s.Stop()
	_, err := nats.NewBroker(s.URL(), nats.WithWait(time.Millisecond))
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "%v", err)
	_, err = nats.NewBroker("no address \x00")
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "%v", err)
}

// NATS and the program may be started in any order.
func TestABrokerWaitsForNATSToStart(t *testing.T) {
	t.Parallel()
	s := server(t)
	s.Stop()
	refused := make(chan struct{}, 1)
	dialer := dialerFunc(func(network, address string) (net.Conn, error) {
		nc, err := net.Dial(network, address)
		if err != nil {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
		return nc, err
	})
	opened := make(chan error, 1)
	go func() {
		b, err := nats.NewBroker(s.URL(), nats.WithWait(patience), nats.WithNATS(natsgo.SetCustomDialer(dialer)))
		if err == nil {
			err = b.Close()
		}
		opened <- err
	}()
	<-refused
	require.NoError(t, s.Start())
	require.NoError(t, <-opened)
}

type dialerFunc func(network, address string) (net.Conn, error)

func (f dialerFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

func TestHistoryNeedsJetStream(t *testing.T) {
	t.Parallel()
	s := server(t, nats.WithServerOptions(func(o *natsserver.Options) { o.JetStream = false }))
	_, err := nats.NewBroker(s.URL(), keep(10))
	require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "JetStream")
	b := broker(t, s.URL())
	w := watch(t, b, "live.a")
	publish(t, b, "live.a", "without")
	w.requireTold(t, "without")
}

// Of several rules the first that matches a topic counts, and one without limits keeps
// nothing.
func TestTheFirstRuleCounts(t *testing.T) {
	t.Parallel()
	limits := pubsub.History{Messages: 10, TotalBytes: 1 << 20}
	b := broker(t, server(t).URL(), newPrefix(),
		nats.WithHistory("a.temp.>", pubsub.History{}), nats.WithHistory("a.>", limits), nats.WithHistory("b", limits))
	for topic, kept := range map[string]bool{"a.x": true, "a.temp.x": false, "b": true, "c": false} {
		p := publish(t, b, topic, "text")
		require.Equal(t, kept, p.Offset != 0, topic)
		_, page := read(t, b, topic, pubsub.Start{Kind: pubsub.StartAll})
		require.Equal(t, kept, page.Complete, topic)
		require.Equal(t, kept, len(page.Messages) == 1, topic)
	}
	_, page := read(t, b, "a.>", pubsub.Start{Kind: pubsub.StartAll})
	require.False(t, page.Complete, "some of its topics have none")
	require.Len(t, page.Messages, 1)
}

// Bytes of the whole stream are a limit that removes the oldest of all topics.
func TestTotalBytesBoundHistory(t *testing.T) {
	t.Parallel()
	b := broker(t, server(t).URL(), newPrefix(), nats.WithHistory(">", pubsub.History{Messages: 1000, TotalBytes: 64 << 10}))
	old := publish(t, b, "old", "old")
	begin := publish(t, b, "a", "0")
	large := make([]byte, 8<<10)
	var last pubsub.Position
	for range 20 {
		last = publish(t, b, "a", string(large))
	}
	after := func(p pubsub.Position) pubsub.Start { return pubsub.Start{Kind: pubsub.StartAfter, Position: p} }
	texts, page := read(t, b, "a", after(begin))
	require.False(t, page.Complete)
	require.Less(t, len(texts), 8)
	require.NotEmpty(t, texts)
	_, page = read(t, b, "old", after(old))
	require.False(t, page.Complete, "nobody knows whose messages have gone")
	_, page = read(t, b, "a", after(last))
	require.True(t, page.Complete)
}

func TestALargeMessageIsAnErrorThatNamesTheLimit(t *testing.T) {
	t.Parallel()
	b := broker(t, server(t, nats.WithMaxPayload(100<<10)).URL(), newPrefix(), keep(10))
	for _, topic := range []string{"live.a", "kept.a"} {
		_, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic, Data: make([]byte, 200<<10)})
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err), "%v", err)
		require.ErrorContains(t, err, "102400")
		require.ErrorContains(t, err, "WithMaxPayload")
	}
}

// A topic may have 1024 bytes, which NATS would not have as they are.
func TestTheLongestTopics(t *testing.T) {
	t.Parallel()
	b := broker(t, server(t).URL(), newPrefix(), nats.WithHistory("kept.>", pubsub.History{Messages: 1}))
	for _, rest := range []string{strings.Repeat("\xff", 1019), strings.Repeat(".", 1019), strings.Repeat("a", 1019)} {
		for _, topic := range []string{"live." + rest, "kept." + rest} {
			w := watch(t, b, topic)
			took, _ := join(t, b, topic, pubsub.GroupOptions{Ack: topic[0] == 'k'}, acknowledge)
			_, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic, ID: "id", Key: "key", Data: []byte("long")})
			require.NoError(t, err)
			w.requireTold(t, "long")
			eventually(t, func() bool { return len(took.has()) == 1 }, "a message to the group")
			require.Equal(t, topic, took.has()[0].Topic)
			require.NoError(t, b.PublishToOne(t.Context(), &pubsub.Message{Topic: topic}))
			eventually(t, func() bool { return len(w.ones()) == 1 }, "a message for one")
		}
		for _, kind := range []pubsub.StartKind{pubsub.StartAll, pubsub.StartLast} {
			texts, page := read(t, b, "kept."+rest, pubsub.Start{Kind: kind})
			require.Equal(t, []string{"long"}, texts)
			require.True(t, page.Complete)
		}
	}
}

func TestAMessageThatNATSTookTwiceIsOne(t *testing.T) {
	t.Parallel()
	b := broker(t, server(t).URL(), newPrefix(), keep(10), nats.WithDedup(time.Hour))
	w := watch(t, b, "kept.a")
	for range 3 {
		_, err := b.Publish(t.Context(), &pubsub.Message{Topic: "kept.a", ID: "id", Data: []byte("once")})
		require.NoError(t, err)
	}
	publish(t, b, "kept.a", "end")
	w.requireTold(t, "once", "end")
	require.EqualValues(t, 2, b.Statistics().Doubles)
}

func TestATemporaryStoreIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := nats.EmbeddedServer()
	require.NoError(t, err)
	made, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Len(t, made, 1)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.NoDirExists(t, filepath.Join(os.Getenv("TMPDIR"), made[0].Name()))
}

func TestAStoreOfOnesOwnStays(t *testing.T) {
	t.Parallel()
	dir, prefix := t.TempDir(), newPrefix()
	for i := range 3 {
		s, err := nats.EmbeddedServer(nats.WithStore(dir), nats.WithServerName("one"), nats.WithSync())
		require.NoError(t, err)
		b, err := nats.NewBroker(s.URL(), prefix, keep(100))
		require.NoError(t, err)
		publish(t, b, "kept.a", fmt.Sprint(i))
		texts, page := read(t, b, "kept.a", pubsub.Start{Kind: pubsub.StartAll})
		require.Equal(t, []string{"0", "1", "2"}[:i+1], texts)
		require.True(t, page.Complete)
		require.NoError(t, b.Close())
		require.NoError(t, s.Close())
	}
}

func TestAServerStartsWhereItStopped(t *testing.T) {
	t.Parallel()
	s := server(t)
	url := s.URL()
	require.NoError(t, s.Start())
	s.Stop()
	s.Stop()
	_, err := natsgo.Connect(url)
	require.Error(t, err)
	require.NoError(t, s.Start())
	require.Equal(t, url, s.URL())
	nc, err := natsgo.Connect(url)
	require.NoError(t, err)
	nc.Close()
}

func TestServersThatCannotStart(t *testing.T) {
	t.Parallel()
	s := server(t)
	taken := s.URL()[len("nats://"):]
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, opts := range map[string][]nats.ServerOption{
		"address":         {nats.WithListen("nowhere")},
		"cluster address": {nats.WithCluster("name", "nowhere")},
		"taken":           {nats.WithListen(taken)},
		"store":           {nats.WithStore(filepath.Join(file, "below"))},
	} {
		_, err := nats.EmbeddedServer(opts...)
		require.Error(t, err, name)
	}
}
