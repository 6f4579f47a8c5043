package pubsub

import (
	"fmt"
	"slices"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Operation is something that a client may be allowed. Several are joined by |.
type Operation int

// The operations.
const (
	// OpPublish is publishing to a topic, to all or to one, now or as a will.
	OpPublish Operation = 1 << iota
	// OpSubscribe is subscribing to a filter.
	OpSubscribe
	// OpPresence is looking who is subscribed to a topic, and subscribing to those who
	// join and leave a filter.
	OpPresence
)

// AccessFunc says whether a client may do one operation on a topic, or on a filter. An
// *arpc.Error reaches the client with its code and text; any other error is a
// PermissionDenied, and its text stays here. It is called by many goroutines at the
// same time, for each message that is published, and must not wait.
type AccessFunc func(c *arpc.Client, op Operation, topic string) error

// Rule allows operations on topics: see Allow.
type Rule struct {
	operations Operation
	patterns   []string
	who        func(*arpc.Client) bool // nil: everybody
}

// Allow returns a rule that allows operations on all topics that one of the patterns
// matches, which are filters. A filter may be subscribed to if one pattern matches
// every topic that it does. It panics if a pattern is none, or there is none.
func Allow(operations Operation, patterns ...string) Rule {
	if len(patterns) == 0 {
		panic("pubsub: Allow: there is no pattern")
	}
	for _, pattern := range patterns {
		if err := subject.CheckFilter(pattern); err != nil {
			panic(fmt.Sprintf("pubsub: Allow(%q): %v", pattern, err))
		}
	}
	return Rule{operations: operations, patterns: slices.Clone(patterns)}
}

// To returns the rule for clients that who returns true for, which is called as an
// AccessFunc is. Client.Identity says who a client is.
func (r Rule) To(who func(c *arpc.Client) bool) Rule {
	r.who = who
	return r
}

// NewRules returns an AccessFunc for WithAccess: what a rule allows is allowed, all else
// is not.
func NewRules(rules ...Rule) AccessFunc {
	rules = slices.Clone(rules)
	return func(c *arpc.Client, op Operation, topic string) error {
		for i := range rules {
			if rules[i].allows(c, op, topic) {
				return nil
			}
		}
		return errNotAllowed
	}
}

func (r *Rule) allows(c *arpc.Client, op Operation, topic string) bool {
	if r.operations&op != op {
		return false
	}
	covers := func(pattern string) bool { return subject.Covers(pattern, topic) }
	return slices.ContainsFunc(r.patterns, covers) && (r.who == nil || r.who(c))
}

var errNotAllowed = arpc.NewError(arpc.CodePermissionDenied, "pubsub: not allowed (WithAccess)")

// allowed asks the AccessFunc whether the session's client may do something.
func (s *session) allowed(op Operation, topic string) error {
	access := s.server.settings.access
	if access == nil || s.local {
		return nil
	}
	err := access(s.client, op, topic)
	if err == nil || arpc.CodeOf(err) != arpc.CodeUnknown {
		return err
	}
	return errNotAllowed
}
