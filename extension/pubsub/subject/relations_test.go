package subject_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// all returns all names of up to max tokens, which are of alphabet, or what of them
// check accepts.
func all(max int, check func(string) error, alphabet ...string) (names []string) {
	longest := alphabet
	for range max {
		for _, name := range longest {
			if check(name) == nil {
				names = append(names, name)
			}
		}
		var longer []string
		for _, name := range longest {
			for _, token := range alphabet {
				longer = append(longer, name+"."+token)
			}
		}
		longest = longer
	}
	return names
}

// Of all filters of up to three tokens, Match, Covers and Overlaps say what is so of
// all topics of up to four, in which a token occurs that no filter has.
func TestRelationsOfAllSmallFilters(t *testing.T) {
	topics := all(4, subject.CheckTopic, "a", "b", "", "other")
	filters := all(3, subject.CheckFilter, "a", "b", "", "*", ">")
	require.Len(t, topics, 4+16+64+256-1)
	require.Len(t, filters, 4+16+64-1+1+4+16)

	matches := make([][]bool, len(filters))
	for i, filter := range filters {
		for _, topic := range topics {
			is := subject.Match(filter, topic)
			require.Equal(t, modelMatch(filter, topic), is, "%q, %q", filter, topic)
			matches[i] = append(matches[i], is)
		}
	}
	for i, a := range filters {
		for j, b := range filters {
			covers, overlaps := relate(matches[i], matches[j])
			if subject.Covers(a, b) != covers || subject.Overlaps(a, b) != overlaps {
				t.Fatalf("%q covers %q: %t, they overlap: %t", a, b, covers, overlaps)
			}
		}
	}
}

// relate compares what two filters match.
func relate(a, b []bool) (covers, overlaps bool) {
	covers = true
	for i := range a {
		covers = covers && (a[i] || !b[i])
		overlaps = overlaps || a[i] && b[i]
	}
	return covers, overlaps
}

// What Covers and Overlaps say of long filters holds for each topic that comes along,
// and agrees with each other.
func TestRelationsOfLongFilters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, topic := filters.Draw(t, "a"), filters.Draw(t, "b"), topics.Draw(t, "topic")
		if subject.Covers(a, b) {
			require.True(t, subject.Overlaps(a, b))
			require.True(t, subject.Match(a, topic) || !subject.Match(b, topic))
		}
		if subject.Match(a, topic) && subject.Match(b, topic) {
			require.True(t, subject.Overlaps(a, b))
		}
		require.Equal(t, subject.Overlaps(a, b), subject.Overlaps(b, a))
		require.Equal(t, subject.Match(a, topic), subject.Covers(a, topic))
		require.Equal(t, subject.Match(a, topic), subject.Overlaps(a, topic))
		require.True(t, subject.Covers(a, a))
		require.Equal(t, subject.IsLiteral(a), subject.CheckTopic(a) == nil)
	})
}

// Covering goes on: what covers what covers a third covers the third.
func TestCoversIsTransitive(t *testing.T) {
	filters := all(2, subject.CheckFilter, "a", "b", "", "*", ">")
	for _, a := range filters {
		for _, b := range filters {
			for _, c := range filters {
				if subject.Covers(a, b) && subject.Covers(b, c) && !subject.Covers(a, c) {
					t.Fatalf("%q, %q, %q", a, b, c)
				}
			}
		}
	}
}

// Two filters do not overlap in topics that are too long to exist.
func TestOverlapsWithinTheLengthLimit(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		a, b     string
		overlaps bool
	}{
		"fits":                     {"*." + long(511), long(512) + ".*", true},
		"too long":                 {"*." + long(512), long(512) + ".*", false},
		"open, fits":               {"*." + long(511) + ".>", long(511) + ".>", true},
		"open, too long":           {"*." + long(511) + ".>", long(512) + ".>", false},
		"open and closed, fits":    {long(512) + ".>", "*." + long(510) + ".*", true},
		"open and closed, not":     {long(512) + ".>", "*." + long(511) + ".*", false},
		"the longest with itself":  {long(1024), long(1024), true},
		"the longest with a star":  {long(1022) + ".*", long(1022) + ".x", true},
		"only empty tokens":        {"*.*", "..>", false},
		"only empty tokens, three": {"*.*.*", "..>", true},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, subject.CheckFilter(c.a))
			require.NoError(t, subject.CheckFilter(c.b))
			require.Equal(t, c.overlaps, subject.Overlaps(c.a, c.b))
			require.Equal(t, c.overlaps, subject.Overlaps(c.b, c.a))
		})
	}
}
