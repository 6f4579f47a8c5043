package nats

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// tokens are those of topics, with all that NATS gives a meaning.
var tokens = rapid.OneOf(
	rapid.SampledFrom([]string{"", "a", "b", "%", "%2A", "%pin", "*", ">", " ", "a b", "\r\n", "\x00", "$1", "ä", "\xff", "a*", ">b", "{{wildcard(1)}}"}),
	rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
)

func drawName(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(tokens, 1, 5).Draw(t, label), ".")
}

func drawTopic(t *rapid.T, label string) string {
	topic := drawName(t, label)
	if subject.CheckTopic(topic) != nil {
		t.Skip("no topic")
	}
	return topic
}

func drawFilter(t *rapid.T, label string) string {
	filter := drawName(t, label)
	if subject.CheckFilter(filter) != nil {
		t.Skip("no filter")
	}
	return filter
}

// matchesInNATS is what a NATS server does.
func matchesInNATS(filter, subject string) bool {
	want, have := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range want {
		if token == ">" && i == len(want)-1 && i < len(have) {
			return true
		}
		if i >= len(have) || token != "*" && token != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}

func TestTopicsComeBackFromSubjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topic := drawTopic(t, "topic")
		encoded := encode(topic)
		back, ok := decode(encoded)
		require.True(t, ok)
		require.Equal(t, topic, back)
		require.LessOrEqual(t, len(encoded), 3*len(topic)+1)
		for token := range strings.SplitSeq(encoded, ".") {
			require.NotContains(t, []string{"", "*", ">"}, token)
		}
		require.False(t, strings.ContainsFunc(encoded, func(r rune) bool { return r <= ' ' || r >= 0x7f }))
	})
}

func TestDifferentTopicsHaveDifferentSubjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawTopic(t, "a"), drawTopic(t, "b")
		require.Equal(t, a == b, encode(a) == encode(b))
	})
}

func TestFiltersMatchInNATSWhatTheyMatchHere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter, topic := drawFilter(t, "filter"), drawTopic(t, "topic")
		require.Equal(t, subject.Match(filter, topic), matchesInNATS(encodeFilter(filter), encode(topic)))
	})
}

func TestNamesOfPinsAreOfNoTopic(t *testing.T) {
	_, ok := decode(pinToken)
	require.False(t, ok)
}

func FuzzDecode(f *testing.F) {
	for _, topic := range []string{"a", "a..b", "ä", "%", "chat room/1", "\x00"} {
		f.Add(encode(topic))
	}
	f.Add("%zz")
	f.Add("%2")
	f.Fuzz(func(t *testing.T, encoded string) {
		topic, ok := decode(encoded)
		if !ok {
			return
		}
		back, ok := decode(encode(topic))
		require.True(t, ok)
		require.Equal(t, topic, back)
	})
}
