package nats

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// peers are the other brokers of the cluster, as far as this one knows, with the NATS
// servers they are connected to.
type peers struct {
	mu   sync.Mutex
	byID map[string]peer
}

// peer is another broker.
type peer struct {
	server string // that it is connected to
	heard  time.Time
}

// greeting is what brokers ask each other with, and answer.
type greeting struct {
	ID     string               `json:"id"`
	Server string               `json:"server"`
	Rules  []pubsub.HistoryRule `json:"rules,omitempty"`
	Peers  []string             `json:"peers,omitempty"`
	Gone   bool                 `json:"gone,omitempty"` // it leaves, and wants no answer
}

func (b *Broker) greeting(gone bool) []byte {
	g := greeting{ID: b.id, Server: b.nc.ConnectedServerId(), Rules: b.rules, Gone: gone}
	for id := range b.peers.all() {
		g.Peers = append(g.Peers, id)
	}
	data, err := json.Marshal(g)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return data
}

// all returns the IDs of the brokers, and elsewhere the NATS servers other than one, each
// as the keys of a map.
func (p *peers) all() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make(map[string]bool)
	for id := range p.byID {
		ids[id] = true
	}
	return ids
}

func (p *peers) elsewhere(server string) map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	servers := make(map[string]bool)
	for _, one := range p.byID {
		if one.server != server {
			servers[one.server] = true
		}
	}
	return servers
}

// forget drops those that did not answer.
func (p *peers) forget(silent func(id string, one peer) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.byID, silent)
}

func (p *peers) meet(g *greeting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.Gone {
		delete(p.byID, g.ID)
		return
	}
	if p.byID == nil {
		p.byID = make(map[string]peer)
	}
	p.byID[g.ID] = peer{g.Server, time.Now()}
}

// met takes note of a greeting and reports whether it is one of another broker.
func (b *Broker) met(data []byte) (g greeting, other bool) {
	if json.Unmarshal(data, &g) != nil || g.ID == "" || g.ID == b.id {
		return g, false
	}
	b.peers.meet(&g)
	return g, true
}

// meet finds out who is there, and has the others know of this one.
func (b *Broker) meet(ctx context.Context) error {
	if err := b.greet(ctx, true); err != nil {
		return err
	}
	_, err := b.nc.Subscribe(b.names.peers, func(m *nats.Msg) {
		if g, other := b.met(m.Data); other && !g.Gone && m.Reply != "" {
			m.Respond(b.greeting(false))
		}
	})
	if err != nil {
		return b.failed(ctx, "subscribe", err)
	}
	return b.greet(ctx, false)
}

// A broker says that it is there every aliveEvery, and is forgotten when it does not for
// silentFor: it has died.
const (
	aliveEvery = time.Minute
	silentFor  = 4 * aliveEvery
)

func (b *Broker) stayKnown() {
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		select {
		case <-alive.C:
			b.nc.Publish(b.names.peers, b.greeting(false)) // one that is lost is not the last
			b.peers.forget(func(_ string, one peer) bool { return time.Since(one.heard) > silentFor })
		case <-b.done:
			return
		}
	}
}

// leave tells the others.
func (b *Broker) leave() { b.nc.Publish(b.names.peers, b.greeting(true)) }

// greetWait is how long to wait for the answers of brokers that may be no more. Those that
// did not answer are not waited for again until they are heard of.
const greetWait = time.Second

// greet asks all brokers, and waits for those that are known by this one or by others. If
// this one is not subscribed yet (first), it is told when there are none.
func (b *Broker) greet(ctx context.Context, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, greetWait)
	defer cancel()
	q, err := b.ask()
	if err != nil {
		return b.failed(ctx, "look for other brokers", err)
	}
	defer q.end()
	awaited, heard := b.peers.all(), map[string]bool{b.id: true}
	for ; first || len(awaited) > 0; first = false {
		g, ok := q.answer(ctx)
		if !ok {
			break
		}
		if !slices.Equal(rules(g.Rules), b.rules) {
			return arpc.Errorf(arpc.CodeFailedPrecondition,
				"nats: there are brokers with other history rules in the cluster: %+v, not %+v (WithHistory, WithPrefix)", g.Rules, b.rules)
		}
		heard[g.ID] = true
		for _, id := range append(g.Peers, g.ID) {
			awaited[id] = true
		}
		for id := range heard {
			delete(awaited, id)
		}
	}
	b.peers.forget(func(id string, _ peer) bool { return awaited[id] })
	return nil
}

// question is a greeting that was sent, and what comes back.
type question struct {
	b   *Broker
	sub *nats.Subscription
}

func (b *Broker) ask() (*question, error) {
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	q := &question{b, sub}
	if err := b.nc.PublishRequest(b.names.peers, inbox, b.greeting(false)); err != nil {
		q.end()
		return nil, err
	}
	return q, nil
}

func (q *question) end() { q.sub.Unsubscribe() }

// answer returns the next answer of another broker. It reports false if there is none
// and when ctx ends.
func (q *question) answer(ctx context.Context) (greeting, bool) {
	for {
		m, err := q.sub.NextMsgWithContext(ctx)
		if err != nil || m.Header.Get(headerStatus) != "" {
			return greeting{}, false
		}
		if g, other := q.b.met(m.Data); other {
			return g, true
		}
	}
}

// rounds has many who have subscribed to something wait together.
type rounds struct {
	mu      sync.Mutex
	next    *round
	running bool
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

// settle returns when what was subscribed to is known wherever a broker of the cluster
// may publish: to the NATS server of this one, and to those of the others, in which it
// takes a moment longer. They know when a broker connected to them has answered a
// question that was asked behind the subscription.
func (b *Broker) settle(ctx context.Context) error {
	r, start := b.rounds.join()
	if start && !b.spawn(b.settleAll) {
		return pubsub.ErrBrokerClosed
	}
	select {
	case <-r.done:
		return r.err
	case <-b.done:
		return pubsub.ErrBrokerClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// join returns the round that begins next, and whether the caller has to start it.
func (rs *rounds) join() (r *round, start bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.next == nil {
		rs.next = &round{done: make(chan struct{})}
	}
	start = !rs.running
	rs.running = true
	return rs.next, start
}

// begin returns the round that begins now, nil if nobody has joined it.
func (rs *rounds) begin() *round {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.next
	rs.next = nil
	rs.running = r != nil
	return r
}

func (b *Broker) settleAll() {
	for r := b.rounds.begin(); r != nil; r = b.rounds.begin() {
		r.err = b.settleOnce()
		close(r.done)
	}
}

func (b *Broker) settleOnce() error {
	ctx, cancel := b.bounded(b.life)
	defer cancel()
	if err := b.flush(ctx); err != nil {
		return err
	}
	awaited := b.peers.elsewhere(b.nc.ConnectedServerId())
	if len(awaited) == 0 {
		return nil
	}
	ctx, cancelGreeting := context.WithTimeout(ctx, greetWait)
	defer cancelGreeting()
	q, err := b.ask()
	if err != nil {
		return err
	}
	defer q.end()
	for len(awaited) > 0 {
		g, ok := q.answer(ctx)
		if !ok {
			break
		}
		delete(awaited, g.Server)
	}
	b.peers.forget(func(_ string, one peer) bool { return awaited[one.server] })
	return nil
}

// flush returns when the NATS server has handled all that was sent to it.
func (b *Broker) flush(ctx context.Context) error {
	for n := 0; ; n++ {
		if err := b.connected(ctx); err != nil {
			return err
		}
		if b.flushOnce(ctx) == nil {
			return nil
		}
		if err := b.pause(ctx, n); err != nil {
			return err
		}
	}
}

func (b *Broker) flushOnce(ctx context.Context) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	return b.nc.FlushWithContext(ctx)
}
