package arpctest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

func memoryBroker(t testing.TB, rules ...pubsub.HistoryRule) *pubsub.MemoryBroker {
	var opts []pubsub.MemoryOption
	for _, rule := range rules {
		opts = append(opts, pubsub.WithHistory(rule.Filter, rule.History))
	}
	b := pubsub.NewMemoryBroker(opts...)
	t.Cleanup(func() { b.Close() })
	return b
}

// The kit passes a Broker that is right, also under several names.
func TestBroker(t *testing.T) {
	Broker(t, func(t testing.TB, rules ...pubsub.HistoryRule) []pubsub.Broker {
		b := memoryBroker(t, rules...)
		return []pubsub.Broker{b, b, b}
	})
}

// brokenBroker is a Broker with one fault: where a function is not nil it takes the
// place of the method.
type brokenBroker struct {
	*pubsub.MemoryBroker
	publish  func(ctx context.Context, m *pubsub.Message) (pubsub.Position, error)
	toOne    func(ctx context.Context, m *pubsub.Message) error
	watch    func(filter string, w pubsub.Watcher) (func(), error)
	read     func(ctx context.Context, filter string, from pubsub.Start, max int) (pubsub.Page, error)
	join     func(filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error)
	announce func(ctx context.Context, data []byte) error
	close    func() error
}

func (b *brokenBroker) Publish(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
	if b.publish != nil {
		return b.publish(ctx, m)
	}
	return b.MemoryBroker.Publish(ctx, m)
}

func (b *brokenBroker) PublishToOne(ctx context.Context, m *pubsub.Message) error {
	if b.toOne != nil {
		return b.toOne(ctx, m)
	}
	return b.MemoryBroker.PublishToOne(ctx, m)
}

func (b *brokenBroker) Watch(filter string, w pubsub.Watcher) (func(), error) {
	if b.watch != nil {
		return b.watch(filter, w)
	}
	return b.MemoryBroker.Watch(filter, w)
}

func (b *brokenBroker) Read(ctx context.Context, filter string, from pubsub.Start, max int) (pubsub.Page, error) {
	if b.read != nil {
		return b.read(ctx, filter, from, max)
	}
	return b.MemoryBroker.Read(ctx, filter, from, max)
}

func (b *brokenBroker) Join(filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
	if b.join != nil {
		return b.join(filter, group, o, m)
	}
	return b.MemoryBroker.Join(filter, group, o, m)
}

func (b *brokenBroker) Announce(ctx context.Context, data []byte) error {
	if b.announce != nil {
		return b.announce(ctx, data)
	}
	return b.MemoryBroker.Announce(ctx, data)
}

func (b *brokenBroker) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.MemoryBroker.Close()
}

// between is a Watcher that changes what another is told.
type between struct {
	pubsub.Watcher
	deliver func(m *pubsub.Message)
}

func (w between) Deliver(m *pubsub.Message) { w.deliver(m) }

// betweenMember is a Member that changes what another takes.
type betweenMember func(d pubsub.Delivery)

func (m betweenMember) Take(d pubsub.Delivery) { m(d) }

// Faults take the place of Watch and Join, or change what Read returns.
type (
	watchFault func(b *brokenBroker, filter string, w pubsub.Watcher) (func(), error)
	pageFault  func(filter string, from pubsub.Start, page *pubsub.Page)
	groupFault func(b *brokenBroker, filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error)
)

// brokerFaults are faults, by the checks that notice them.
func brokerFaults() map[string]func(b *brokenBroker) {
	faults := make(map[string]func(b *brokenBroker))
	for check, fault := range watchFaults() {
		faults[check] = func(b *brokenBroker) {
			b.watch = func(filter string, w pubsub.Watcher) (func(), error) { return fault(b, filter, w) }
		}
	}
	for check, fault := range pageFaults() {
		faults[check] = func(b *brokenBroker) {
			b.read = func(ctx context.Context, filter string, from pubsub.Start, max int) (pubsub.Page, error) {
				page, err := b.MemoryBroker.Read(ctx, filter, from, max)
				fault(filter, from, &page)
				return page, err
			}
		}
	}
	for check, fault := range groupFaults() {
		faults[check] = func(b *brokenBroker) {
			b.join = func(filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
				return fault(b, filter, group, o, m)
			}
		}
	}
	for check, fault := range otherFaults() {
		faults[check] = fault
	}
	return faults
}

func watchFaults() map[string]watchFault {
	endless := func(b *brokenBroker, filter string, w pubsub.Watcher) (func(), error) {
		_, err := b.MemoryBroker.Watch(filter, w)
		return func() {}, err
	}
	return map[string]watchFault{
		"everybody gets every message once and in order: some twice":           twice,
		"everybody gets every message once and in order: two change places":    swapped,
		"watching starts and stops while others publish: stop does nothing":    endless,
		"watching starts and stops while others publish: the first is missing": missingFirst,
		"reading joins with watching: the first is missing":                    missingFirst,
		"everything at once: stop does nothing":                                endless,
		"filters: * matches the rest": func(b *brokenBroker, filter string, w pubsub.Watcher) (func(), error) {
			if before, ok := strings.CutSuffix(filter, "*"); ok {
				filter = before + ">"
			}
			return b.MemoryBroker.Watch(filter, w)
		},
	}
}

func twice(b *brokenBroker, filter string, w pubsub.Watcher) (func(), error) {
	n := 0
	return b.MemoryBroker.Watch(filter, between{w, func(m *pubsub.Message) {
		w.Deliver(m)
		if n++; n%50 == 0 {
			w.Deliver(m)
		}
	}})
}

func swapped(b *brokenBroker, filter string, w pubsub.Watcher) (func(), error) {
	var before *pubsub.Message
	return b.MemoryBroker.Watch(filter, between{w, func(m *pubsub.Message) {
		if before == nil {
			before = m
			return
		}
		w.Deliver(m)
		w.Deliver(before)
		before = nil
	}})
}

func missingFirst(b *brokenBroker, filter string, w pubsub.Watcher) (func(), error) {
	first := true
	return b.MemoryBroker.Watch(filter, between{w, func(m *pubsub.Message) {
		if !first {
			w.Deliver(m)
		}
		first = false
	}})
}

func pageFaults() map[string]pageFault {
	complete := func(_ string, _ pubsub.Start, page *pubsub.Page) { page.Complete = true }
	incomplete := func(_ string, _ pubsub.Start, page *pubsub.Page) { page.Complete = false }
	found := func(_ string, _ pubsub.Start, page *pubsub.Page) { page.Lost = false }
	half := func(_ string, _ pubsub.Start, page *pubsub.Page) {
		page.Messages = page.Messages[:len(page.Messages)/2]
	}
	return map[string]pageFault{
		"history from every kind of start: none is complete":    incomplete,
		"positions of another epoch: all are complete":          complete,
		"topics without history: all are complete":              complete,
		"what is lost while it is read: nothing is":             found,
		"complete within a number of messages: nothing is lost": found,
		"complete within a number of messages: always":          complete,
		"complete within a number of messages: never":           incomplete,
		"complete within a number of bytes: always":             complete,
		"complete within an age: always":                        complete,
		"history from every kind of start: some are missing":    half,
		"history from every kind of start: the wrong way round": func(_ string, _ pubsub.Start, page *pubsub.Page) { slices.Reverse(page.Messages) },
		"history page by page: pages overlap": func(_ string, _ pubsub.Start, page *pubsub.Page) {
			if page.More {
				page.Next.Offset--
			}
		},
		"reading joins with watching: pages end too early": func(_ string, _ pubsub.Start, page *pubsub.Page) {
			if !page.More && len(page.Messages) > 0 {
				page.Messages = page.Messages[:len(page.Messages)-1]
			}
		},
	}
}

func groupFaults() map[string]groupFault {
	var members atomic.Int64
	return map[string]groupFault{
		"a group without acknowledgement: everybody gets everything": func(b *brokenBroker, filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
			return b.MemoryBroker.Join(filter, fmt.Sprint(group, members.Add(1)), o, m)
		},
		"a group with acknowledgement: messages come twice": func(b *brokenBroker, filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
			return b.MemoryBroker.Join(filter, group, o, betweenMember(func(d pubsub.Delivery) {
				m.Take(d)
				m.Take(d)
			}))
		},
		"a group begins when it is first joined: it has all":        withHistory,
		"a message is given back: it is acknowledged":               acknowledged,
		"members come and go: what is given back is lost":           acknowledged,
		"a member leaves: what it had is lost":                      otherwise(func(o *pubsub.GroupOptions) { o.Ack = false }),
		"a group outlives its members: it does not":                 otherwise(func(o *pubsub.GroupOptions) { o.Ack = false }),
		"a member does not acknowledge in time: it does not matter": otherwise(func(o *pubsub.GroupOptions) { o.AckWait = longWait }),
		"a member has so many at a time: it has more":               otherwise(func(o *pubsub.GroupOptions) { o.MaxPending++ }),
		"options of a group: they do not matter":                    otherwise(func(o *pubsub.GroupOptions) { o.MaxPending = 1 }),
	}
}

// otherwise has all groups have other options.
func otherwise(change func(o *pubsub.GroupOptions)) groupFault {
	return func(b *brokenBroker, filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
		change(&o)
		return b.MemoryBroker.Join(filter, group, o, m)
	}
}

func acknowledged(b *brokenBroker, filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
	return b.MemoryBroker.Join(filter, group, o, betweenMember(func(d pubsub.Delivery) {
		done := d.Done
		d.Done = func(bool) { done(true) }
		m.Take(d)
	}))
}

func withHistory(b *brokenBroker, filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
	page, _ := b.Read(context.Background(), filter, pubsub.Start{Kind: pubsub.StartAll}, plenty)
	for _, message := range page.Messages {
		m.Take(pubsub.Delivery{Message: message, Attempt: 1, Done: func(bool) {}})
	}
	return b.MemoryBroker.Join(filter, group, o, m)
}

func otherFaults() map[string]func(b *brokenBroker) {
	nothing := func(*pubsub.Position) {}
	return map[string]func(b *brokenBroker){
		"a message arrives as it was published: without its key": publishing(func(m *pubsub.Message) { m.Key = "" }, nothing),
		"doubles: they are delivered":                            publishing(func(m *pubsub.Message) { m.ID = "" }, nothing),
		"refused: it is not":                                     publishing(func(m *pubsub.Message) { m.Topic = strings.ReplaceAll(m.Topic, "*", "_") }, nothing),
		"positions: of another message":                          publishing(func(*pubsub.Message) {}, func(p *pubsub.Position) { p.Offset++ }),
		"contexts: they do not matter": func(b *brokenBroker) {
			b.publish = func(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
				return b.MemoryBroker.Publish(context.WithoutCancel(ctx), m)
			}
		},
		"one to one: to all": func(b *brokenBroker) {
			b.toOne = func(ctx context.Context, m *pubsub.Message) error {
				_, err := b.Publish(ctx, m)
				return err
			}
		},
		"history has what was accepted: later": func(b *brokenBroker) { b.read = late(b) },
		"announcements: some are not heard": func(b *brokenBroker) {
			var n atomic.Int64
			b.announce = func(ctx context.Context, data []byte) error {
				if n.Add(1)%20 == 0 {
					return nil
				}
				return b.MemoryBroker.Announce(ctx, data)
			}
		},
		"closing: nothing happens": func(b *brokenBroker) { b.close = func() error { return nil } },
	}
}

// publishing changes what is published, and the positions of what has history.
func publishing(change func(m *pubsub.Message), move func(p *pubsub.Position)) func(b *brokenBroker) {
	return func(b *brokenBroker) {
		b.publish = func(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
			changed := *m
			change(&changed)
			p, err := b.MemoryBroker.Publish(ctx, &changed)
			if p.Offset > 0 {
				move(&p)
			}
			return p, err
		}
	}
}

// late returns a Read that returns what the one before should have returned.
func late(b *brokenBroker) func(context.Context, string, pubsub.Start, int) (pubsub.Page, error) {
	var last atomic.Pointer[pubsub.Page]
	last.Store(new(pubsub.Page))
	return func(ctx context.Context, filter string, from pubsub.Start, max int) (pubsub.Page, error) {
		page, err := b.MemoryBroker.Read(ctx, filter, from, max)
		if from.Kind == pubsub.StartAfter {
			page = *last.Swap(&page)
		}
		return page, err
	}
}

// The kit finds each of these faults, by the check whose name stands before it.
func TestBrokerKitFindsFaults(t *testing.T) {
	const patience = 2 * time.Second
	for name, fault := range brokerFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check, _, _ := strings.Cut(name, ": ")
			i := slices.IndexFunc(brokerChecks(), func(c brokerCheck) bool { return c.name == check })
			require.GreaterOrEqual(t, i, 0, "there is no check %q", check)
			b := &brokenBroker{MemoryBroker: memoryBroker(t, brokerChecks()[i].rules...)}
			fault(b)
			require.Error(t, brokerChecks()[i].on(t, []pubsub.Broker{b}, patience))
		})
	}
}
