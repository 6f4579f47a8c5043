package nats_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// Tests wait for NATS more than for a processor: so many at a time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long something may take that must happen: the machine may be busy
// with other things.
const patience = 3 * time.Minute

// eventually waits until something holds.
func eventually(t testing.TB, holds func() bool, format string, args ...any) {
	t.Helper()
	require.Eventuallyf(t, holds, patience, 2*time.Millisecond, format, args...)
}

// server starts a NATS server that is closed when the test ends.
func server(t testing.TB, opts ...nats.ServerOption) *nats.Server {
	s, err := nats.EmbeddedServer(append(opts, nats.WithServerOptions(bePatient))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// bePatient has a server not cut clients off that are slow, as the whole machine may be.
func bePatient(o *natsserver.Options) {
	o.WriteDeadline, o.AuthTimeout = patience, patience.Seconds()
}

// cluster starts three NATS servers.
func cluster(t testing.TB) nats.Cluster {
	c, err := nats.EmbeddedCluster(3, nats.WithServerOptions(bePatient))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// broker connects one that is closed when the test ends.
func broker(t testing.TB, url string, opts ...nats.Option) *nats.Broker {
	soon := natsgo.CustomReconnectDelay(func(int) time.Duration { return 10 * time.Millisecond })
	b, err := nats.NewBroker(url, append([]nats.Option{nats.WithWait(patience), nats.WithNATS(soon)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

var prefixes atomic.Int64

// newPrefix is one that no other test has.
func newPrefix() nats.Option { return nats.WithPrefix(fmt.Sprint("test", prefixes.Add(1))) }

// listen has what is published in NATS itself.
func listen(t testing.TB, url, subject string) *natsgo.Subscription {
	nc, err := natsgo.Connect(url, natsgo.Timeout(patience))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	sub, err := nc.SubscribeSync(subject)
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return sub
}

// keep has history of topics that begin with "kept.".
func keep(messages int) nats.Option {
	return nats.WithHistory("kept.>", pubsub.History{Messages: messages, TotalBytes: 64 << 20})
}

func publish(t testing.TB, b *nats.Broker, topic, text string) pubsub.Position {
	p, err := b.Publish(t.Context(), &pubsub.Message{Topic: topic, Data: []byte(text), Time: time.Now()})
	require.NoError(t, err)
	return p
}

// read returns the texts in history.
func read(t testing.TB, b *nats.Broker, filter string, from pubsub.Start) (all []string, first pubsub.Page) {
	first, err := b.Read(t.Context(), filter, from, 1000)
	require.NoError(t, err)
	for page := first; ; {
		for _, m := range page.Messages {
			all = append(all, string(m.Data))
		}
		if !page.More {
			return all, first
		}
		from.Position = page.Next
		page, err = b.Read(t.Context(), filter, from, 1000)
		require.NoError(t, err)
	}
}

// recorder is a Watcher that writes down what it is told, events as "interrupted" and
// "resumed true" or "resumed false".
type recorder struct {
	mu   sync.Mutex
	told []string
	one  []string
}

func (r *recorder) tell(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, text)
}

func (r *recorder) Deliver(m *pubsub.Message) { r.tell(string(m.Data)) }

func (r *recorder) DeliverToOne(m *pubsub.Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.one = append(r.one, string(m.Data))
	return true
}

func (r *recorder) Size() int             { return 1 }
func (r *recorder) Interrupted(error)     { r.tell("interrupted") }
func (r *recorder) Resumed(complete bool) { r.tell(fmt.Sprint("resumed ", complete)) }

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told[:len(r.told):len(r.told)]
}

func (r *recorder) ones() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.one[:len(r.one):len(r.one)]
}

func watch(t testing.TB, b *nats.Broker, filter string) *recorder {
	r := new(recorder)
	stop, err := b.Watch(filter, r)
	require.NoError(t, err)
	t.Cleanup(stop)
	return r
}

// requireTold waits until so much has been told, and compares.
func (r *recorder) requireTold(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, func() bool { return len(r.all()) >= len(want) }, "%d things to be told", len(want))
	require.Equal(t, want, r.all())
}

// valve is a dialer whose connections can be cut.
type valve struct {
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

// option has a broker connect through the valve, and to nobody but the server it was
// given.
func (v *valve) option() nats.Option {
	return nats.WithNATS(natsgo.SetCustomDialer(v), natsgo.IgnoreDiscoveredServers())
}

var errShut = errors.New("the valve is shut")

func (v *valve) Dial(network, address string) (net.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, errShut
	}
	c, err := net.Dial(network, address)
	if err == nil {
		v.conns = append(v.conns, c)
	}
	return c, err
}

func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for _, c := range v.conns {
		c.Close()
	}
	v.conns = nil
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = false
}

// member writes down what it takes, and does with it what handle says.
type member struct {
	handle func(pubsub.Delivery)

	mu    sync.Mutex
	taken []pubsub.Delivery
}

func (m *member) Take(d pubsub.Delivery) {
	m.mu.Lock()
	m.taken = append(m.taken, d)
	m.mu.Unlock()
	if m.handle != nil {
		m.handle(d)
	}
}

func (m *member) texts() (all []string) {
	for _, d := range m.has() {
		all = append(all, string(d.Data))
	}
	return all
}

func (m *member) has() []pubsub.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken[:len(m.taken):len(m.taken)]
}

func join(t testing.TB, b *nats.Broker, filter string, o pubsub.GroupOptions, handle func(pubsub.Delivery)) (*member, func()) {
	m := &member{handle: handle}
	leave, err := b.Join(filter, "group", o, m)
	require.NoError(t, err)
	t.Cleanup(leave)
	return m, leave
}

func acknowledge(d pubsub.Delivery) { d.Done(true) }
