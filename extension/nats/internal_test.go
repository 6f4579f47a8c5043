package nats

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// told is a Watcher that writes down what it is told.
type told struct {
	mu  sync.Mutex
	all []string
}

func (w *told) tell(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *told) texts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[:len(w.all):len(w.all)]
}

func (w *told) Deliver(m *pubsub.Message)         { w.tell(string(m.Data)) }
func (w *told) DeliverToOne(*pubsub.Message) bool { return false }
func (w *told) Size() int                         { return 1 }
func (w *told) Interrupted(error)                 { w.tell("interrupted") }
func (w *told) Resumed(complete bool)             { w.tell(fmt.Sprint("resumed ", complete)) }

// newTestBroker returns one with history of so many messages of each topic, on a server
// of its own.
func newTestBroker(t *testing.T, messages int) *Broker {
	s, err := EmbeddedServer()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	b, err := NewBroker(s.URL(), WithHistory("kept.>", pubsub.History{Messages: messages}), WithWait(3*time.Minute))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// newStoredAlone returns what handles messages of topics with history, which none reach
// but by hand, and a Watcher of each filter.
func newStoredAlone(t *testing.T, b *Broker, filters ...string) (*stored, []*told) {
	s := newStored(b)
	require.NoError(t, s.begin(withPatience(t)))
	var all []*told
	for _, filter := range filters {
		w := new(told)
		all = append(all, w)
		b.enter(&watch{filter: filter, kept: true, to: w})
	}
	return s, all
}

func withPatience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// arrives is a message as the stream republishes it.
func arrives(s *stored, topic, text string, offset uint64) *nats.Msg {
	return &nats.Msg{
		Subject: s.b.names.stored + encode(topic),
		Header:  nats.Header{headerSequence: {fmt.Sprint(offset)}},
		Data:    []byte(text),
	}
}

func publishTest(t *testing.T, b *Broker, topic, text string) uint64 {
	p, err := b.Publish(withPatience(t), &pubsub.Message{Topic: topic, Data: []byte(text)})
	require.NoError(t, err)
	return p.Offset
}

// What did not arrive is read from the stream, before what did; what comes twice, or
// late, is not delivered again.
func TestGapsAreFilled(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 100)
	s, w := newStoredAlone(t, b, "kept.>")
	var at []uint64
	for i := range 6 {
		at = append(at, publishTest(t, b, "kept.a", fmt.Sprint(i)))
	}
	s.take(arrives(s, "kept.a", "0", at[0]))
	s.take(arrives(s, "kept.a", "4", at[4]))
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, w[0].texts())
	s.take(arrives(s, "kept.a", "2", at[2]))
	s.take(arrives(s, "kept.a", "4", at[4]))
	s.take(arrives(s, "kept.a", "5", at[5]))
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5"}, w[0].texts())
}

// What has gone from the stream before it was read is told to those who watch its topic,
// in its place.
func TestGapsThatCannotBeFilledAreTold(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 2)
	s, w := newStoredAlone(t, b, "kept.>", "kept.a", "kept.b", "kept.c")
	var last uint64
	for i := range 5 {
		publishTest(t, b, "kept.b", "b0")
		last = publishTest(t, b, "kept.a", fmt.Sprint(i))
	}
	s.take(arrives(s, "kept.a", "4", last))
	lost := []string{"interrupted", "resumed false"}
	require.Equal(t, append(lost, "b0", "2", "b0", "3", "b0", "4"), w[0].texts())
	require.Equal(t, append(lost, "2", "3", "4"), w[1].texts())
	require.Equal(t, append(lost, "b0", "b0", "b0"), w[2].texts())
	require.Empty(t, w[3].texts())
}

// What is missing at the end is noticed too.
func TestTheLastMessagesAreNotMissed(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 100)
	s, w := newStoredAlone(t, b, "kept.a")
	for i := range 3 {
		publishTest(t, b, "kept.a", fmt.Sprint(i))
	}
	s.check()
	require.Empty(t, w[0].texts(), "they may be on their way")
	s.check()
	require.Equal(t, []string{"0", "1", "2"}, w[0].texts())
}

// Messages that are removed by hand are missed as well: nobody knows whose they were.
func TestMessagesRemovedByHandAreTold(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 100)
	s, w := newStoredAlone(t, b, "kept.a", "kept.b")
	publishTest(t, b, "kept.a", "removed")
	handle, err := b.js.Stream(withPatience(t), b.names.stream)
	require.NoError(t, err)
	require.NoError(t, handle.Purge(withPatience(t)))
	last := publishTest(t, b, "kept.a", "left")
	s.take(arrives(s, "kept.a", "left", last))
	require.Equal(t, []string{"interrupted", "resumed false", "left"}, w[0].texts())
	require.Equal(t, []string{"interrupted", "resumed false"}, w[1].texts())
}

// A consistent answer of the stream has all messages between its first and its last.
func TestLostAnswersAreNoticed(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 100)
	for i := range 3 {
		publishTest(t, b, "kept.a", fmt.Sprint(i))
	}
	sub, err := b.nc.SubscribeSync(b.nc.NewInbox())
	require.NoError(t, err)
	for _, h := range []nats.Header{
		{headerSequence: {"2"}, headerLast: {"0"}},
		{headerSequence: {"4"}, headerLast: {"3"}},
	} {
		require.NoError(t, b.nc.PublishMsg(&nats.Msg{Subject: sub.Subject, Header: h}))
	}
	_, err = b.stream.receive(withPatience(t), sub)
	require.ErrorContains(t, err, "message 3 of the stream did not arrive")
}

// Where messages come faster than they are delivered those who watch are told.
func TestAnOverflowIsTold(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 100)
	blocked, release := make(chan struct{}), make(chan struct{})
	w := &blockedWatcher{blocked: blocked, release: release}
	stop, err := b.Watch("live.a", w)
	require.NoError(t, err)
	defer stop()
	for range queueLen + 100 {
		require.NoError(t, b.nc.Publish(b.names.plain+"live.a", nil))
	}
	<-blocked
	require.NoError(t, b.flush(withPatience(t)))
	close(release)
	require.Eventually(t, func() bool { return len(w.texts()) >= 2 }, 3*time.Minute, time.Millisecond)
	require.Equal(t, []string{"interrupted", "resumed false"}, w.texts())
}

// blockedWatcher is one whose first message takes long.
type blockedWatcher struct {
	told
	once             sync.Once
	blocked, release chan struct{}
}

func (w *blockedWatcher) Deliver(*pubsub.Message) {
	w.once.Do(func() {
		close(w.blocked)
		<-w.release
	})
}

// What a group has no room for, and no place to wait, is dropped and counted.
func TestAGroupWithoutRoomDropsTheNewest(t *testing.T) {
	t.Parallel()
	b := newTestBroker(t, 100)
	g := &group{b: b, key: groupKey{"live.a", "group"}, options: pubsub.GroupOptions{MaxWaiting: 3}}
	s := &liveSource{g: g, b: b, answers: new(nats.Subscription), room: new(nats.Subscription)}
	for i := range 10 {
		s.receive(&nats.Msg{Subject: b.names.plain + "live.a", Data: fmt.Append(nil, i)})
	}
	require.Len(t, s.waiting, 3)
	require.Equal(t, "2", string(s.waiting[2].Data))
	require.EqualValues(t, 7, b.Statistics().GroupDropped)
}

// A broker that has died, and could not say so, is not waited for, nor remembered, forever.
func TestSilentBrokersAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ps peers
		dead, alive := greeting{ID: "dead", Server: "a"}, greeting{ID: "alive", Server: "b"}
		ps.meet(&dead)
		for range 5 {
			ps.meet(&alive)
			time.Sleep(aliveEvery)
		}
		require.Equal(t, map[string]bool{"dead": true, "alive": true}, ps.all())
		ps.forget(func(_ string, one peer) bool { return time.Since(one.heard) > silentFor })
		require.Equal(t, map[string]bool{"alive": true}, ps.all())
		require.Equal(t, map[string]bool{"b": true}, ps.elsewhere("a"))
		alive.Gone = true
		ps.meet(&alive)
		require.Empty(t, ps.all())
	})
}

func TestIDsAreKnownForAWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := seen{window: time.Minute}
		one := messageID{"topic", "one"}
		require.True(t, s.add(one))
		require.False(t, s.add(one))
		require.True(t, s.add(messageID{"other", "one"}))
		time.Sleep(59 * time.Second)
		require.False(t, s.add(one))
		time.Sleep(2 * time.Minute)
		require.True(t, s.add(one))
		s.remove(one)
		require.True(t, s.add(one))
	})
}

func TestIDsTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	s := seen{window: time.Hour}
	for i := range 3 * maxSeen {
		s.add(messageID{"topic", fmt.Sprint(i)})
		if known := len(s.now) + len(s.before); known > 2*maxSeen {
			t.Fatalf("%d IDs are known", known)
		}
	}
	require.False(t, s.add(messageID{"topic", fmt.Sprint(3*maxSeen - 1)}))
}

func TestMessagesComeBackFromNATS(t *testing.T) {
	t.Parallel()
	m := &pubsub.Message{Topic: "a b.c", Data: []byte("data"), Time: time.Unix(1, 2), Key: "k\r\n", ID: "ü: 1"}
	out := toNATS("prefix.", m)
	require.Equal(t, m, fromNATS(out.Subject[len("prefix."):], out.Header, out.Data))
	require.Nil(t, fromNATS("%", nil, nil).Data)
	require.Nil(t, fromNATS("%zz", nil, nil), "no topic is encoded so")
}

// Other programs may publish without any headers.
func TestMessagesOfOtherPrograms(t *testing.T) {
	t.Parallel()
	require.Equal(t, &pubsub.Message{Topic: "a", Data: []byte("data")}, fromNATS("a", nil, []byte("data")))
	b := newTestBroker(t, 100)
	require.NoError(t, b.nc.Publish(b.names.kept+"kept.a", []byte("data")))
	require.NoError(t, b.flush(withPatience(t)))
	page, err := b.Read(withPatience(t), "kept.a", pubsub.Start{Kind: pubsub.StartAll}, 10)
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	require.Equal(t, "data", string(page.Messages[0].Data))
	require.False(t, page.Messages[0].Time.IsZero(), "when it was stored")
}

func TestBackOffHasJitterAndABound(t *testing.T) {
	t.Parallel()
	for n := 1; n < 40; n++ {
		d := backOff(n)
		require.Positive(t, d)
		require.Less(t, d, 4*time.Second)
	}
}

func TestURLsAreShownWithoutPasswords(t *testing.T) {
	t.Parallel()
	shown := redacted("nats://user:secret@a:4222, user:secret@b, \x00")
	require.Equal(t, "nats://user:xxxxx@a:4222, nats://user:xxxxx@b, an address that is none", shown)
}
