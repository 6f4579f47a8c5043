package pubsub

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/arpc-go/arpc"
)

// SlowConsumer is a subscription that does not keep up: its queue was full, so that
// messages were dropped, or with the policy Block a publisher waits.
type SlowConsumer struct {
	Client *arpc.Client
	Filter string
	Group  string // empty: none
	Policy Policy
	Queued int // messages in its queue
	SubscriptionCounts
}

// HandleSlow adds a hook that runs when a subscription begins not to keep up, and not
// again before its queue was empty. Hooks run one after the other, on a goroutine of
// their own, and may use the server. Server.Subscriptions tells which ones still are.
func (s *Server) HandleSlow(fn func(SlowConsumer)) {
	if fn == nil {
		panic("pubsub: HandleSlow: the hook is nil")
	}
	s.watching.mu.Lock()
	defer s.watching.mu.Unlock()
	s.watching.hooks = append(slices.Clip(s.watching.hooks), fn)
}

// slowWatch tells hooks of slow subscriptions.
type slowWatch struct {
	server *Server // set by NewServer, never changed

	mu      sync.Mutex
	hooks   []func(SlowConsumer)
	told    []*subscription // whose turn is to come, each once: see subscription.slow
	running bool
}

// tell is called when a subscription begins not to keep up, with its mu held.
func (w *slowWatch) tell(s *subscription) {
	w.server.counts.slow.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.told {
		return
	}
	s.told = true
	w.told = append(w.told, s)
	if !w.running {
		w.running = true
		go w.run() // Stop may be called from a hook, and does not wait for it
	}
}

func (w *slowWatch) run() {
	for s, hooks := w.take(); s != nil; s, hooks = w.take() {
		stats := s.statistics()
		slow := SlowConsumer{Client: s.client, Filter: s.filter, Group: s.group, Policy: s.policy, Queued: stats.Queued, SubscriptionCounts: stats.SubscriptionCounts}
		w.server.logger.Warn("pubsub: a subscription does not keep up", "peer", stats.Peer, "filter", s.filter, "policy", stats.Policy, "dropped", stats.Dropped)
		for _, hook := range hooks {
			w.call(hook, slow)
		}
	}
}

// call runs a hook and logs a panic of it.
func (w *slowWatch) call(hook func(SlowConsumer), slow SlowConsumer) {
	defer func() {
		if p := recover(); p != nil {
			w.server.logger.Error("pubsub: a hook of HandleSlow panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	hook(slow)
}

// take returns the next subscription, nil to end the goroutine.
func (w *slowWatch) take() (*subscription, []func(SlowConsumer)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) == 0 {
		w.told, w.running = nil, false
		return nil, nil
	}
	s := w.told[0]
	w.told[0] = nil
	w.told = w.told[1:]
	s.told = false
	return s, w.hooks
}
