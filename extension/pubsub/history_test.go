package pubsub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub"
)

func TestHistoryFirstRuleThatMatchesCounts(t *testing.T) {
	b := newMemoryBroker(t,
		pubsub.WithHistory("a.secret", pubsub.History{}),
		pubsub.WithHistory("a.one", pubsub.History{Messages: 1}),
		pubsub.WithHistory("a.*", pubsub.History{Messages: 2}))
	begin := memoryHead(t, b)
	for _, topic := range []string{"a.secret", "a.one", "a.two", "b"} {
		for i := range 3 {
			memoryPublish(t, b, topic, fmt.Sprint(topic, " ", i))
		}
	}
	got, complete := memoryRead(t, b, ">", begin)
	require.Equal(t, []string{"a.one 2", "a.two 1", "a.two 2"}, got)
	require.False(t, complete)
	_, complete = memoryRead(t, b, "a.secret", memoryHead(t, b))
	require.False(t, complete)
	_, complete = memoryRead(t, b, "a.*", memoryHead(t, b))
	require.False(t, complete, "one of these topics has no history")
	_, complete = memoryRead(t, b, "a.three", begin)
	require.True(t, complete)
}

func TestHistoryForgetsTopicsButSaysSo(t *testing.T) {
	b := newMemoryBroker(t,
		pubsub.WithHistory("other", pubsub.History{Messages: 10}),
		pubsub.WithHistory(">", pubsub.History{Messages: 10, Topics: 2}))
	begin := memoryHead(t, b)
	memoryPublish(t, b, "other", "o")
	memoryPublish(t, b, "a", "a1")
	memoryPublish(t, b, "b", "b1")
	memoryPublish(t, b, "a", "a2")
	got, complete := memoryRead(t, b, ">", begin)
	require.Equal(t, []string{"o", "a1", "b1", "a2"}, got)
	require.True(t, complete)

	memoryPublish(t, b, "c", "c1") // b is forgotten
	require.Equal(t, 3, b.Statistics().Topics)
	require.EqualValues(t, 1, b.Statistics().Evicted)
	for filter, want := range map[string]struct {
		texts    []string
		complete bool
	}{
		"a":     {[]string{"a1", "a2"}, true},
		"b":     {[]string{}, false},
		"c":     {[]string{"c1"}, false}, // which might have been there before
		"d":     {[]string{}, false},
		"other": {[]string{"o"}, true},
		">":     {[]string{"o", "a1", "a2", "c1"}, false},
	} {
		got, complete := memoryRead(t, b, filter, begin)
		require.Equal(t, want.texts, got, filter)
		require.Equal(t, want.complete, complete, filter)
	}
}

func TestHistoryOfAForgottenTopicBeginsAnew(t *testing.T) {
	b := newMemoryBroker(t, pubsub.WithHistory(">", pubsub.History{Messages: 10, Topics: 1}))
	begin := memoryHead(t, b)
	memoryPublish(t, b, "a", "a1")
	before := memoryHead(t, b)
	memoryPublish(t, b, "b", "b1") // a is forgotten
	memoryPublish(t, b, "a", "a2") // b is
	got, complete := memoryRead(t, b, "a", before)
	require.Equal(t, []string{"a2"}, got)
	require.False(t, complete, "b1 might have been one of a")
	_, complete = memoryRead(t, b, "a", begin)
	require.False(t, complete)
	got, complete = memoryRead(t, b, ">", pubsub.Start{Kind: pubsub.StartAll})
	require.Equal(t, []string{"a2"}, got)
	require.False(t, complete)
}

func TestHistoryOfARuleIsBoundedInBytes(t *testing.T) {
	b := newMemoryBroker(t,
		pubsub.WithHistory("other", pubsub.History{Messages: 1000}),
		pubsub.WithHistory(">", pubsub.History{Messages: 1000, TotalBytes: 100_000}))
	data := strings.Repeat("x", 9_000)
	begin := memoryHead(t, b)
	memoryPublish(t, b, "other", data)
	for i := range 30 {
		memoryPublish(t, b, fmt.Sprint(i%7), data)
	}
	require.Equal(t, 1+10, b.Statistics().Messages)
	require.LessOrEqual(t, b.Statistics().Bytes, int64(110_000))
	_, complete := memoryRead(t, b, ">", begin)
	require.False(t, complete)
	_, complete = memoryRead(t, b, "other", begin)
	require.True(t, complete)
	got, complete := memoryRead(t, b, "1", begin)
	require.Len(t, got, 2)
	require.False(t, complete)
}

// However long the way through history is, what is read is in order.
func TestHistoryOfSeveralRulesIsReadInOrder(t *testing.T) {
	b := newMemoryBroker(t,
		pubsub.WithHistory("a.*", pubsub.History{Messages: 100_000}),
		pubsub.WithHistory("b.*", pubsub.History{Messages: 100_000}),
		pubsub.WithHistory("c.*", pubsub.History{Messages: 100_000}))
	begin := memoryHead(t, b)
	var want []string
	for i := range 300 {
		topic := fmt.Sprintf("%c.x", "abc"[i%3])
		memoryPublish(t, b, topic, fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
		for range i {
			memoryPublish(t, b, "a.other", "")
		}
	}
	got, complete := memoryRead(t, b, "*.x", begin)
	require.Equal(t, want, got)
	require.False(t, complete)
	last, _ := memoryRead(t, b, "*.x", pubsub.Start{Kind: pubsub.StartLast})
	require.Equal(t, []string{"297", "298", "299"}, last)
	since, _ := memoryRead(t, b, "a.x", pubsub.Start{Kind: pubsub.StartSince})
	require.Len(t, since, 100)
}

func TestHistoryDoesNotKeepWhatIsLargerThanItsBytes(t *testing.T) {
	b := newMemoryBroker(t, pubsub.WithHistory("a", pubsub.History{Bytes: 10}))
	var got []*pubsub.Message
	memoryWatch(t, b, "a", func(m *pubsub.Message) { got = append(got, m) })
	memoryPublish(t, b, "a", "small")
	begin := memoryHead(t, b)
	p := memoryPublish(t, b, "a", "larger than ten")
	require.Len(t, got, 2)
	require.Equal(t, p.Offset, got[1].Offset)
	texts, complete := memoryRead(t, b, "a", begin)
	require.Empty(t, texts)
	require.False(t, complete)
}

func TestHistoryHasWhatIsYoungerThanItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t,
			pubsub.WithHistory("a", pubsub.History{Age: time.Minute}),
			pubsub.WithHistory("b", pubsub.History{Age: time.Hour}))
		begin := memoryHead(t, b)
		read := func(want bool, texts ...string) {
			t.Helper()
			got, complete := memoryRead(t, b, "*", begin)
			require.Equal(t, texts, got)
			require.False(t, complete, "some topics have no history")
			_, complete = memoryRead(t, b, "a", begin)
			require.Equal(t, want, complete)
		}
		memoryPublish(t, b, "b", "b1")
		memoryPublish(t, b, "a", "a1")
		time.Sleep(30 * time.Second)
		memoryPublish(t, b, "a", "a2")
		time.Sleep(30*time.Second - 1)
		read(true, "b1", "a1", "a2")
		time.Sleep(time.Nanosecond)
		read(false, "b1", "a2")
		time.Sleep(30 * time.Second)
		read(false, "b1")
		last, complete := memoryRead(t, b, "a", pubsub.Start{Kind: pubsub.StartLast})
		require.Empty(t, last)
		require.False(t, complete, "there was a last message")
	})
}

// Nobody needs to publish or read for old messages to go, nor is there a timer for
// each.
func TestHistoryFreesWhatIsOverItsAgeByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBroker(t,
			pubsub.WithHistory("hour", pubsub.History{Age: time.Hour}),
			pubsub.WithHistory(">", pubsub.History{Age: time.Minute}))
		memoryPublish(t, b, "hour", "")
		for i := range 10_000 {
			memoryPublish(t, b, fmt.Sprint(i%100), "data")
		}
		require.Equal(t, 10_001, b.Statistics().Messages)
		time.Sleep(time.Minute)
		texts, _ := memoryRead(t, b, ">", pubsub.Start{Kind: pubsub.StartAll})
		require.Len(t, texts, 1, "nobody reads what is too old, though it may be there for a moment")
		time.Sleep(time.Second)
		require.Equal(t, 1, b.Statistics().Messages)
		time.Sleep(time.Hour)
		require.Zero(t, b.Statistics().Messages)
		require.Zero(t, b.Statistics().Bytes)
		memoryPublish(t, b, "1", "later")
		time.Sleep(time.Minute + time.Second)
		require.Zero(t, b.Statistics().Messages)
	})
}
