package subject_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

func add[T any](t testing.TB, m *subject.Matcher[T], filter string, value T) *subject.Entry[T] {
	t.Helper()
	e, err := m.Add(filter, value)
	require.NoError(t, err)
	return e
}

func TestMatcherFindsEveryKindOfFilter(t *testing.T) {
	var m subject.Matcher[string]
	for _, filter := range []string{
		">", "*", "*.*", "*.*.*", "a", "a.b", "a.b.c", "a.*", "a.*.c", "*.b", "*.b.>", "a.>", "a.b.>", "*.>", "b.>",
		"a..", "a..*", "..", "chat room/1", "a.b*",
	} {
		add(t, &m, filter, filter)
	}
	for topic, want := range map[string][]string{
		"a":           {"a", "*", ">"},
		"a.b":         {"a.b", "a.*", "*.b", "*.*", "a.>", "*.>", ">"},
		"a.b.c":       {"a.b.c", "a.*.c", "*.*.*", "a.b.>", "*.b.>", "a.>", "*.>", ">"},
		"a..":         {"a..", "a..*", "*.*.*", "a.>", "*.>", ">"},
		"..":          {"..", "*.*.*", "*.>", ">"},
		"b":           {"*", ">"},
		"b.c.d.e":     {"b.>", "*.>", ">"},
		"chat room/1": {"chat room/1", "*", ">"},
		"a.b*":        {"a.b*", "a.*", "*.*", "a.>", "*.>", ">"},
		"a.*":         {"a.*", "*.*", "a.>", "*.>", ">"}, // as it stands
	} {
		require.ElementsMatch(t, want, m.Match(topic, nil), topic)
	}
}

func TestMatchAppends(t *testing.T) {
	var m subject.Matcher[int]
	require.Nil(t, m.Match("a", nil))
	add(t, &m, "a", 1)
	require.Equal(t, []int{7, 1}, m.Match("a", []int{7}))
	require.Equal(t, []int{7}, m.Match("b", []int{7}))
}

func TestAddRefusesWhatCheckFilterRefuses(t *testing.T) {
	var m subject.Matcher[int]
	for _, filter := range []string{"", "a.>.b", strings.Repeat("x", 1025), strings.Repeat("*.", 64) + "a"} {
		e, err := m.Add(filter, 1)
		require.Equal(t, subject.CheckFilter(filter), err)
		require.Error(t, err)
		require.Nil(t, e)
	}
	requireNothingLeft(t, &m)
}

func TestRemoveOfWhatIsNotThere(t *testing.T) {
	var m, other subject.Matcher[int]
	e := add(t, &m, "a.*", 1)
	literal := add(t, &m, "a.b", 2)
	require.False(t, other.Remove(e))
	require.False(t, other.Remove(literal))
	require.False(t, m.Remove(nil))
	require.False(t, m.Remove(new(subject.Entry[int])))
	requireSound(t, &m, 2)
	require.True(t, m.Remove(e))
	require.False(t, m.Remove(e))
	require.Equal(t, []int{2}, m.Match("a.b", nil))
}

// Of filters as they occur, added and removed in any order, nothing stays.
func TestRemovingAllLeavesNothing(t *testing.T) {
	var m subject.Matcher[*value]
	p := newPopulation(10_000)
	for range 2 {
		entries := p.fill(t, &m)
		requireSound(t, &m, p.size)
		full, _ := subject.Held(&m)
		p.rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		for i, e := range entries {
			require.True(t, m.Remove(e))
			if i == len(entries)*9/10 {
				requireSound(t, &m, p.size/10-1)
				held, _ := subject.Held(&m)
				require.Less(t, held, full/2)
			}
		}
		requireNothingLeft(t, &m)
	}
}

// Long branches come and go as a whole: what is above a new node, and as new, stays.
func TestBranchesComeAndGo(t *testing.T) {
	var m subject.Matcher[int]
	branch := strings.Repeat("x.", 62) + "*"
	topic := strings.Repeat("x.", 62) + "y"
	for range 2 {
		var entries []*subject.Entry[int]
		for i := range 500 {
			entries = append(entries, add(t, &m, fmt.Sprintf("%d.%s", i, branch), i))
		}
		for i, e := range entries {
			if i%100 == 0 {
				requireSound(t, &m, len(entries)-i)
			}
			require.Equal(t, []int{i}, m.Match(fmt.Sprintf("%d.%s", i, topic), nil))
			require.True(t, m.Remove(e))
		}
		requireNothingLeft(t, &m)
	}
}

// What is left of a place where many were takes little room.
func TestListsShrink(t *testing.T) {
	var m subject.Matcher[int]
	var entries []*subject.Entry[int]
	for i := range 1000 {
		entries = append(entries, add(t, &m, "a.*", i))
	}
	for i, e := range entries[:999] {
		requireSound(t, &m, len(entries)-i)
		require.True(t, m.Remove(e))
	}
	require.Equal(t, []int{999}, m.Match("a.b", nil))
}

// A filter that is removed leaves nothing behind, though others have tokens of it.
func TestAddKeepsNothingOfTheFilter(t *testing.T) {
	const filters = 2000
	var m subject.Matcher[*value]
	before := heap()
	for i := range filters {
		e := add(t, &m, fmt.Sprintf("%d.%s.*", i, strings.Repeat("x", 1000)), theValue)
		add(t, &m, fmt.Sprintf("%d.*", i), theValue)
		require.True(t, m.Remove(e))
	}
	require.Less(t, (heap()-before)/filters, 500.0)
	require.Equal(t, filters, m.Len())
}

// Values of filters that were removed can be collected, also where others are left
// in the same place.
func TestRemovedValuesCanBeCollected(t *testing.T) {
	var m subject.Matcher[*value]
	stays := add(t, &m, "a.*", theValue)
	values := addAndRemoveValues(t, &m)
	runtime.GC()
	for _, v := range values {
		require.Nil(t, v.Value())
	}
	require.Equal(t, []*value{theValue}, m.Match("a.b", nil))
	require.True(t, m.Remove(stays))
	requireNothingLeft(t, &m)
}

// addAndRemoveValues is a function of its own: what it has on its stack is gone.
//
//go:noinline
func addAndRemoveValues(t *testing.T, m *subject.Matcher[*value]) (values []weak.Pointer[value]) {
	var entries []*subject.Entry[*value]
	for i := range 100 {
		v := &value{i}
		values = append(values, weak.Make(v))
		entries = append(entries, add(t, m, "a.*", v), add(t, m, fmt.Sprintf("b.%d", i), v))
	}
	for _, e := range entries {
		require.True(t, m.Remove(e))
	}
	return values
}

// A subscriber that subscribes or unsubscribes when it is called changes nothing for
// the others.
func TestEachLetsItsFunctionChangeTheMatcher(t *testing.T) {
	var m subject.Matcher[int]
	entries := make(map[int]*subject.Entry[int])
	for i := range 100 {
		entries[i] = add(t, &m, []string{"a.b", "a.*", "a.>", ">"}[i%4], i)
	}
	var called []int
	m.Each("a.b", func(i int) {
		if i >= 100 {
			return // one of those that are added
		}
		called = append(called, i)
		require.True(t, m.Remove(entries[i]))
		add(t, &m, "*.b", 100+i)
		add(t, &m, "a.b", 100+i)
	})
	slices.Sort(called)
	require.Len(t, slices.Compact(called), 100)
	requireSound(t, &m, 200)
}

// A topic visits a node of the tree once, at most: with a filter that ends at each
// node there are as many visits as filters, and each finds its own.
func TestTopicVisitsEachNodeOnce(t *testing.T) {
	const depth = 12
	var m subject.Matcher[int]
	prefixes, filters := []string{""}, 0
	for range depth {
		var longer []string
		for _, prefix := range prefixes {
			add(t, &m, prefix+">", filters)
			filters++
			longer = append(longer, prefix+"a.", prefix+"*.")
		}
		prefixes = longer
	}
	require.Equal(t, 1<<depth-1, filters)
	found := m.Match("a"+strings.Repeat(".a", depth), nil)
	require.Len(t, found, filters)
	slices.Sort(found)
	require.Len(t, slices.Compact(found), filters)
}

// The tree has no more nodes than its filters have tokens. With the test before, that
// is the bound of what a topic costs.
func TestTreeIsNoLargerThanItsFilters(t *testing.T) {
	var m subject.Matcher[int]
	tokens := 0
	for i := range 63 {
		filter := strings.Split(strings.Repeat("*.", 62)+"*.never", ".")
		filter[i] = "a"
		tokens += len(filter)
		add(t, &m, strings.Join(filter, "."), i)
	}
	held, err := subject.Held(&m)
	require.NoError(t, err)
	require.LessOrEqual(t, held, tokens)
	require.Empty(t, m.Match(strings.Repeat("a.", 63)+"b", nil))
	require.Len(t, m.Match(strings.Repeat("a.", 63)+"never", nil), 63)
}

// Topics may have more tokens than filters with wildcards.
func TestMatcherWithTopicsOfManyTokens(t *testing.T) {
	var m subject.Matcher[string]
	long := strings.Repeat(".", 1024)
	deepest := strings.Repeat("*.", 63) + ">"
	for _, filter := range []string{">", deepest, long, "." + strings.Repeat("*.", 62) + "*"} {
		add(t, &m, filter, filter)
	}
	require.ElementsMatch(t, []string{">", deepest, long}, m.Match(long, nil))
}
