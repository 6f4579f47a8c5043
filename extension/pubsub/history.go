package pubsub

import (
	"container/list"
	"fmt"
	"strings"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// History says how much of each topic is kept: the last Messages, the last Bytes, what
// is younger than Age. Zero does not limit; if all three are zero nothing is kept.
type History struct {
	Messages int           // of each topic
	Bytes    int64         // of Data, of each topic
	Age      time.Duration // since the Broker accepted it

	// Topics is of how many topics something is kept by one rule. Of more, the one
	// longest unpublished is forgotten, and reading from before says that it is not
	// complete. Default: 100,000.
	Topics int
	// TotalBytes is how much memory all topics of one rule may take, about; beyond it
	// the oldest messages go. Default: 1 GiB; negative: no limit.
	TotalBytes int64
}

const (
	defaultKeptTopics = 100_000
	defaultKeptBytes  = 1 << 30
)

// HistoryRule is History of all topics that a filter matches. The first of several
// rules that match a topic counts.
type HistoryRule struct {
	Filter string
	History
}

// keeps reports whether there is any history at all.
func (h History) keeps() bool { return h.Messages != 0 || h.Bytes != 0 || h.Age != 0 }

func (r HistoryRule) check() error {
	if err := subject.CheckFilter(r.Filter); err != nil {
		return err
	}
	h := r.History
	if h.Messages < 0 || h.Bytes < 0 || h.Age < 0 || h.Topics < 0 {
		return fmt.Errorf("no limit may be negative but TotalBytes: %+v", h)
	}
	return nil
}

// keptMessage is a message in history.
type keptMessage struct {
	Message
	topic   *keptTopic
	arrived time.Duration // by the clock of the history
}

// size is about how much memory it takes.
func (m *keptMessage) size() int64 {
	const itself = 192 // with its places in a keptLog and a fifo
	return itself + int64(len(m.Data)+len(m.Key)+len(m.ID))
}

// keptTopic is a topic with history. It outlives its messages, for what it lost.
type keptTopic struct {
	name     string
	rule     *keptRule
	messages fifo[*keptMessage]
	bytes    int64  // of Data
	last     uint64 // offset
	lost     keptLoss
	groups   []*memoryAckGroup // whose filter matches; replaced, never changed
	recent   *list.Element     // in rule.recent
}

// keptLoss says how new what is kept no more was: offset and time of the newest.
type keptLoss struct {
	offset uint64
	time   time.Time
}

func (l *keptLoss) add(other keptLoss) {
	l.offset = max(l.offset, other.offset)
	if other.time.After(l.time) {
		l.time = other.time
	}
}

// keptRule is what is kept by one rule.
type keptRule struct {
	HistoryRule
	log       keptLog
	recent    list.List // of *keptTopic, the one published to last in front
	messages  int
	bytes     int64    // about, in memory
	lost      keptLoss // by any topic
	forgotten keptLoss // by topics that are no more
}

func newKeptRule(r HistoryRule) *keptRule {
	if r.Topics == 0 {
		r.Topics = defaultKeptTopics
	}
	if r.TotalBytes == 0 {
		r.TotalBytes = defaultKeptBytes
	}
	return &keptRule{HistoryRule: r}
}

// history is what a MemoryBroker keeps. But for epoch, start and ruleFor everything is
// guarded by the lock of the lane for topics with history.
type history struct {
	// Set by newHistory, never changed.
	epoch string
	start time.Time
	rules []*keptRule

	last    uint64 // offset
	topics  map[string]*keptTopic
	groups  []*memoryAckGroup
	evicted uint64 // messages, ever
}

// now is the clock of the history.
func (h *history) now() time.Duration { return time.Since(h.start) }

// ruleFor returns the rule by which something of a topic is kept, or nil.
func (h *history) ruleFor(topic string) *keptRule {
	for _, r := range h.rules {
		if subject.Match(r.Filter, topic) {
			if r.keeps() {
				return r
			}
			return nil
		}
	}
	return nil
}

// covers reports whether all topics that filter matches have history.
func (h *history) covers(filter string) bool {
	for _, r := range h.rules {
		if !subject.Overlaps(r.Filter, filter) {
			continue
		}
		if !r.keeps() {
			return false
		}
		if subject.Covers(r.Filter, filter) {
			return true
		}
	}
	return false
}

// add keeps a copy of m with the next offset.
func (h *history) add(r *keptRule, m *Message) *keptMessage {
	h.last++
	kept := &keptMessage{Message: *m, topic: h.topic(r, m.Topic), arrived: h.now()}
	kept.Offset, kept.Topic = h.last, kept.topic.name
	if kept.Time.IsZero() {
		kept.Time = time.Now()
	}
	kept.topic.add(kept)
	h.trim(kept.topic, kept.arrived)
	return kept
}

// topic returns the topic of a rule, which it makes if need be.
func (h *history) topic(r *keptRule, name string) *keptTopic {
	if t := h.topics[name]; t != nil {
		return t
	}
	for len(h.topics) > 0 && r.recent.Len() >= r.Topics {
		h.forget(r.recent.Back().Value.(*keptTopic))
	}
	t := &keptTopic{name: strings.Clone(name), rule: r, lost: r.forgotten}
	for _, g := range h.groups {
		if subject.Match(g.filter, name) {
			t.groups = append(t.groups, g)
		}
	}
	t.recent = r.recent.PushFront(t)
	h.topics[t.name] = t
	return t
}

func (t *keptTopic) add(m *keptMessage) {
	t.last = m.Offset
	t.messages.push(m)
	t.bytes += int64(len(m.Data))
	t.rule.log.add(m)
	t.rule.messages++
	t.rule.bytes += m.size()
	t.rule.recent.MoveToFront(t.recent)
}

// forget gives up a topic and all that is kept of it.
func (h *history) forget(t *keptTopic) {
	for t.messages.len() > 0 {
		h.evict(t)
	}
	t.rule.forgotten.add(t.lost)
	t.rule.recent.Remove(t.recent)
	delete(h.topics, t.name)
}

// trim evicts what is over the limits, now that a message was added to t.
func (h *history) trim(t *keptTopic, now time.Duration) {
	r := t.rule
	for r.Messages > 0 && t.messages.len() > r.Messages || r.Bytes > 0 && t.bytes > r.Bytes {
		h.evict(t)
	}
	for r.TotalBytes > 0 && r.bytes > r.TotalBytes {
		h.evict(r.log.oldest().topic)
	}
	const more = 4 // than came
	h.expire(r, now, more)
}

// expire evicts messages of a rule that are over their age, at most so many, and
// reports whether those were all.
func (h *history) expire(r *keptRule, now time.Duration, most int) (all bool) {
	for ; r.Age > 0; most-- {
		m := r.log.oldest()
		if m == nil || now-m.arrived < r.Age {
			return true
		}
		if most == 0 {
			return false
		}
		h.evict(m.topic)
	}
	return true
}

// evict removes the oldest message of a topic.
func (h *history) evict(t *keptTopic) {
	m := t.messages.pop()
	t.bytes -= int64(len(m.Data))
	t.rule.messages--
	t.rule.bytes -= m.size()
	t.rule.log.remove(m.Offset)
	loss := keptLoss{offset: m.Offset, time: m.Time}
	t.lost.add(loss)
	t.rule.lost.add(loss)
	h.evicted++
	for _, g := range t.groups {
		g.evicted(m.Offset)
	}
}
