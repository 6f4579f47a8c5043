package arpctest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// Broker tests what pubsub.Broker says of a Broker, each part of it in a subtest. open
// returns the Brokers of a new, empty cluster that keeps history as the rules say: one
// or more that are connected with each other, and are closed when the test ends. There
// is one rule at most, with one limit: Messages, Bytes or Age. If it cannot keep that
// kind of history open skips the test, with a reason.
//
//   - Everybody gets every message once, in the order of its publisher and topic, and
//     of offsets; filters match what package subject says; stop stops.
//   - History has what it should have, from every kind of start and page by page, and
//     Page.Complete is true exactly when nothing is missing. Reading joins with
//     watching, without a gap and without a double, while others publish.
//   - IDs make doubles known.
//   - PublishToOne reaches one.
//   - A message goes to one member of each queue group; with acknowledgement to others
//     until one acknowledges it, whoever comes and goes, and nothing is lost.
//   - Announcements are heard, and nothing happens after Close.
//
// Nothing in it depends on how fast a Broker is, or on offsets being consecutive.
func Broker(t *testing.T, open func(t testing.TB, rules ...pubsub.HistoryRule) []pubsub.Broker) {
	t.Helper()
	for _, check := range brokerChecks() {
		t.Run(check.name, func(t *testing.T) {
			if err := check.on(t, open(t, check.rules...), brokerPatience); err != nil {
				t.Error(err)
			}
		})
	}
}

// brokerPatience is how long something may take that must happen. It is long, since
// a machine may be busy with other things.
const brokerPatience = 3 * time.Minute

// brokerCheck is one part of the test.
type brokerCheck struct {
	name  string
	rules []pubsub.HistoryRule
	run   func(c *brokerCluster)
}

func brokerChecks() []brokerCheck {
	return slices.Concat(brokerWatchChecks(), brokerHistoryChecks(), brokerGroupChecks(), brokerOtherChecks())
}

// on returns what is wrong with a cluster.
func (check brokerCheck) on(t testing.TB, nodes []pubsub.Broker, patience time.Duration) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case brokerFault:
			err = p
		default:
			panic(p)
		}
	}()
	c := &brokerCluster{nodes: nodes, ctx: t.Context(), patience: patience}
	check.run(c)
	return nil
}

// brokerFault is what a check panics with.
type brokerFault struct{ error }

func faultf(format string, args ...any) brokerFault {
	return brokerFault{fmt.Errorf(format, args...)}
}

// Rules of the checks: topics that begin with "kept." have history, others have none.
func keptMessages(n int) []pubsub.HistoryRule {
	return []pubsub.HistoryRule{{Filter: "kept.>", History: pubsub.History{Messages: n}}}
}

func keptBytes(n int64) []pubsub.HistoryRule {
	return []pubsub.HistoryRule{{Filter: "kept.>", History: pubsub.History{Bytes: n}}}
}

func keptFor(age time.Duration) []pubsub.HistoryRule {
	return []pubsub.HistoryRule{{Filter: "kept.>", History: pubsub.History{Age: age}}}
}

// plenty is a limit that no check reaches.
const plenty = 100_000
