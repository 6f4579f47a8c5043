package subject_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

func requireNoAllocs(t *testing.T, f func()) {
	t.Helper()
	require.Zero(t, testing.AllocsPerRun(100, f))
}

func TestAllocRelations(t *testing.T) {
	long := strings.Repeat("token.", 50) + ">"
	requireNoAllocs(t, func() {
		subject.Match(long, "a.b")
		subject.Match("*.*.>", long)
		subject.Covers("a.>", "a.*.b")
		subject.Overlaps("*.b.>", "a.*")
		subject.IsLiteral("a.*.b")
		_ = subject.CheckTopic("orders.eu.created*")
		_ = subject.CheckFilter("orders.*.>")
	})
}

func TestAllocMatcher(t *testing.T) {
	var m subject.Matcher[*value]
	p := newPopulation(10_000)
	p.fill(t, &m)
	topics, found := p.topics(100), 0
	dst := make([]*value, 0, 1000)
	requireNoAllocs(t, func() {
		for _, topic := range topics {
			dst = m.Match(topic, dst[:0])
		}
	})
	requireNoAllocs(t, func() {
		for _, topic := range topics {
			m.Each(topic, func(*value) { found++ })
		}
	})
	require.NotZero(t, found)
}
