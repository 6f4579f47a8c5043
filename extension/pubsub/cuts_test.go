package pubsub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
	"github.com/stretchr/testify/require"
)

// Subscribers whose connections are cut at any byte, in both directions and at any time,
// whose server goes and comes back, with its history or without, and whose history is
// long or too short. Each sees each message once and in order, and is told that it was
// not recovered exactly when something is missing or the epoch is another one.
func TestNothingIsMissedInSilenceOverRandomCuts(t *testing.T) {
	var all cutCounts
	for seed := range uint64(randomCutRuns) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { newCutting(t, seed, &all).run() })
		})
	}
	t.Logf("%+v", &all)
	for _, n := range []int{all.recovered, all.notRecovered, all.beforeAcknowledged, all.beforeMessages, all.epochs} {
		require.Positive(t, n, "of what is to be tried something was not: %+v", &all)
	}
}

// cutCounts is what has been tried.
type cutCounts struct {
	messages, recovered, notRecovered int
	beforeAcknowledged                int // cuts before a subscription was
	beforeMessages                    int // cuts behind that
	epochs, gaps                      int
}

// cutting is one run. Its topics are "kept.0" to "kept.2".
type cutting struct {
	t       *testing.T
	random  *rand.Rand // of the goroutine of the test
	history int        // messages of each topic
	counts  *cutCounts
	faulty  atomic.Bool

	mu        sync.Mutex
	dialling  *rand.Rand // guarded by mu
	dial      arpc.DialerFunc
	broker    *pubsub.MemoryBroker
	server    *pubsub.Server
	published map[string][]sentMessage // by epoch, in order
	readers   []*cutReader
}

type sentMessage struct {
	topic  string
	offset uint64
}

func newCutting(t *testing.T, seed uint64, counts *cutCounts) *cutting {
	c := &cutting{
		t:         t,
		counts:    counts,
		random:    rand.New(rand.NewPCG(seed, 1)),
		dialling:  rand.New(rand.NewPCG(seed, 2)),
		published: make(map[string][]sentMessage),
	}
	c.history = []int{1000, 1000, 2, 10}[c.random.IntN(4)]
	c.faulty.Store(true)
	c.renew()
	c.serve()
	return c
}

// renew begins a new epoch.
func (c *cutting) renew() {
	c.broker = pubsub.NewMemoryBroker(pubsub.WithHistory("kept.>", pubsub.History{Messages: c.history}))
}

func (c *cutting) serve() {
	ln := arpctest.ListenMemory(c.spoil)
	s := pubsub.NewServer(pubsub.WithBroker(c.broker))
	go s.Serve(ln)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server, c.dial = s, ln.Dial
}

// spoil gives one direction of a new connection its end, and other faults.
func (c *cutting) spoil(f arpctest.Faults) {
	if !c.faulty.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.dialling
	if r.IntN(4) > 0 {
		f.CutAfter(r.Int64N(1 << r.IntN(14)))
	}
	if r.IntN(3) == 0 {
		f.Split(1 + r.IntN(50))
	}
	if r.IntN(3) == 0 {
		f.Delay(time.Duration(r.Int64N(int64(5 * time.Millisecond))))
	}
	if r.IntN(5) == 0 {
		time.AfterFunc(time.Duration(r.Int64N(int64(100*time.Millisecond))), f.Cut)
	}
}

func (c *cutting) connect() (net.Conn, error) {
	c.mu.Lock()
	dial := c.dial
	c.mu.Unlock()
	return dial()
}

func (c *cutting) run() {
	filters := []string{"kept.0", "kept.*", ">", "kept.1"}
	for i := range 1 + c.random.IntN(len(filters)) {
		c.read(filters[i])
	}
	for range 100 + c.random.IntN(200) {
		c.step()
	}
	c.faulty.Store(false)
	time.Sleep(time.Minute)
	c.publish()
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, r := range c.readers {
		r.client.Stop()
	}
	c.server.Stop()
	for _, r := range c.readers {
		r.check()
	}
}

// step publishes, waits, or changes the server.
func (c *cutting) step() {
	switch n := c.random.IntN(200); {
	case n < 150:
		c.publish()
	case n < 196:
		time.Sleep(time.Duration(c.random.Int64N(int64(30 * time.Millisecond))))
	case n == 196:
		c.server.Stop()
		c.serve()
	case n == 197:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.server.Shutdown(ctx)
		c.serve()
	case n == 198:
		c.server.Stop()
		c.renew()
		c.serve()
	}
}

func (c *cutting) publish() {
	topic := fmt.Sprint("kept.", c.random.IntN(3))
	at, err := c.server.PublishWith(context.Background(), topic, "x")
	require.NoError(c.t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published[at.Epoch] = append(c.published[at.Epoch], sentMessage{topic, at.Offset})
}

// heads returns the offsets of the last messages of all epochs.
func (c *cutting) heads() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	heads := make(map[string]uint64)
	for epoch, all := range c.published {
		heads[epoch] = all[len(all)-1].offset
	}
	return heads
}

// read subscribes, and goes on in the background where that takes its time.
func (c *cutting) read(filter string) {
	r := &cutReader{run: c, filter: filter}
	for r.client == nil {
		dial := func() (net.Conn, error) {
			r.dialled.Add(1)
			return c.connect()
		}
		client, err := pubsub.NewClient(dial, pubsub.WithClientOptions(arpc.WithReconnect(time.Millisecond, 10*time.Millisecond, arpc.Forever)))
		if err == nil {
			r.client = client
		}
	}
	c.readers = append(c.readers, r)
	opts := []pubsub.SubscribeOption{
		pubsub.OnEvent(r.event),
		pubsub.WithQueue(1000, 1<<20),
		pubsub.WithWindow(1+c.random.IntN(100), 1<<20),
	}
	if c.random.IntN(2) == 0 {
		r.all = true
		opts = append(opts, pubsub.WithStart(pubsub.Start{Kind: pubsub.StartAll}))
	}
	r.slow = c.random.IntN(2) == 0
	before := r.dialled.Load()
	go func() {
		_, err := r.client.SubscribeWith(context.Background(), filter, r.message, opts...)
		if err != nil {
			c.t.Errorf("%s: %v", filter, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counts.beforeAcknowledged += int(r.dialled.Load() - before)
	}()
}

// cutReader is a subscriber, with what it has seen.
type cutReader struct {
	run       *cutting
	client    *pubsub.Client
	filter    string
	all, slow bool
	dialled   atomic.Int64

	mu   sync.Mutex
	seen []sight
}

// sight is a message or an event.
type sight struct {
	message bool
	topic   string
	at      pubsub.Position
	event   pubsub.Event
	heads   map[string]uint64 // of an event: offsets of the last messages by then
}

func (s sight) String() string {
	if s.message {
		return fmt.Sprint(s.topic, " ", s.at.Epoch[:2], s.at.Offset)
	}
	return fmt.Sprint(s.event.Kind, " ", s.event.Recovered)
}

func (r *cutReader) message(m *pubsub.Topic) {
	r.mu.Lock()
	r.seen = append(r.seen, sight{message: true, topic: m.Name, at: m.Position()})
	r.mu.Unlock()
	if r.slow {
		time.Sleep(time.Millisecond)
	}
}

func (r *cutReader) event(e pubsub.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind != pubsub.EventInterrupted {
		r.seen = append(r.seen, sight{event: e, heads: r.run.heads()})
	}
}

// hole is where a subscriber was told that something may be missing: of what was
// published by then, behind the last message that it had.
type hole struct {
	open    bool
	exact   bool              // something is missing
	heads   map[string]uint64 // offsets of the last messages by then
	missing int
}

// check goes through what was seen. Nothing may be missing that the filter matches but
// where the subscriber was told, and then something is.
func (r *cutReader) check() {
	require.NotEmpty(r.run.t, r.seen)
	require.Equal(r.run.t, pubsub.EventStarted, r.seen[0].event.Kind, "%v", r.seen)
	c := cutCheck{cutReader: r, first: true}
	for i, s := range r.seen {
		c.index = i
		if s.message {
			c.message(s.at)
		} else {
			c.event(s)
		}
	}
	r.checkEnd(c.at)
}

// cutCheck is how far check has come.
type cutCheck struct {
	*cutReader
	index int
	at    pubsub.Position // of the last message
	first bool            // there was none
	hole  hole
}

func (c *cutCheck) fail(format string, args ...any) {
	c.run.t.Helper()
	require.Fail(c.run.t, fmt.Sprintf(format, args...), "%s, history of %d: %v", c.filter, c.run.history, c.seen[:c.index+1])
}

func (c *cutCheck) message(at pubsub.Position) {
	same := c.at.Epoch == at.Epoch
	c.hole.exact = c.hole.exact && same
	switch {
	case !same && !c.hole.open && !c.first:
		c.fail("another epoch, and nobody said so")
	case same && at.Offset <= c.at.Offset:
		c.fail("doubled or late")
	}
	if !c.first || c.all {
		if n := c.missing(c.at, at, &c.hole); n > 0 {
			c.fail("%d are missing, and nobody said so", n)
		}
	}
	if c.hole.open && at.Offset > c.hole.heads[at.Epoch] {
		if c.hole.exact && c.hole.missing == 0 {
			c.fail("told that something is missing, and nothing is")
		}
		c.hole = hole{}
	}
	if !same && !c.first {
		c.run.counts.epochs++
	}
	c.at, c.first = at, false
	c.run.counts.messages++
}

func (c *cutCheck) event(s sight) {
	switch kind := s.event.Kind; {
	case kind == pubsub.EventStarted && s.event.Recovered:
		c.run.counts.recovered++
		if c.first && c.index > 0 {
			c.run.counts.beforeMessages++
		}
	case kind == pubsub.EventStarted, kind == pubsub.EventGap && s.event.Missed == 0:
		c.run.counts.notRecovered++
		if kind == pubsub.EventGap {
			c.run.counts.gaps++
		}
		c.hole = hole{open: true, exact: !c.maybe() && !c.hole.open, heads: s.heads, missing: c.hole.missing}
	default:
		c.fail("not expected")
	}
}

// maybe reports whether nobody can know if something is missing: the filter matches
// topics without history.
func (r *cutReader) maybe() bool { return r.filter == ">" }

// missing counts the messages that should be between two, but for those in the hole.
func (r *cutReader) missing(from, to pubsub.Position, h *hole) (n int) {
	after := uint64(0)
	if from.Epoch == to.Epoch {
		after = from.Offset
	}
	for _, m := range r.run.published[to.Epoch] {
		switch {
		case m.offset <= after || m.offset >= to.Offset || !subject.Match(r.filter, m.topic):
		case h.open && m.offset <= h.heads[to.Epoch]:
			h.missing++
		default:
			n++
		}
	}
	return n
}

// checkEnd has the last message of all be the last one seen.
func (r *cutReader) checkEnd(at pubsub.Position) {
	page, err := r.run.broker.Read(context.Background(), ">", pubsub.Start{Kind: pubsub.StartNew}, 1)
	require.NoError(r.run.t, err)
	all := r.run.published[page.Next.Epoch]
	for i := len(all) - 1; i >= 0; i-- {
		if subject.Match(r.filter, all[i].topic) {
			last := pubsub.Position{Epoch: page.Next.Epoch, Offset: all[i].offset}
			if i == len(all)-1 {
				require.Equal(r.run.t, last, at, "%s: %v", r.filter, r.seen)
			}
			return
		}
	}
}
