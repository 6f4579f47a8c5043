package nats

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Option is a setting of NewBroker.
type Option func(*settings)

// settings are what a Broker is made with.
type settings struct {
	prefix    string
	rules     rules
	replicas  int
	wait      time.Duration
	dedup     time.Duration
	idleGroup time.Duration
	lease     time.Duration
	confirm   bool
	nats      []nats.Option
}

func newSettings(opts []Option) (*settings, error) {
	s := &settings{
		prefix:    "arpc",
		replicas:  1,
		wait:      10 * time.Second,
		dedup:     2 * time.Minute,
		idleGroup: time.Hour,
		lease:     5 * time.Second,
	}
	for _, opt := range opts {
		opt(s)
	}
	return s, s.check()
}

// WithPrefix sets what the names of all subjects and streams begin with: brokers with
// the same prefix are one cluster, those with another know nothing of them. It is up to
// 32 letters, digits, "-" and "_". Default: "arpc".
func WithPrefix(prefix string) Option { return func(s *settings) { s.prefix = prefix } }

// WithHistory keeps messages of all topics that filter matches, in a stream of
// JetStream. Of several WithHistory the first that matches a topic counts; one without
// limits keeps nothing of its topics. Default: nothing is kept.
//
// All that keep something must have the same limits, since there is one stream, and all
// brokers of a cluster the same rules. History.Messages is of each topic and
// History.Age of each message; History.TotalBytes is of the whole stream, on the disk
// of each of its servers (default: 1 GiB; negative: no limit). JetStream has no
// History.Bytes and no History.Topics: they must be zero.
func WithHistory(filter string, h pubsub.History) Option {
	return func(s *settings) {
		s.rules = append(s.rules, pubsub.HistoryRule{Filter: filter, History: h})
	}
}

// WithReplicas sets how many servers of a NATS cluster store each message with history
// before it is acknowledged: with 3, one may be lost. Default: 1.
func WithReplicas(n int) Option { return func(s *settings) { s.replicas = n } }

// WithWait bounds how long the methods of a Broker wait for NATS where their context
// does not, before they return an error of arpc.CodeUnavailable. Default: 10 s, which
// is about as long as a NATS cluster may take to replace a server that is gone.
func WithWait(d time.Duration) Option { return func(s *settings) { s.wait = d } }

// WithConfirm has Publish return, of topics without history too, only when NATS has the
// message, and not when it is on its way: for the time of one round trip. Who is connected
// to NATS then gets it. Default: off. Messages with history are always confirmed.
func WithConfirm() Option { return func(s *settings) { s.confirm = true } }

// WithDedup says for how long IDs of messages are known, to not deliver a message
// twice. Default: 2 minutes.
func WithDedup(window time.Duration) Option { return func(s *settings) { s.dedup = window } }

// WithIdleGroup says for how long a queue group with acknowledgement is kept when it
// has no members. Default: 1 hour.
func WithIdleGroup(d time.Duration) Option { return func(s *settings) { s.idleGroup = d } }

// WithLease says for how long a broker may say nothing of the messages that members of its
// queue groups with acknowledgement have, before they go to others: it is then taken for
// dead. It says three times as often that its members are at work, until AckWait is over.
// All brokers of a cluster should have the same. Default: 5 s.
func WithLease(d time.Duration) Option { return func(s *settings) { s.lease = d } }

// WithNATS passes options to nats.Connect, such as credentials and TLS. They come
// behind the Broker's own, which reconnect forever, with back-off and jitter, and send
// pings every 5 s. The handlers that are told of connections are the Broker's.
func WithNATS(opts ...nats.Option) Option {
	return func(s *settings) { s.nats = append(s.nats, opts...) }
}

const (
	maxPrefixLen = 32
	minLease     = 100 * time.Millisecond
)

func (s *settings) check() error {
	switch {
	case !validPrefix(s.prefix):
		return invalidf("WithPrefix(%q): it should be 1 to %d letters, digits, %q and %q", s.prefix, maxPrefixLen, "-", "_")
	case s.replicas < 1:
		return invalidf("WithReplicas(%d): it must be positive", s.replicas)
	case s.wait <= 0:
		return invalidf("WithWait(%v): it must be positive", s.wait)
	case s.dedup <= 0:
		return invalidf("WithDedup(%v): it must be positive", s.dedup)
	case s.idleGroup <= 0:
		return invalidf("WithIdleGroup(%v): it must be positive", s.idleGroup)
	case s.lease < minLease:
		return invalidf("WithLease(%v): it must be %v at least", s.lease, minLease)
	}
	for _, r := range s.rules {
		if err := checkRule(r); err != nil {
			return invalidf("WithHistory(%q): %w", r.Filter, err)
		}
	}
	return s.checkLimits()
}

func checkRule(r pubsub.HistoryRule) error {
	if err := subject.CheckFilter(r.Filter); err != nil {
		return err
	}
	switch h := r.History; {
	case h.Messages < 0 || h.Age < 0:
		return fmt.Errorf("no limit may be negative but TotalBytes: %+v", h)
	case h.Bytes != 0:
		return fmt.Errorf("NATS cannot bound the bytes of a topic (Bytes), but those of all (TotalBytes)")
	case h.Topics != 0:
		return fmt.Errorf("NATS cannot bound the number of topics (Topics), but their bytes (TotalBytes)")
	}
	return nil
}

// checkLimits returns an error if rules that keep something differ.
func (s *settings) checkLimits() error {
	limits, some := s.limits()
	for _, r := range s.rules {
		if some && keeps(r) && r.History != limits {
			return invalidf("WithHistory(%q): all must have the same limits: %+v is not %+v", r.Filter, r.History, limits)
		}
	}
	return nil
}

// limits returns those of the first rule that keeps something.
func (s *settings) limits() (pubsub.History, bool) {
	for _, r := range s.rules {
		if keeps(r) {
			return r.History, true
		}
	}
	return pubsub.History{}, false
}

func keeps(r pubsub.HistoryRule) bool { return r.Messages != 0 || r.Age != 0 }

func validPrefix(prefix string) bool {
	other := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	}
	return prefix != "" && len(prefix) <= maxPrefixLen && strings.IndexFunc(prefix, other) < 0
}

func invalidf(format string, args ...any) error {
	return arpc.Errorf(arpc.CodeInvalidArgument, "nats: "+format, args...)
}

// rules are the history rules of a Broker.
type rules []pubsub.HistoryRule

// keep reports whether a topic has history.
func (rs rules) keep(topic string) bool {
	for _, r := range rs {
		if subject.Match(r.Filter, topic) {
			return keeps(r)
		}
	}
	return false
}

// covers reports whether all topics that filter matches have history.
func (rs rules) covers(filter string) bool {
	for _, r := range rs {
		switch {
		case !subject.Overlaps(r.Filter, filter):
		case !keeps(r):
			return false
		case subject.Covers(r.Filter, filter):
			return true
		}
	}
	return false
}

// touches reports whether some topic that filter matches may have history.
func (rs rules) touches(filter string) bool {
	for _, r := range rs {
		switch {
		case keeps(r) && subject.Overlaps(r.Filter, filter):
			return true
		case !keeps(r) && subject.Covers(r.Filter, filter):
			return false
		}
	}
	return false
}
