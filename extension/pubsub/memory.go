package pubsub

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// MemoryBroker is a Broker in the memory of one process. What it keeps ends with the
// process: a new one has a new epoch.
//
// Messages to topics with history go out one after the other. Those to others do for
// each topic, and different topics hardly wait for each other.
type MemoryBroker struct {
	// Set by NewMemoryBroker, never changed.
	seed      maphash.Seed
	idleGroup time.Duration
	seen      memorySeen

	watches  subject.Matcher[*memoryWatch]
	lanes    [64]lane      // of topics without history, by their hashes
	keptLane lane          // of all topics with history
	kept     history       // guarded by keptLane.mu, but for what it says
	sweeper  memorySweeper // guarded by keptLane.mu

	closed atomic.Bool // set under mu
	counts memoryCounts

	mu      sync.Mutex // taken before all other locks of the broker
	watched map[*memoryWatch]struct{}
	groups  map[memoryGroupKey]memoryGroup
	hearers []*memoryHearer // replaced, never changed

}

// memoryCounts are the counters of MemoryStatistics.
type memoryCounts struct {
	doubles, dropped, lost, redelivered atomic.Uint64
}

// MemoryOption is a setting of NewMemoryBroker.
type MemoryOption func(*MemoryBroker)

// WithHistory keeps messages of all topics that filter matches. Of several WithHistory
// the first that matches a topic counts. Default: nothing is kept. It panics if the
// filter or a limit is none.
func WithHistory(filter string, h History) MemoryOption {
	rule := HistoryRule{Filter: filter, History: h}
	if err := rule.check(); err != nil {
		panic(fmt.Sprintf("pubsub: WithHistory(%q): %v", filter, err))
	}
	return func(b *MemoryBroker) { b.kept.rules = append(b.kept.rules, newKeptRule(rule)) }
}

// WithDedup says for how long IDs of messages are known, to not deliver a message
// twice, and how many of them at most: of more, the oldest is forgotten. Default:
// 2 minutes, 100,000. It panics if one of them is negative.
func WithDedup(window time.Duration, count int) MemoryOption {
	if window < 0 || count < 0 {
		panic(fmt.Sprintf("pubsub: WithDedup(%v, %d): neither may be negative", window, count))
	}
	return func(b *MemoryBroker) { b.seen.window, b.seen.limit = window, count }
}

// WithIdleGroup says for how long a queue group with acknowledgement is kept when it
// has no members. Default: 1 hour. It panics if d is not positive.
func WithIdleGroup(d time.Duration) MemoryOption {
	if d <= 0 {
		panic(fmt.Sprintf("pubsub: WithIdleGroup(%v): it must be positive", d))
	}
	return func(b *MemoryBroker) { b.idleGroup = d }
}

// NewMemoryBroker returns a Broker in memory. It need not be closed if nothing waits
// for it any more.
func NewMemoryBroker(opts ...MemoryOption) *MemoryBroker {
	b := &MemoryBroker{
		seed:      maphash.MakeSeed(),
		idleGroup: time.Hour,
		seen:      memorySeen{window: 2 * time.Minute, limit: 100_000, at: make(map[memoryID]Position)},
		kept:      history{epoch: rand.Text(), start: time.Now(), topics: make(map[string]*keptTopic)},
		watched:   make(map[*memoryWatch]struct{}),
		groups:    make(map[memoryGroupKey]memoryGroup),
	}
	b.keptLane.init()
	for i := range b.lanes {
		b.lanes[i].init()
	}
	for _, opt := range opts {
		opt(b)
	}
	return b
}

// check is what all methods begin with.
func (b *MemoryBroker) check(ctx context.Context) error {
	if b.closed.Load() {
		return ErrBrokerClosed
	}
	return ctx.Err()
}

func invalid(err error) error {
	return arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
}

// Publish says Broker. It delivers to all Watchers before it returns.
func (b *MemoryBroker) Publish(ctx context.Context, m *Message) (Position, error) {
	if err := b.checkMessage(ctx, m); err != nil {
		return Position{}, err
	}
	if rule := b.kept.ruleFor(m.Topic); rule != nil {
		return b.publishKept(rule, m), nil
	}
	l := b.lane(m.Topic)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, double := b.isDouble(m); !double {
		b.seen.add(m, Position{})
		l.deliver(&b.watches, m)
	}
	return Position{}, nil
}

func (b *MemoryBroker) checkMessage(ctx context.Context, m *Message) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if err := subject.CheckTopic(m.Topic); err != nil {
		return invalid(err)
	}
	return nil
}

func (b *MemoryBroker) lane(topic string) *lane {
	return &b.lanes[maphash.String(b.seed, topic)%uint64(len(b.lanes))]
}

// isDouble reports whether m was published before, and where that is.
func (b *MemoryBroker) isDouble(m *Message) (Position, bool) {
	p, double := b.seen.find(m)
	if double {
		b.counts.doubles.Add(1)
	}
	return p, double
}

func (b *MemoryBroker) publishKept(rule *keptRule, m *Message) Position {
	p, groups := b.keepAndDeliver(rule, m)
	for _, g := range groups {
		g.unread.Store(true)
		g.turn.ask()
	}
	return p
}

// keepAndDeliver returns where m is, and the groups that have to look for it.
func (b *MemoryBroker) keepAndDeliver(rule *keptRule, m *Message) (Position, []*memoryAckGroup) {
	b.keptLane.mu.Lock()
	defer b.keptLane.mu.Unlock()
	if p, double := b.isDouble(m); double {
		return p, nil
	}
	kept := b.kept.add(rule, m)
	if rule.Age > 0 {
		b.sweepAt(kept.arrived+max(rule.Age, sweepPause), kept.arrived)
	}
	p := Position{Epoch: b.kept.epoch, Offset: kept.Offset}
	b.seen.add(m, p)
	b.keptLane.deliver(&b.watches, &kept.Message)
	return p, kept.topic.groups
}

// PublishToOne says Broker.
func (b *MemoryBroker) PublishToOne(ctx context.Context, m *Message) error {
	if err := b.checkMessage(ctx, m); err != nil {
		return err
	}
	l := b.lane(m.Topic)
	if b.kept.ruleFor(m.Topic) != nil {
		l = &b.keptLane
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, double := b.isDouble(m); !double {
		b.seen.add(m, Position{})
		l.deliverToOne(&b.watches, m)
	}
	return nil
}

// Read says Broker. It does not hold up those who publish for long, however much there
// is to look through.
func (b *MemoryBroker) Read(ctx context.Context, filter string, from Start, max int) (Page, error) {
	if err := subject.CheckFilter(filter); err != nil {
		return Page{}, invalid(err)
	}
	if max < 1 && from.Kind != StartNew {
		return Page{}, arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: read at least 1 message, not %d", max)
	}
	r := newKeptReading(filter, from, max)
	for done := false; !done; {
		if err := b.check(ctx); err != nil {
			return Page{}, err
		}
		b.keptLane.mu.Lock()
		done = b.kept.step(r)
		b.keptLane.mu.Unlock()
	}
	return r.page, nil
}

// Close says Broker.
func (b *MemoryBroker) Close() error {
	for _, h := range b.close() {
		h.stop()
	}
	return nil
}

// close ends all but the hearers, which it returns.
func (b *MemoryBroker) close() []*memoryHearer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed.Store(true)
	for w := range b.watched {
		w.stop()
	}
	for _, g := range b.groups {
		g.close()
	}
	hearers := b.hearers
	b.watched, b.groups, b.hearers = nil, nil, nil
	b.stopSweeping()
	return hearers
}
