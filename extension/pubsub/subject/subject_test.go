package subject_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Whatever arpc 1 could publish to can be published to, and subscribed to.
func TestCheckAcceptsPlainNames(t *testing.T) {
	for _, name := range []string{
		"Broadcast", "a..b", ".", "..", "a.", ".a", "chat room/1", " ", "a*", "*a", "a>b", "**", ">>", "a.*b.c>",
		"Grüße.世界", "\x00\xff", "a*" + strings.Repeat(".b", 100), strings.Repeat("x", 1024), strings.Repeat(".", 1024),
	} {
		require.NoError(t, subject.CheckTopic(name), name)
		require.NoError(t, subject.CheckFilter(name), name)
		require.True(t, subject.IsLiteral(name), name)
		require.True(t, subject.Match(name, name), name)
	}
}

func TestCheckFilterAcceptsWildcards(t *testing.T) {
	for _, filter := range []string{
		"*", ">", "*.*", "*.>", "a.*.c", "a.>", "a..>", ".*", "*.", "a*.*",
		"*" + strings.Repeat(".a", 63), strings.Repeat("*.", 63) + ">", strings.Repeat("x", 1022) + ".>",
	} {
		require.NoError(t, subject.CheckFilter(filter), filter)
		require.False(t, subject.IsLiteral(filter), filter)
		require.ErrorContains(t, subject.CheckTopic(filter), "wildcards are for subscribing", filter)
	}
}

func TestCheckErrors(t *testing.T) {
	const (
		empty   = `invalid topic, should not be ""`
		long    = `invalid topic name length, should not be more than 1024`
		star    = `invalid topic, should not have the wildcard "*" as a token: wildcards are for subscribing`
		rest    = `invalid topic, should not have the wildcard ">" as a token: wildcards are for subscribing`
		notLast = `invalid topic, the wildcard ">" should be the last token`
		deep    = `invalid topic, should not have more than 64 tokens where some are wildcards, has 65`
	)
	for name, want := range map[string]struct{ topic, filter string }{
		"":                            {empty, empty},
		strings.Repeat("x", 1025):     {long, long},
		strings.Repeat("*.", 600):     {long, long},
		"a.*.>":                       {star, ""},
		"a.>":                         {rest, ""},
		">.a":                         {rest, notLast},
		"a.>.*":                       {rest, notLast},
		">.>":                         {rest, notLast},
		"*" + strings.Repeat(".", 64): {star, deep},
		strings.Repeat(".", 64) + ">": {rest, deep},
	} {
		requireError(t, want.topic, subject.CheckTopic(name), name)
		requireError(t, want.filter, subject.CheckFilter(name), name)
	}
}

func requireError(t *testing.T, want string, err error, name string) {
	t.Helper()
	if want == "" {
		require.NoError(t, err, name)
		return
	}
	require.EqualError(t, err, want, name)
}

func TestMatch(t *testing.T) {
	for filter, topics := range map[string]struct{ yes, no []string }{
		"a":     {[]string{"a"}, []string{"", "b", "A", "a.", ".a", "a.a", "aa"}},
		"a..b":  {[]string{"a..b"}, []string{"a.b", "a...b", "a.x.b"}},
		"*":     {[]string{"a", "chat room/1", "a*", "*"}, []string{"a.b", ".", "a."}},
		"a.*":   {[]string{"a.b", "a.", "a.*"}, []string{"a", "a.b.c", "b.a", "a.."}},
		"*.b":   {[]string{"a.b", ".b"}, []string{"b", "a.b.", "a.a.b"}},
		">":     {[]string{"a", ".", "a.b.c", strings.Repeat(".", 1024)}, nil},
		"a.>":   {[]string{"a.b", "a.", "a.b.c", "a..", "a.>"}, []string{"a", "b.a", ".a.b"}},
		"*.>":   {[]string{"a.b", ".", "a.b.c"}, []string{"a"}},
		"*.b.>": {[]string{"a.b.c", ".b."}, []string{"a.b", "a.c.b"}},
		"a*.b":  {[]string{"a*.b"}, []string{"ab.b", "a.b"}},
		"a>":    {[]string{"a>"}, []string{"a", "a.b"}},
	} {
		for _, topic := range topics.yes {
			require.True(t, subject.Match(filter, topic), "%q, %q", filter, topic)
		}
		for _, topic := range topics.no {
			require.False(t, subject.Match(filter, topic), "%q, %q", filter, topic)
		}
	}
}

func TestCovers(t *testing.T) {
	for outer, inner := range map[string]struct{ yes, no []string }{
		">":     {[]string{">", "*", "a", "a.b", "*.>", "a.*.c"}, nil},
		"*.>":   {[]string{"*.>", "a.>", "*.*", "a.b"}, []string{">", "*", "a"}},
		"a.>":   {[]string{"a.>", "a.*", "a.*.>", "a.b.c", "a."}, []string{"a", "*.>", "*.b", ">", "b.>"}},
		"a.*":   {[]string{"a.*", "a.b", "a."}, []string{"a.>", "*.*", "*.b", "a", "a.b.c", "a.*.*"}},
		"*.*":   {[]string{"*.*", "a.*", "*.b", "a.b"}, []string{"*.>", ">", "a.>", "*"}},
		"*.b.*": {[]string{"a.b.*", "*.b.c"}, []string{"*.b.>", "*.*.*"}},
		"a.b":   {[]string{"a.b"}, []string{"a.*", "*.b", "a.>", ">"}},
	} {
		for _, filter := range inner.yes {
			require.True(t, subject.Covers(outer, filter), "%q, %q", outer, filter)
		}
		for _, filter := range inner.no {
			require.False(t, subject.Covers(outer, filter), "%q, %q", outer, filter)
		}
	}
}
