// Package subject says which names topics have, which filters match them, and finds
// among a million filters those that match a topic.
//
// # Names and filters
//
// The name of a topic is any text of 1 to 1024 bytes. The dots in it part it into
// tokens: "orders.eu.created" has three, "chat room/1" has one, and "a..b" has three,
// of which one is empty. Nothing else in a name means anything; "a" and "a." are two
// topics.
//
// A filter is what is subscribed to: the name of a topic, or a name in which some
// tokens are wildcards.
//
//   - A token "*" matches any one token, also an empty one: "a.*.c" matches "a.b.c" and
//     "a..c", but neither "a.c" nor "a.b.b.c".
//   - A last token ">" matches all tokens from there on, one or more: "a.>" matches
//     "a.b", "a.b.c" and "a.", but not "a". The filter ">" matches every topic.
//
// A wildcard is a whole token: "a*" and "a>b" are names like others. No topic has a
// token "*" or ">": who publishes to one is refused by [CheckTopic]. A filter with
// wildcards has at most 64 tokens.
package subject

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxBytes is how long the name of a topic, or a filter, may be.
	MaxBytes = 1024
	// MaxTokens is how many tokens a filter with wildcards may have. Names of topics
	// have no such limit.
	MaxTokens = 64
)

const (
	separator = "."
	anyToken  = "*" // matches one token
	anyRest   = ">" // as the last token: matches all that follow
)

// The texts are those of arpc 1, which its clients know.
var (
	errEmpty   = errors.New(`invalid topic, should not be ""`)
	errTooLong = fmt.Errorf("invalid topic name length, should not be more than %d", MaxBytes)
)

// CheckTopic returns an error if nothing can be published to topic: if it is empty,
// longer than MaxBytes, or has a wildcard as a token. The error's text does not
// repeat the topic and may go to a peer.
func CheckTopic(topic string) error {
	if err := checkLength(topic); err != nil {
		return err
	}
	if !mayHaveWildcards(topic) {
		return nil
	}
	for token := range strings.SplitSeq(topic, separator) {
		if token == anyToken || token == anyRest {
			return fmt.Errorf("invalid topic, should not have the wildcard %q as a token: wildcards are for subscribing", token)
		}
	}
	return nil
}

// CheckFilter returns an error if filter cannot be subscribed to: if it is empty,
// longer than MaxBytes, has a token ">" that is not the last, or wildcards and more
// than MaxTokens tokens. The error's text does not repeat the filter and may go to a
// peer.
func CheckFilter(filter string) error {
	if err := checkLength(filter); err != nil {
		return err
	}
	if !mayHaveWildcards(filter) {
		return nil
	}
	tokens, wildcards, rest := 0, 0, filter
	for more := true; more; tokens++ {
		var token string
		token, rest, more = strings.Cut(rest, separator)
		switch {
		case token == anyRest && more:
			return fmt.Errorf("invalid topic, the wildcard %q should be the last token", anyRest)
		case token == anyToken, token == anyRest:
			wildcards++
		}
	}
	if wildcards > 0 && tokens > MaxTokens {
		return fmt.Errorf("invalid topic, should not have more than %d tokens where some are wildcards, has %d", MaxTokens, tokens)
	}
	return nil
}

func checkLength(name string) error {
	switch {
	case name == "":
		return errEmpty
	case len(name) > MaxBytes:
		return errTooLong
	}
	return nil
}

// mayHaveWildcards is false for nearly all names, and quick.
func mayHaveWildcards(name string) bool {
	return strings.Contains(name, anyToken) || strings.Contains(name, anyRest)
}

// IsLiteral reports whether filter has no wildcards: it matches the topic of its own
// name and no other.
func IsLiteral(filter string) bool {
	if !mayHaveWildcards(filter) {
		return true
	}
	if isOpen(filter) {
		return false
	}
	for token := range strings.SplitSeq(filter, separator) {
		if token == anyToken {
			return false
		}
	}
	return true
}

// isOpen reports whether the filter's last token is ">".
func isOpen(filter string) bool {
	before, ok := strings.CutSuffix(filter, anyRest)
	return ok && (before == "" || strings.HasSuffix(before, separator))
}

// Match reports whether filter matches topic. It does not check them, and reads what
// CheckFilter and CheckTopic refuse as it stands: a ">" that is not the last token of
// a filter is a token like others, and so are wildcards in a topic. It allocates
// nothing.
func Match(filter, topic string) bool {
	for filter != anyRest {
		pattern, patterns, morePatterns := strings.Cut(filter, separator)
		token, tokens, moreTokens := strings.Cut(topic, separator)
		if pattern != token && pattern != anyToken {
			return false
		}
		if !morePatterns || !moreTokens {
			return morePatterns == moreTokens
		}
		filter, topic = patterns, tokens
	}
	return true
}

// Covers reports whether outer matches every topic that inner matches, as "orders.>"
// does for "orders.*.created": who may have all of outer may have inner. Both must be
// filters that CheckFilter accepts.
func Covers(outer, inner string) bool {
	return Match(outer, inner) && (isOpen(outer) || !isOpen(inner))
}

// Overlaps reports whether there is a topic that both a and b match. Both must be
// filters that CheckFilter accepts.
func Overlaps(a, b string) bool {
	shortest := 0 // bytes that a topic needs so far
	for a != anyRest && b != anyRest {
		tokenA, restA, moreA := strings.Cut(a, separator)
		tokenB, restB, moreB := strings.Cut(b, separator)
		if tokenA != tokenB && tokenA != anyToken && tokenB != anyToken {
			return false
		}
		shortest += max(needs(tokenA), needs(tokenB))
		if !moreA || !moreB {
			return moreA == moreB && shortest <= MaxBytes
		}
		shortest += len(separator)
		a, b = restA, restB
	}
	return shortest+max(needsAll(a), needsAll(b)) <= MaxBytes
}

// needs is how many bytes a token that this one of a filter matches has at least.
func needs(token string) int {
	if token == anyToken || token == anyRest {
		return 0
	}
	return len(token)
}

// needsAll is needs of all tokens of a filter, and of what is between them.
func needsAll(filter string) int {
	n := -len(separator)
	for token := range strings.SplitSeq(filter, separator) {
		n += len(separator) + needs(token)
	}
	return n
}
