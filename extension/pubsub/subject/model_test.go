package subject_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// modelMatch is what the package says of filters, without a thought of speed.
func modelMatch(filter, topic string) bool {
	return modelTokens(strings.Split(filter, "."), strings.Split(topic, "."))
}

func modelTokens(filter, topic []string) bool {
	switch {
	case len(filter) == 1 && filter[0] == ">":
		return len(topic) > 0
	case len(filter) == 0 || len(topic) == 0:
		return len(filter) == len(topic)
	case filter[0] != "*" && filter[0] != topic[0]:
		return false
	}
	return modelTokens(filter[1:], topic[1:])
}

// modelMatcher is a list of all filters.
type modelMatcher []modelEntry

type modelEntry struct {
	filter string
	value  int
	entry  *subject.Entry[int]
}

func (m modelMatcher) match(topic string) []int {
	found := []int{}
	for _, e := range m {
		if modelMatch(e.filter, topic) {
			found = append(found, e.value)
		}
	}
	return found
}

// names generates names of a few short tokens, so that many of them meet.
func names(tokens ...string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		name := rapid.SliceOfN(rapid.SampledFrom(tokens), 1, 6).Draw(t, "tokens")
		return strings.Join(name, ".")
	})
}

var (
	topics  = names("a", "b", "", "a*").Filter(func(s string) bool { return subject.CheckTopic(s) == nil })
	filters = names("a", "b", "", "a*", "*", "*", ">").Filter(func(s string) bool { return subject.CheckFilter(s) == nil })
)

func TestMatchAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter, topic := filters.Draw(t, "filter"), topics.Draw(t, "topic")
		require.Equal(t, modelMatch(filter, topic), subject.Match(filter, topic))
	})
}

// pair is a Matcher and its model.
type pair struct {
	subject.Matcher[int]
	model modelMatcher
	added int
}

// A Matcher finds what the model finds, whatever was added and removed before, and
// holds what it should.
func TestMatcherAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pair
		t.Repeat(map[string]func(*rapid.T){
			"add":    p.add,
			"remove": p.remove,
			"match": func(t *rapid.T) {
				topic := topics.Draw(t, "topic")
				require.ElementsMatch(t, p.model.match(topic), p.Match(topic, nil))
			},
			"": func(t *rapid.T) { requireSound(t, &p.Matcher, len(p.model)) },
		})
		for len(p.model) > 0 {
			p.removeOne(t, len(p.model)-1)
		}
		requireNothingLeft(t, &p.Matcher)
	})
}

func (p *pair) add(t *rapid.T) {
	filter := filters.Draw(t, "filter")
	for range rapid.IntRange(1, 10).Draw(t, "times") {
		p.added++
		e, err := p.Add(filter, p.added)
		require.NoError(t, err)
		p.model = append(p.model, modelEntry{filter, p.added, e})
	}
}

func (p *pair) remove(t *rapid.T) {
	for range min(len(p.model), rapid.IntRange(1, 20).Draw(t, "times")) {
		p.removeOne(t, rapid.IntRange(0, len(p.model)-1).Draw(t, "which"))
	}
}

func (p *pair) removeOne(t *rapid.T, i int) {
	require.True(t, p.Remove(p.model[i].entry))
	require.False(t, p.Remove(p.model[i].entry))
	p.model = slices.Delete(p.model, i, i+1)
}

func requireSound[T any](t require.TestingT, m *subject.Matcher[T], filters int) {
	_, err := subject.Held(m)
	require.NoError(t, err)
	require.Equal(t, filters, m.Len())
}

func requireNothingLeft[T any](t require.TestingT, m *subject.Matcher[T]) {
	held, err := subject.Held(m)
	require.NoError(t, err)
	require.Zero(t, held)
	require.Zero(t, m.Len())
}
