package nats

import (
	"strings"
)

// subjects names what a Broker uses of NATS. All begin with the prefix:
//
//	prefix.l.m.topic   messages of topics without history
//	prefix.l.o.topic   messages for one subscriber
//	prefix.h.topic     messages of topics with history: the stream takes them here
//	prefix.l.h.topic   and republishes them here when they are stored
//	prefix.a           announcements
//	prefix.p           asks who is there
//	prefix.g.group     asks who is in a queue group
//	prefix.r.group     asks members of a queue group that have room to take a message
type subjects struct {
	plain    string // of topics without history; these end in a dot
	one      string
	kept     string
	stored   string
	group    string
	room     string
	announce string
	peers    string

	stream string // its name
}

const (
	separator = "."
	anyToken  = "*"
	anyRest   = ">"
)

func newSubjects(prefix string) subjects {
	return subjects{
		plain:    prefix + ".l.m.",
		one:      prefix + ".l.o.",
		stored:   prefix + ".l.h.",
		kept:     prefix + ".h.",
		announce: prefix + ".a",
		peers:    prefix + ".p",
		group:    prefix + ".g.",
		room:     prefix + ".r.",
		stream:   prefix + "-history",
	}
}

const hexDigits = "0123456789ABCDEF"

// special reports whether a byte of a topic is written as % and two digits: what NATS
// or JSON, in which NATS lists subjects, give a meaning, and all that is not ASCII.
func special(c byte) bool {
	switch c {
	case '*', '>', '%', '"', '\\', '<', '&', '$', '{', '}':
		return true
	}
	return c <= ' ' || c >= 0x7f
}

// encode returns a topic as a subject of NATS. Tokens remain tokens; one that is empty
// becomes "%". No two topics become the same. What is encoded is at most three times
// as long.
func encode(topic string) string { return encodeTokens(topic, false) }

// encodeFilter is encode for filters, whose wildcards mean the same in NATS.
func encodeFilter(filter string) string { return encodeTokens(filter, true) }

func encodeTokens(name string, wildcards bool) string {
	if isPlain(name) {
		return name
	}
	out := make([]byte, 0, len(name)+32)
	for rest, more := name, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, separator)
		switch {
		case token == "":
			out = append(out, '%')
		case wildcards && (token == anyToken || token == anyRest):
			out = append(out, token...)
		default:
			out = escape(out, token)
		}
		if more {
			out = append(out, separator...)
		}
	}
	return string(out)
}

// isPlain reports whether a name is its own encoding. It is quick, and false for some
// that are.
func isPlain(name string) bool {
	before := byte('.')
	for i := range len(name) {
		c := name[i]
		if special(c) || c == '.' && before == '.' {
			return false
		}
		before = c
	}
	return before != '.'
}

func escape(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; special(c) {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// decode is the inverse of encode. It reports false for what encode does not return,
// such as subjects that others publish to.
func decode(subject string) (topic string, ok bool) {
	if strings.IndexByte(subject, '%') < 0 {
		return subject, subject != ""
	}
	out := make([]byte, 0, len(subject))
	for rest, more := subject, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, separator)
		if token != "%" {
			if out, ok = unescape(out, token); !ok {
				return "", false
			}
		}
		if more {
			out = append(out, separator...)
		}
	}
	return string(out), true
}

func unescape(dst []byte, text string) ([]byte, bool) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' {
			if i+2 >= len(text) {
				return dst, false
			}
			high, low := strings.IndexByte(hexDigits, text[i+1]), strings.IndexByte(hexDigits, text[i+2])
			if high < 0 || low < 0 {
				return dst, false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, true
}
