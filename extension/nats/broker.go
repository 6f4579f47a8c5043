package nats

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Broker is a pubsub.Broker over NATS. All brokers with the same prefix that are
// connected to the same NATS, or cluster of NATS, are one cluster; a program has one
// Broker for one or more servers. It reconnects by itself, and says so to Watchers.
type Broker struct {
	// Set by NewBroker, never changed.
	*settings
	names  subjects
	id     string // among brokers
	nc     *nats.Conn
	js     jetstream.JetStream
	stream *stream // nil: no topic has history
	plain  *plain
	stored *stored // nil: no topic has history

	gate   gate
	peers  peers
	rounds rounds
	window window
	seen   seen
	counts counts

	life   context.Context // ends with Close
	end    context.CancelFunc
	done   <-chan struct{} // closed by end
	ending sync.Once
	ended  chan struct{} // closed when nc is
	tasks  sync.WaitGroup

	// All that is watched, by topics.
	watches subject.Matcher[*watch]

	mu      sync.RWMutex // held for a moment only, never while NATS or a Watcher is called
	closed  bool
	filters map[string]*filter
	bySub   map[*nats.Subscription]*filter
	groups  map[groupKey]*group
	hearers map[*hearer]struct{}
}

var _ pubsub.Broker = (*Broker)(nil)

// NewBroker connects to NATS: url is that of one server, or of several with commas
// between them. It fails if none can be reached within WithWait, if the history asked
// for needs what NATS has not got, such as JetStream, and if there are brokers with other
// history rules in the cluster.
func NewBroker(url string, opts ...Option) (*Broker, error) {
	s, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		settings: s,
		names:    newSubjects(s.prefix),
		id:       nuid.Next(),
		ended:    make(chan struct{}),
		seen:     seen{window: s.dedup},
		filters:  make(map[string]*filter),
		bySub:    make(map[*nats.Subscription]*filter),
		groups:   make(map[groupKey]*group),
		hearers:  make(map[*hearer]struct{}),
	}
	b.life, b.end = context.WithCancel(context.Background())
	b.done = b.life.Done()
	b.window.b = b
	b.plain = newPlain(b)
	if limits, some := b.limits(); some {
		b.stream, b.stored = newStream(b, limits), newStored(b)
	}
	if err := b.open(url); err != nil {
		return nil, err
	}
	return b, nil
}

// open connects and starts what a Broker consists of.
func (b *Broker) open(url string) (err error) {
	if b.nc, err = b.connect(url); err != nil {
		return arpc.Errorf(arpc.CodeUnavailable, "nats: connect to %s: %w", redacted(url), err)
	}
	b.gate.open(b.life)
	b.plain.tell(eventUp)
	b.tasks.Go(b.plain.run)
	b.tasks.Go(b.plain.sendOnward)
	b.tasks.Go(b.stayKnown)
	ctx, cancel := b.bounded(b.life)
	defer cancel()
	if err = b.start(ctx); err != nil {
		b.Close()
	}
	return err
}

func (b *Broker) start(ctx context.Context) (err error) {
	const abandoned = time.Minute // futures of publishers that have given up
	if b.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncTimeout(abandoned), jetstream.WithPublishAsyncMaxPending(1<<20)); err != nil {
		return err
	}
	if err := b.meet(ctx); err != nil {
		return err
	}
	if b.stream == nil {
		return nil
	}
	return b.try(ctx, "look at the stream", func(ctx context.Context) error {
		_, err := b.stream.ensure(ctx)
		return err
	})
}

// natsOptions are those of the connection.
func (b *Broker) natsOptions() []nats.Option {
	opts := []nats.Option{
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(backOff),
		nats.ReconnectBufSize(-1), // Publish says that it cannot, and waits
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(10 * time.Second), // what hangs so long is lost, and connected to anew
	}
	opts = append(opts, b.nats...)
	return append(opts,
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.disconnected(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { b.reconnected() }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { b.asyncError(sub, err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(b.ended) }),
		b.hookDialer,
	)
}

// hookDialer has plain told, between two messages, where one connection ends and the
// next begins.
func (b *Broker) hookDialer(o *nats.Options) error {
	var next nats.CustomDialer = &net.Dialer{Timeout: o.Timeout}
	if o.CustomDialer != nil {
		next = o.CustomDialer
	}
	o.CustomDialer = dialerFunc(func(network, address string) (net.Conn, error) {
		b.plain.tell(eventDial)
		return next.Dial(network, address)
	})
	return nil
}

type dialerFunc func(network, address string) (net.Conn, error)

func (f dialerFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// disconnected and the two below are called by the connection, one at a time.
func (b *Broker) disconnected(err error) {
	b.counts.outages.Add(1)
	b.gate.shut(err)
	b.plain.tell(eventDown)
	if b.stored != nil {
		b.stored.look()
	}
}

func (b *Broker) reconnected() {
	b.gate.open(b.life)
	if b.stored != nil {
		b.stored.look()
	}
	b.spawn(b.comeBack)
}

// comeBack says that messages come again, when all of NATS knows that: until then some are
// lost. It also has the other brokers know where this one is now.
func (b *Broker) comeBack() {
	ctx, cancel := b.gate.while(b.life)
	defer cancel()
	if b.flush(ctx) == nil {
		b.greet(ctx, false) // an error says that others are configured otherwise, which they have been told
	}
	if ctx.Err() == nil {
		b.plain.tell(eventUp)
	}
}

// spawn runs fn on a goroutine that Close waits for, unless the Broker is closed. fn ends
// when done is closed.
func (b *Broker) spawn(fn func()) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if !b.closed {
		b.tasks.Go(fn)
	}
	return !b.closed
}

func (b *Broker) asyncError(sub *nats.Subscription, err error) {
	if sub != nil && errors.Is(err, nats.ErrSlowConsumer) && strings.HasPrefix(sub.Subject, b.names.plain) {
		b.plain.tellLost(sub)
	}
}

// check is what all methods begin with.
func (b *Broker) check(ctx context.Context) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return pubsub.ErrBrokerClosed
	}
	return ctx.Err()
}

// Close says pubsub.Broker. Messages that members of queue groups have and did not
// acknowledge go to others at once. It waits for NATS no longer than WithWait.
func (b *Broker) Close() error {
	b.ending.Do(func() {
		for _, g := range b.refuse() {
			g.close()
		}
		b.flushLast()
		b.end()
		b.nc.Close()
		<-b.ended
		b.stopAll()
	})
	b.tasks.Wait()
	return nil
}

// refuse has all methods return ErrBrokerClosed and returns what is to be closed.
func (b *Broker) refuse() []*group {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	var groups []*group
	for _, g := range b.groups {
		groups = append(groups, g)
	}
	return groups
}

// flushLast has what was published leave, if there is a connection.
func (b *Broker) flushLast() {
	if b.nc.IsConnected() {
		b.leave()
		b.nc.FlushTimeout(b.wait)
	}
}

// stopAll returns when nobody is called any more.
func (b *Broker) stopAll() {
	for _, w := range slices.Concat(b.watching(true), b.watching(false)) {
		w.stop()
	}
	b.mu.RLock()
	hearers := slices.Collect(maps.Keys(b.hearers))
	b.mu.RUnlock()
	for _, h := range hearers {
		h.stop()
	}
}
