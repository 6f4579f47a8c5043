package subject_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// FuzzMatch reads any two texts as filters and as a topic: nothing panics, Match
// agrees with the model, and a Matcher and the relations agree with Match.
func FuzzMatch(f *testing.F) {
	for _, seed := range []struct{ a, b string }{
		{"a", "a"}, {"a.*.c", "a..c"}, {"a.>", "a.b.c"}, {">", "."}, {"*.>", "a"}, {"a.>.b", "a.*"}, {"", ""},
		{"*." + strings.Repeat("a", 600), strings.Repeat("b", 600) + ".>"}, {strings.Repeat("*.", 64) + "*", strings.Repeat(".", 64)},
		{"a*.b>", "a*.b>"}, {"\xff.*", "\xff.\x00"},
	} {
		f.Add(seed.a, seed.b)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		is := subject.Match(a, b)
		require.Equal(t, modelMatch(a, b), is)
		if subject.CheckFilter(a) != nil {
			_ = subject.Covers(a, b) || subject.Overlaps(a, b) || subject.IsLiteral(a)
			return
		}
		var m subject.Matcher[string]
		e := add(t, &m, a, a)
		require.Equal(t, is, len(m.Match(b, nil)) == 1)
		require.True(t, m.Remove(e))
		requireNothingLeft(t, &m)
		if subject.CheckTopic(b) == nil {
			require.Equal(t, is, subject.Covers(a, b))
			require.Equal(t, is, subject.Overlaps(a, b))
		}
		if subject.CheckFilter(b) == nil && subject.Covers(a, b) {
			require.True(t, subject.Overlaps(a, b))
		}
	})
}
