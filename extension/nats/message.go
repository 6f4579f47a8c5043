package nats

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// Headers of messages. The payload is that of the message, so that other programs on
// the same NATS can read it, and write: a message without headers is one of now.
const (
	headerTime = "Arpc-Time" // nanoseconds since 1970
	headerKey  = "Arpc-Key"  // written like a token of a topic
	headerID   = "Arpc-Id"   // likewise
	headerHops = "Arpc-Hops" // how often a message for one went on to somebody else

	headerMsgID    = "Nats-Msg-Id"
	headerSequence = "Nats-Sequence"
	headerSubject  = "Nats-Subject"
	headerStored   = "Nats-Time-Stamp"
	headerLast     = "Nats-Last-Sequence"
	headerPending  = "Nats-Num-Pending"
	headerUpTo     = "Nats-UpTo-Sequence"
	headerStatus   = "Status"
	headerText     = "Description"
)

// toNATS returns m for a subject that is prefix and its topic.
func toNATS(prefix string, m *pubsub.Message) *nats.Msg {
	out := &nats.Msg{Subject: prefix + encode(m.Topic), Data: m.Data, Header: make(nats.Header, 1)}
	if !m.Time.IsZero() {
		out.Header[headerTime] = []string{strconv.FormatInt(m.Time.UnixNano(), 10)}
	}
	if m.Key != "" {
		out.Header[headerKey] = []string{string(escape(nil, m.Key))}
	}
	if m.ID != "" {
		out.Header[headerID] = []string{string(escape(nil, m.ID))}
	}
	return out
}

// fromNATS is the inverse of toNATS for a topic as it is in the subject. It returns
// nil for what is no message of ours.
func fromNATS(encoded string, h nats.Header, data []byte) *pubsub.Message {
	topic, ok := decode(encoded)
	if !ok {
		return nil
	}
	m := &pubsub.Message{Topic: topic, Data: data}
	if h == nil {
		return m
	}
	if ns, err := strconv.ParseInt(h.Get(headerTime), 10, 64); err == nil {
		m.Time = time.Unix(0, ns)
	}
	m.Key = unescaped(h.Get(headerKey))
	m.ID = unescaped(h.Get(headerID))
	return m
}

func unescaped(text string) string {
	if text == "" {
		return ""
	}
	if out, ok := unescape(nil, text); ok {
		return string(out)
	}
	return text
}

// keptFromNATS is fromNATS for a message that the stream has stored.
func keptFromNATS(encoded string, h nats.Header, data []byte, offset uint64) *pubsub.Message {
	m := fromNATS(encoded, h, data)
	if m == nil {
		return nil
	}
	m.Offset = offset
	if m.Time.IsZero() {
		m.Time = storedAt(h)
	}
	return m
}

// storedAt is when the stream stored a message, zero if it does not say.
func storedAt(h nats.Header) time.Time {
	t, err := time.Parse(time.RFC3339Nano, h.Get(headerStored))
	if err != nil {
		return time.Time{}
	}
	return t
}

// number returns what a header says, 0 if it says nothing.
func number(h nats.Header, key string) uint64 {
	n, err := strconv.ParseUint(h.Get(key), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
