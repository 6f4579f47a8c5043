package pubsub_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// historyModel is history as a list of all that was ever published.
type historyModel struct {
	rules  []pubsub.HistoryRule
	all    []*modelMessage
	recent map[int][]string // topics of each rule, the one published to last at the end
}

type modelMessage struct {
	pubsub.Message
	rule    int
	arrived time.Time
	gone    bool
}

// rule returns the index of the rule of a topic, -1 if nothing of it is kept.
func (m *historyModel) rule(topic string) int {
	i := slices.IndexFunc(m.rules, func(r pubsub.HistoryRule) bool { return subject.Match(r.Filter, topic) })
	if i >= 0 && m.rules[i].Messages == 0 && m.rules[i].Bytes == 0 && m.rules[i].Age == 0 {
		return -1
	}
	return i
}

// kept returns what is kept of those that ok accepts.
func (m *historyModel) kept(ok func(*modelMessage) bool) []*modelMessage {
	return slices.DeleteFunc(slices.Clone(m.all), func(one *modelMessage) bool { return one.gone || !ok(one) })
}

func (m *historyModel) add(one *modelMessage) {
	i := m.rule(one.Topic)
	if i < 0 {
		return
	}
	r := m.rules[i]
	ofRule := func(o *modelMessage) bool { return o.rule == i }
	ofTopic := func(o *modelMessage) bool { return o.Topic == one.Topic }

	one.rule = i
	topics := m.recent[i]
	if !slices.Contains(topics, one.Topic) && r.Topics > 0 && len(topics) == r.Topics {
		for _, o := range m.kept(func(o *modelMessage) bool { return o.Topic == topics[0] }) {
			o.gone = true
		}
		topics = topics[1:]
	}
	topics = slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return t == one.Topic })
	m.recent[i] = append(topics, one.Topic)

	m.all = append(m.all, one)
	m.evict(ofTopic, func(left []*modelMessage) bool { return r.Messages > 0 && len(left) > r.Messages })
	m.evict(ofTopic, func(left []*modelMessage) bool { return r.Bytes > 0 && dataOf(left) > r.Bytes })
	m.expire()
	m.evict(ofRule, func(left []*modelMessage) bool {
		return r.TotalBytes > 0 && dataOf(left)+192*int64(len(left)) > r.TotalBytes
	})
}

func (m *historyModel) evict(ok func(*modelMessage) bool, tooMuch func([]*modelMessage) bool) {
	left := m.kept(ok)
	for ; tooMuch(left); left = left[1:] {
		left[0].gone = true
	}
}

func dataOf(messages []*modelMessage) (n int64) {
	for _, m := range messages {
		n += int64(len(m.Data))
	}
	return n
}

func (m *historyModel) expire() {
	for _, one := range m.all {
		age := m.rules[one.rule].Age
		one.gone = one.gone || age > 0 && time.Since(one.arrived) >= age
	}
}

// wanted reports whether a reading from a start, behind an offset, is about a message,
// which may be gone.
func (m *historyModel) wanted(one *modelMessage, filter string, from pubsub.Start, behind uint64) bool {
	if !subject.Match(filter, one.Topic) || one.Offset <= behind {
		return false
	}
	switch from.Kind {
	case pubsub.StartSince:
		return !one.Time.Before(from.Time)
	case pubsub.StartLast:
		return !slices.ContainsFunc(m.all, func(o *modelMessage) bool { return o.Topic == one.Topic && o.Offset > one.Offset })
	}
	return true
}

// covered reports whether everything that filter matches has history, by trying.
func (m *historyModel) covered(filter string) bool {
	for _, topic := range append(slices.Clone(modelTopics), "a", "x", "x.1", "a.9", "x.y", "a.x", "a.x.y", "b.x", "b.x.y", "c.x") {
		if subject.Match(filter, topic) && m.rule(topic) < 0 {
			return false
		}
	}
	return true
}

var (
	modelTopics  = []string{"a.1", "a.2", "a.3", "b.1", "b.2", "c.1", "live"}
	modelFilters = []string{"a.1", "a.2", "b.1", "c.1", "live", "a.9", "a.*", "b.>", "*.1", ">", "c.*"}
)

// historyMachine has a MemoryBroker and the model do the same.
type historyMachine struct {
	b         *pubsub.MemoryBroker
	model     historyModel
	positions []pubsub.Position
	bounded   bool // Topics are
}

func newHistoryMachine(t *rapid.T) *historyMachine {
	m := &historyMachine{model: historyModel{recent: make(map[int][]string)}}
	var opts []pubsub.MemoryOption
	for _, filter := range [][]string{{"a.>", "b.*"}, {"*.1", ">"}, {"c.1", "a.*", "b.1"}, {">"}}[rapid.IntRange(0, 3).Draw(t, "rules")] {
		rule := pubsub.HistoryRule{Filter: filter, History: drawHistory(t)}
		m.bounded = m.bounded || rule.Topics > 0
		m.model.rules = append(m.model.rules, rule)
		opts = append(opts, pubsub.WithHistory(filter, rule.History))
	}
	m.b = pubsub.NewMemoryBroker(opts...)
	page, err := m.b.Read(t.Context(), ">", pubsub.Start{}, 1)
	require.NoError(t, err)
	m.positions = []pubsub.Position{page.Next}
	return m
}

func drawHistory(t *rapid.T) pubsub.History {
	draw := func(name string, most int) int {
		return max(0, rapid.IntRange(-most, most).Draw(t, name))
	}
	return pubsub.History{
		Messages:   draw("messages", 4),
		Bytes:      int64(draw("bytes", 40)),
		Age:        time.Duration(draw("age", 10)) * time.Second,
		Topics:     draw("topics", 2),
		TotalBytes: int64(draw("total", 2000)),
	}
}

func (m *historyMachine) Publish(t *rapid.T) {
	one := &modelMessage{arrived: time.Now(), Message: pubsub.Message{
		Topic: rapid.SampledFrom(modelTopics).Draw(t, "topic"),
		Data:  make([]byte, rapid.IntRange(0, 30).Draw(t, "size")),
		Time:  time.Now().Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "clock")) * time.Second),
	}}
	given := one.Message
	p, err := m.b.Publish(t.Context(), &given)
	require.NoError(t, err)
	require.Equal(t, m.model.rule(one.Topic) >= 0, p.Offset > 0)
	if p.Offset > 0 {
		require.Greater(t, p.Offset, m.positions[len(m.positions)-1].Offset)
		one.Offset = p.Offset
		m.positions = append(m.positions, p)
	}
	m.model.add(one)
}

func (m *historyMachine) Wait(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
}

func (m *historyMachine) Read(t *rapid.T) {
	filter := rapid.SampledFrom(modelFilters).Draw(t, "filter")
	from := pubsub.Start{
		Kind: rapid.SampledFrom([]pubsub.StartKind{pubsub.StartNew, pubsub.StartAfter, pubsub.StartSince, pubsub.StartLast, pubsub.StartAll}).Draw(t, "kind"),
		Time: time.Now().Add(-time.Duration(rapid.IntRange(-1, 10).Draw(t, "ago")) * time.Second),
	}
	known := true
	switch rapid.IntRange(0, 5).Draw(t, "position") {
	case 0:
	case 1:
		from.Position, known = pubsub.Position{Epoch: "another", Offset: 1}, false
	case 2:
		from.Position, known = pubsub.Position{Epoch: m.positions[0].Epoch, Offset: math.MaxUint64}, false
	default:
		from.Position = rapid.SampledFrom(m.positions).Draw(t, "offset")
	}
	if from.Kind == pubsub.StartAfter && from.Position == (pubsub.Position{}) {
		known = false
	}
	m.readAll(t, filter, from, known)
}

// readAll reads page after page.
func (m *historyMachine) readAll(t *rapid.T, filter string, from pubsub.Start, known bool) {
	limit := rapid.IntRange(1, 5).Draw(t, "max")
	m.model.expire()
	for first, more := true, true; more; first = false {
		page, err := m.b.Read(t.Context(), filter, from, limit)
		require.NoError(t, err)
		behind := from.Position.Offset
		if !known {
			behind = 0
		}
		m.check(t, filter, from, behind, limit, page)
		lost := from.Kind != pubsub.StartNew && (!known || slices.ContainsFunc(m.model.all, func(one *modelMessage) bool {
			return one.gone && m.model.wanted(one, filter, from, behind)
		}))
		// Of clocks that differ, and of topics it has forgotten, the broker may not know
		// better than to say yes.
		unsure := m.bounded || from.Kind == pubsub.StartSince && behind > 0
		if !unsure || lost {
			require.Equal(t, lost, page.Lost, "lost, of %q from %+v, first page %v", filter, from, first)
		}
		require.Equal(t, m.model.covered(filter) && !page.Lost, page.Complete)
		from.Position, more, known = page.Next, page.More, true
	}
}

// check compares the messages of a page.
func (m *historyMachine) check(t *rapid.T, filter string, from pubsub.Start, behind uint64, limit int, page pubsub.Page) {
	var want []string
	if from.Kind != pubsub.StartNew {
		for _, one := range m.model.kept(func(one *modelMessage) bool { return m.model.wanted(one, filter, from, behind) }) {
			want = append(want, fmt.Sprint(one.Message))
		}
	}
	var got []string
	for _, one := range page.Messages {
		got = append(got, fmt.Sprint(*one))
	}
	head := m.positions[len(m.positions)-1]
	if len(want) > limit {
		want = want[:limit]
		require.True(t, page.More)
	}
	require.Equal(t, want, got, "%q from %+v", filter, from)
	require.Equal(t, head.Epoch, page.Next.Epoch)
	if page.More {
		require.Len(t, page.Messages, limit)
		require.Equal(t, page.Messages[limit-1].Offset, page.Next.Offset)
	} else {
		require.Equal(t, head, page.Next)
	}
}

// Check is done after each step.
func (m *historyMachine) Check(t *rapid.T) {
	m.model.expire()
	kept := m.model.kept(func(*modelMessage) bool { return true })
	require.GreaterOrEqual(t, m.b.Statistics().Messages, len(kept))
}

func TestHistoryIsThatOfANaiveList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withoutDeadline := struct{ rapid.TB }{t} // which a bubble has not
		rapid.Check(withoutDeadline, func(t *rapid.T) {
			m := newHistoryMachine(t)
			defer m.b.Close()
			t.Repeat(rapid.StateMachineActions(m))
		})
	})
}
