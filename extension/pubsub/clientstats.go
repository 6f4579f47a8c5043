package pubsub

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// clientCounters count what is of no single subscription.
type clientCounters struct {
	published, unsent, late, malformed, undecodable, panics, acknowledged, givenBack atomic.Uint64
}

// ClientStatistics counts what a client has done since NewClient.
type ClientStatistics struct {
	Subscriptions []SubscriptionStatistics `json:"subscriptions"` // that are not over, by filter and group
	Published     uint64                   `json:"published"`     // accepted by the server, or sent to it with NoAck
	Unsent        uint64                   `json:"unsent"`        // messages with NoAck that were gathered for a connection that was lost then
	Acknowledged  uint64                   `json:"acknowledged"`  // messages of groups
	GivenBack     uint64                   `json:"given_back"`    // messages of groups
	Late          uint64                   `json:"late"`          // messages and notes for subscriptions that were over
	Malformed     uint64                   `json:"malformed"`     // messages and notes that made no sense
	Undecodable   uint64                   `json:"undecodable"`   // messages of typed topics
	Panics        uint64                   `json:"panics"`        // of callbacks, or goroutines that they ended
}

// SubscriptionStatistics counts what a subscription has come to.
type SubscriptionStatistics struct {
	Filter      string `json:"filter"`
	Group       string `json:"group,omitempty"`
	Live        bool   `json:"live"`        // messages come; false: it is being opened, or waits for that
	Waiting     int    `json:"waiting"`     // messages and events that the callbacks have not begun with
	Received    uint64 `json:"received"`    // messages, without doubles
	Bytes       uint64 `json:"bytes"`       // of their data
	Doubles     uint64 `json:"doubles"`     // messages that came again, and were left out
	Missed      uint64 `json:"missed"`      // messages that the server has said were dropped, or that had to make room here
	Gaps        uint64 `json:"gaps"`        // how often it has said so
	Unrecovered uint64 `json:"unrecovered"` // how often it began again without Recovered
}

// Statistics returns what was counted until now.
func (c *Client) Statistics() ClientStatistics {
	st := ClientStatistics{
		Published: c.stats.published.Load(), Unsent: c.stats.unsent.Load(), Acknowledged: c.stats.acknowledged.Load(), GivenBack: c.stats.givenBack.Load(),
		Late: c.stats.late.Load(), Malformed: c.stats.malformed.Load(),
		Undecodable: c.stats.undecodable.Load(), Panics: c.stats.panics.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.subs {
		st.Subscriptions = append(st.Subscriptions, s.statistics())
	}
	slices.SortFunc(st.Subscriptions, func(a, b SubscriptionStatistics) int {
		return cmp.Or(strings.Compare(a.Filter, b.Filter), strings.Compare(a.Group, b.Group))
	})
	return st
}

// Statistics returns what was counted until now.
func (s *Subscription) Statistics() SubscriptionStatistics {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	return s.statistics()
}

// statistics is Statistics, guarded by client.mu.
func (s *Subscription) statistics() SubscriptionStatistics {
	return SubscriptionStatistics{
		Filter: s.filter, Group: s.with.group, Live: s.live, Waiting: s.queue.waiting(),
		Received: s.received.Load(), Bytes: s.bytes.Load(), Doubles: s.doubles.Load(),
		Missed: s.missed.Load(), Gaps: s.gaps.Load(), Unrecovered: s.unrecovered.Load(),
	}
}
