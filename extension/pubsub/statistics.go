package pubsub

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/arpc-go/arpc"
)

// counters are what a server counts outside of subscriptions.
type counters struct {
	published, encoded, refused, blocked, wills, slow atomic.Uint64
	recovered, notRecovered                           atomic.Uint64
	waiting                                           atomic.Int64
}

// started counts a subscription that was to begin in history.
func (c *counters) started(recovered bool) {
	if recovered {
		c.recovered.Add(1)
	} else {
		c.notRecovered.Add(1)
	}
}

// SubscriptionCounts counts messages of one subscription, or of many.
type SubscriptionCounts struct {
	Sent       uint64 `json:"sent"`
	Dropped    uint64 `json:"dropped,omitempty"`    // for lack of room, or undeliverable; the subscriber is told
	Superseded uint64 `json:"superseded,omitempty"` // by later ones with the same key: KeepLatest
}

func (c *SubscriptionCounts) add(other SubscriptionCounts) {
	c.Sent += other.Sent
	c.Dropped += other.Dropped
	c.Superseded += other.Superseded
}

// SubscriberStatistics describes one subscription.
type SubscriberStatistics struct {
	Client *arpc.Client `json:"-"`
	Peer   string       `json:"peer"` // address
	Filter string       `json:"filter"`
	Group  string       `json:"group,omitempty"`
	Policy string       `json:"policy,omitempty"`
	Old    bool         `json:"old,omitempty"`    // of the old form, which has no window
	Replay bool         `json:"replay,omitempty"` // it still gets what it missed
	Slow   bool         `json:"slow,omitempty"`   // its queue was full and is not empty yet

	Queued         int `json:"queued"` // messages
	QueuedBytes    int `json:"queued_bytes"`
	WindowMessages int `json:"window_messages"` // what may still be sent; 0 or less: nothing
	WindowBytes    int `json:"window_bytes"`
	Pending        int `json:"pending,omitempty"` // not settled by this member of a group
	SubscriptionCounts
}

// Statistics is what a Server has come to. Counts begin with NewServer.
type Statistics struct {
	Server arpc.ServerStatistics `json:"server"`

	// What there is now.
	Subscriptions int `json:"subscriptions"`
	Filters       int `json:"filters"` // that are watched at the Broker
	GroupMembers  int `json:"group_members"`
	Slow          int `json:"slow"` // subscriptions that do not keep up
	Replays       int `json:"replays"`
	Queued        int `json:"queued"` // messages in the queues of all subscriptions
	QueuedBytes   int `json:"queued_bytes"`
	Waiting       int `json:"waiting"` // publishers, for subscriptions with the policy Block
	Present       int `json:"present"` // subscribers of this server that are shown

	// Counts.
	SubscriptionCounts
	Published    uint64 `json:"published"`     // messages that the Broker has accepted from this server
	Encoded      uint64 `json:"encoded"`       // messages made for subscribers: one for each filter, however many they are
	Refused      uint64 `json:"refused"`       // requests and notifications of clients that failed
	Blocked      uint64 `json:"blocked"`       // messages not published for lack of room: policy Block
	SlowTimes    uint64 `json:"slow_times"`    // how often a subscription began not to keep up
	Recovered    uint64 `json:"recovered"`     // subscriptions that began where they were to, in history
	NotRecovered uint64 `json:"not_recovered"` // those that could not, and replays that lost something on the way
	Wills        uint64 `json:"wills"`         // published for clients that were lost
}

// Statistics returns what was counted until now. It looks at each connection and each
// subscription.
func (s *Server) Statistics() Statistics {
	c := &s.counts
	stats := Statistics{
		Server:    s.Server.Statistics(),
		Published: c.published.Load(), Encoded: c.encoded.Load(), Refused: c.refused.Load(),
		Blocked: c.blocked.Load(), SlowTimes: c.slow.Load(), Wills: c.wills.Load(),
		Recovered: c.recovered.Load(), NotRecovered: c.notRecovered.Load(),
		Waiting: int(c.waiting.Load()), Present: s.presence.count(),
	}
	s.mu.Lock()
	stats.Filters, stats.SubscriptionCounts = len(s.fans), s.past
	s.mu.Unlock()
	for _, sub := range s.subscriptions() {
		stats.add(sub.statistics())
	}
	return stats
}

func (s *Statistics) add(sub SubscriberStatistics) {
	s.Subscriptions++
	s.Queued += sub.Queued
	s.QueuedBytes += sub.QueuedBytes
	s.SubscriptionCounts.add(sub.SubscriptionCounts)
	if sub.Group != "" {
		s.GroupMembers++
	}
	if sub.Slow {
		s.Slow++
	}
	if sub.Replay {
		s.Replays++
	}
}

// Subscriptions describes all subscriptions, those with the longest queues first.
func (s *Server) Subscriptions() []SubscriberStatistics {
	var all []SubscriberStatistics
	for _, sub := range s.subscriptions() {
		all = append(all, sub.statistics())
	}
	slices.SortFunc(all, func(a, b SubscriberStatistics) int {
		return cmp.Or(-cmp.Compare(a.Queued, b.Queued), -cmp.Compare(a.Dropped, b.Dropped), cmp.Compare(a.Filter, b.Filter))
	})
	return all
}

func (s *Server) subscriptions() (all []*subscription) {
	for _, sess := range s.allSessions() {
		all = sess.appendTo(all)
	}
	return all
}

func (s *session) appendTo(all []*subscription) []*subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.byFilter {
		all = append(all, sub)
	}
	return all
}

func (s *subscription) statistics() SubscriberStatistics {
	stats := SubscriberStatistics{
		Client: s.client, Filter: s.filter, Group: s.group, Policy: s.policy.String(), Old: s.old,
	}
	if addr := s.client.Conn().RemoteAddr(); addr != nil {
		stats.Peer = addr.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Slow, stats.Replay = s.slow, s.state == opening
	stats.Queued, stats.QueuedBytes = s.queue.Messages()
	stats.WindowMessages, stats.WindowBytes = s.window.messages, s.window.bytes
	stats.SubscriptionCounts = s.counts()
	if s.member != nil {
		stats.Pending = len(s.member.pending)
	}
	return stats
}

// counts is called with mu held.
func (s *subscription) counts() SubscriptionCounts {
	dropped, superseded := s.queue.Dropped()
	return SubscriptionCounts{Sent: s.sent, Dropped: dropped + s.unread, Superseded: superseded}
}

// retire keeps the counts of a subscription that has ended.
func (s *Server) retire(sub *subscription) {
	sub.mu.Lock()
	counts := sub.counts()
	sub.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past.add(counts)
}
