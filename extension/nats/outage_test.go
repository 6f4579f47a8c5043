package nats_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// Who watches topics without history is told that nobody knows what was missed, before
// what is published afterwards.
func TestWithoutHistoryAnOutageIsToldAsALoss(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	var v valve
	here, there := broker(t, url, prefix, v.option()), broker(t, url, prefix)
	w := watch(t, here, "live.*")
	publish(t, there, "live.a", "before")
	w.requireTold(t, "before")
	v.shut()
	w.requireTold(t, "before", "interrupted")
	publish(t, there, "live.a", "lost")
	v.open()
	w.requireTold(t, "before", "interrupted", "resumed false")
	publish(t, there, "live.a", "after")
	w.requireTold(t, "before", "interrupted", "resumed false", "after")
}

func TestWithHistoryAnOutageLosesNothing(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	var v valve
	here, there := broker(t, url, prefix, keep(100), v.option()), broker(t, url, prefix, keep(100))
	literal, wild, other := watch(t, here, "kept.a"), watch(t, here, "kept.>"), watch(t, here, "kept.other")
	publish(t, there, "kept.a", "before")
	literal.requireTold(t, "before")
	v.shut()
	literal.requireTold(t, "before", "interrupted")
	for i := range 5 {
		publish(t, there, "kept.a", fmt.Sprint(i))
	}
	v.open()
	want := []string{"before", "interrupted", "resumed true", "0", "1", "2", "3", "4"}
	literal.requireTold(t, want...)
	wild.requireTold(t, want...)
	other.requireTold(t, "interrupted", "resumed true")
	publish(t, there, "kept.a", "after")
	literal.requireTold(t, append(want, "after")...)
	require.EqualValues(t, 1, here.Statistics().Outages)
	require.GreaterOrEqual(t, here.Statistics().Fetched, uint64(5))
}

// Those whose topics have lost messages are told, in front of what is left; others are
// told that nothing is missing.
func TestAnOutageLongerThanHistoryIsToldToThoseWhoMissSomething(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	var v valve
	here, there := broker(t, url, prefix, keep(3), v.option()), broker(t, url, prefix, keep(3))
	lossy, wild, whole := watch(t, here, "kept.a"), watch(t, here, "kept.>"), watch(t, here, "kept.b")
	publish(t, there, "kept.a", "before")
	lossy.requireTold(t, "before")
	v.shut()
	whole.requireTold(t, "interrupted")
	for i := range 5 {
		publish(t, there, "kept.a", fmt.Sprint(i))
	}
	publish(t, there, "kept.b", "of b")
	v.open()
	whole.requireTold(t, "interrupted", "resumed true", "of b")
	// The stream has one message more than it must, which is better than none.
	lossy.requireTold(t, "before", "interrupted", "resumed false", "1", "2", "3", "4")
	wild.requireTold(t, "before", "interrupted", "resumed false", "1", "2", "3", "4", "of b")
}

// A filter that matches topics of both kinds has missed something for all that is known,
// and gets what history has.
func TestFiltersOfBothKindsOfTopics(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	var v valve
	here, there := broker(t, url, prefix, keep(100), v.option()), broker(t, url, prefix, keep(100))
	w := watch(t, here, ">")
	v.shut()
	w.requireTold(t, "interrupted")
	publish(t, there, "kept.a", "kept")
	publish(t, there, "live.a", "lost")
	v.open()
	eventually(t, func() bool { return len(w.all()) >= 3 }, "the message from history")
	require.ElementsMatch(t, []string{"interrupted", "resumed false", "kept"}, w.all())
	publish(t, there, "live.a", "live")
	eventually(t, func() bool { return slices.Contains(w.all(), "live") }, "a message")
}

func TestPublishingWaitsForNATSAsLongAsItsContextLets(t *testing.T) {
	t.Parallel()
	s := server(t)
	b := broker(t, s.URL(), newPrefix(), keep(100))
	w := watch(t, b, ">")
	s.Stop()
	w.requireTold(t, "interrupted")
	for _, topic := range []string{"live.a", "kept.a"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := b.Publish(ctx, &pubsub.Message{Topic: topic})
		cancel()
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "%v", err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err = b.Publish(ctx, &pubsub.Message{Topic: topic})
		require.ErrorIs(t, err, context.Canceled)
	}
	requireUnavailable(t, b)

	var all sync.WaitGroup
	for _, topic := range []string{"live.a", "kept.a"} {
		all.Go(func() { publish(t, b, topic, "waited") })
	}
	require.NoError(t, s.Start())
	all.Wait()
	texts, _ := read(t, b, "kept.a", pubsub.Start{Kind: pubsub.StartAll})
	require.Equal(t, []string{"waited"}, texts)
}

// requireUnavailable calls what needs NATS, which is away.
func requireUnavailable(t testing.TB, b *nats.Broker) {
	for doing, fn := range map[string]func(ctx context.Context) error{
		"announce": func(ctx context.Context) error { return b.Announce(ctx, nil) },
		"read": func(ctx context.Context) error {
			_, err := b.Read(ctx, "kept.a", pubsub.Start{Kind: pubsub.StartAll}, 1)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(fn(ctx)), doing)
		cancel()
	}
}

func TestWithoutAContextPublishingWaitsAsLongAsWithWait(t *testing.T) {
	t.Parallel()
	s := server(t)
	prefix := newPrefix()
	broker(t, s.URL(), prefix, keep(100)) // makes the stream, which may take longer
	b := broker(t, s.URL(), prefix, keep(100), nats.WithWait(time.Second))
	s.Stop()
	_, err := b.Publish(t.Context(), &pubsub.Message{Topic: "kept.a"})
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "%v", err)
	_, err = b.Watch("kept.a", new(recorder))
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "%v", err)
	_, err = b.Join("kept.a", "group", pubsub.GroupOptions{Ack: true}, new(member))
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "%v", err)
}

// A server that starts again with what it has stored has lost nothing that was
// acknowledged, and those who watch get it all, in order, once.
func TestARestartOfNATSLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	const publishers, messages = 4, 60
	s := server(t)
	prefix := newPrefix()
	here, there := broker(t, s.URL(), prefix, keep(10_000)), broker(t, s.URL(), prefix, keep(10_000))
	w := watch(t, there, "kept.>")
	var all sync.WaitGroup
	half := make(chan struct{}, publishers)
	for publisher := range publishers {
		all.Go(func() {
			for i := range messages {
				if i == messages/2 {
					half <- struct{}{}
				}
				publishSafely(t, here, fmt.Sprint("kept.", publisher%2), fmt.Sprintf("%d/%d", publisher, i))
			}
		})
	}
	<-half
	s.Stop()
	require.NoError(t, s.Start())
	all.Wait()

	history, page := read(t, here, "kept.>", pubsub.Start{Kind: pubsub.StartAll})
	require.True(t, page.Complete)
	require.Len(t, history, publishers*messages)
	eventually(t, func() bool { return len(messagesOf(w)) >= len(history) }, "all messages")
	require.Equal(t, history, messagesOf(w))
	require.NotContains(t, w.all(), "resumed false")
}

// publishSafely publishes until it is acknowledged, with an ID so that it comes once.
func publishSafely(t testing.TB, b *nats.Broker, topic, text string) {
	for {
		_, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic, ID: text, Data: []byte(text), Time: time.Now()})
		if err == nil {
			return
		}
		if arpc.CodeOf(err) != arpc.CodeUnavailable || t.Context().Err() != nil {
			t.Errorf("publish %q: %v", text, err)
			return
		}
	}
}

// messagesOf returns what a recorder was told without the events.
func messagesOf(r *recorder) []string {
	return slices.DeleteFunc(slices.Clone(r.all()), func(text string) bool {
		return text == "interrupted" || text == "resumed true" || text == "resumed false"
	})
}

// Where NATS has lost its disk history begins again, in another epoch.
func TestANewStoreIsAnotherEpoch(t *testing.T) {
	t.Parallel()
	address := server(t)
	address.Stop()
	listen := nats.WithListen(address.URL()[len("nats://"):])
	first, err := nats.EmbeddedServer(listen)
	require.NoError(t, err)
	b := broker(t, first.URL(), newPrefix(), keep(100))
	w := watch(t, b, "kept.>")
	before := publish(t, b, "kept.a", "before")
	w.requireTold(t, "before")
	require.NoError(t, first.Close())
	w.requireTold(t, "before", "interrupted")

	second, err := nats.EmbeddedServer(listen)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, second.Close()) })
	w.requireTold(t, "before", "interrupted", "resumed false")
	after := publish(t, b, "kept.a", "after")
	require.NotEqual(t, before.Epoch, after.Epoch)
	w.requireTold(t, "before", "interrupted", "resumed false", "after")
	texts, page := read(t, b, "kept.a", pubsub.Start{Kind: pubsub.StartAfter, Position: before})
	require.Equal(t, []string{"after"}, texts)
	require.False(t, page.Complete)
}

func TestClosingDuringAnOutage(t *testing.T) {
	t.Parallel()
	s := server(t)
	b := broker(t, s.URL(), newPrefix(), keep(100))
	w := watch(t, b, ">")
	_, leave := join(t, b, "kept.>", pubsub.GroupOptions{Ack: true}, nil)
	s.Stop()
	w.requireTold(t, "interrupted")
	waiting := make(chan error)
	go func() {
		_, err := b.Publish(context.Background(), &pubsub.Message{Topic: "kept.a"})
		waiting <- err
	}()
	require.NoError(t, b.Close())
	require.ErrorIs(t, <-waiting, pubsub.ErrBrokerClosed)
	leave()
	require.NoError(t, b.Close())
	_, err := b.Publish(t.Context(), &pubsub.Message{Topic: "live.a"})
	require.True(t, errors.Is(err, pubsub.ErrBrokerClosed))
}

// A broker that is closed has left nothing at NATS but what it has stored, and groups that
// outlive it.
func TestClosingLeavesNoSubscriptions(t *testing.T) {
	t.Parallel()
	url := server(t).URL()
	b := broker(t, url, nats.WithPrefix("closing"), keep(100))
	watch(t, b, ">")
	watch(t, b, "kept.a")
	join(t, b, ">", pubsub.GroupOptions{}, nil)
	join(t, b, "kept.a", pubsub.GroupOptions{Ack: true}, nil)
	_, err := b.Hear(func([]byte) {})
	require.NoError(t, err)
	nc, err := natsgo.Connect(url)
	require.NoError(t, err)
	defer nc.Close()
	asked := func(subject string) error {
		const soon = time.Second // what is asked while the server notices that somebody has gone is lost
		_, err := nc.Request("closing."+subject, nil, soon)
		return err
	}
	answered := func() bool { return asked("h.kept.a") == nil }
	eventually(t, answered, "the stream to answer")
	require.NoError(t, b.Close())
	for _, subject := range []string{"p", "a", "l.m.a", "l.o.a", "l.h.kept.a", "g.any", "r.any"} {
		eventually(t, func() bool { return errors.Is(asked(subject), natsgo.ErrNoResponders) }, "nobody to be subscribed to %s", subject)
	}
	eventually(t, answered, "what is stored to be there")
}

// slow is a dialer whose connections keep what is sent until they are told to go on.
type slow struct {
	mu    sync.Mutex
	holds bool
	kept  []byte
	to    net.Conn // the last
}

func (s *slow) Dial(network, address string) (net.Conn, error) {
	nc, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = nc
	return &slowConn{nc, s}, nil
}

func (s *slow) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = true
}

func (s *slow) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = false
	s.to.Write(s.kept)
	s.kept = nil
}

type slowConn struct {
	net.Conn
	s *slow
}

func (c *slowConn) Write(b []byte) (int, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.holds {
		c.s.kept = append(c.s.kept, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// With WithConfirm a message is accepted when NATS has it, without when it is on its way.
func TestConfirmedIsWhatNATSHas(t *testing.T) {
	t.Parallel()
	url, prefix := server(t).URL(), newPrefix()
	there := broker(t, url, prefix)
	for _, confirm := range []bool{false, true} {
		s := new(slow)
		opts := []nats.Option{prefix, nats.WithNATS(natsgo.SetCustomDialer(s))}
		if confirm {
			opts = append(opts, nats.WithConfirm())
		}
		here, w := broker(t, url, opts...), watch(t, there, "live.a")
		s.hold()
		if confirm {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := here.Publish(ctx, &pubsub.Message{Topic: "live.a", Data: []byte("text")})
			cancel()
			require.Error(t, err)
		} else {
			publish(t, here, "live.a", "text")
		}
		require.Empty(t, w.all())
		s.goOn()
		w.requireTold(t, "text")
		publish(t, here, "live.a", "more")
		w.requireTold(t, "text", "more")
	}
}
