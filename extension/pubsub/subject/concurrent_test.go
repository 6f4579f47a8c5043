package subject_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// tagged is a value that knows its filter.
type tagged struct {
	filter string
	stays  bool
}

// Whoever matches while others add and remove finds each filter that is there all the
// time, once, and none that does not match.
func TestMatchWhileOthersAddAndRemove(t *testing.T) {
	var m subject.Matcher[*tagged]
	var stay []*tagged
	for i := range 40 {
		v := &tagged{busyFilter(uint64(i)), true}
		stay = append(stay, v)
		add(t, &m, v.filter, v)
	}
	var changers, matchers sync.WaitGroup
	var done atomic.Bool
	for i := range 2 {
		changers.Go(func() { addAndRemove(t, &m, uint64(i), 3_000) })
		matchers.Go(func() {
			for n := uint64(0); !done.Load(); n++ {
				matchOnce(t, &m, busyTopic(n*2+uint64(i)), stay)
			}
		})
	}
	changers.Wait()
	done.Store(true)
	matchers.Wait()
	requireSound(t, &m, len(stay))
}

// busyFilter returns one of few filters, so that all work on the same nodes.
func busyFilter(n uint64) string {
	r := rand.New(rand.NewPCG(n, 1))
	tokens := []any{"a", "b", "c", "*"}
	token := func() any { return tokens[r.IntN(len(tokens))] }
	return fmt.Sprintf([]string{"%v.%v.%v", "%v.%v.>", "a.%v.%[1]v"}[r.IntN(3)], token(), token(), token())
}

func busyTopic(n uint64) string {
	return fmt.Sprintf("%c.%c.%c", 'a'+n%3, 'a'+n/3%3, 'a'+n/9%3)
}

// addAndRemove has between none and some hundreds of filters in m, and at the end none.
func addAndRemove(t *testing.T, m *subject.Matcher[*tagged], seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 2))
	var mine []*subject.Entry[*tagged]
	for range steps {
		target := r.IntN(300)
		for ; len(mine) < target && r.IntN(20) > 0; target-- {
			v := &tagged{filter: busyFilter(r.Uint64())}
			e, err := m.Add(v.filter, v)
			assert.NoError(t, err)
			mine = append(mine, e)
		}
		for len(mine) > target && r.IntN(20) > 0 {
			last := len(mine) - 1
			assert.True(t, m.Remove(mine[last]))
			mine = mine[:last]
		}
	}
	for _, e := range mine {
		assert.True(t, m.Remove(e))
	}
}

func matchOnce(t *testing.T, m *subject.Matcher[*tagged], topic string, stay []*tagged) {
	found := make(map[*tagged]int)
	for _, v := range m.Match(topic, nil) {
		found[v]++
		if !subject.Match(v.filter, topic) {
			t.Errorf("%q was found for %q", v.filter, topic)
		}
	}
	for _, v := range stay {
		want := 0
		if subject.Match(v.filter, topic) {
			want = 1
		}
		if found[v] != want {
			t.Errorf("%q was found %d times for %q", v.filter, found[v], topic)
		}
	}
}

// What one goroutine has added is found by whoever it tells, and what it has removed
// is not.
func TestAddAndRemoveAreSeenAtOnce(t *testing.T) {
	var m subject.Matcher[int]
	var done sync.WaitGroup
	for i := range 4 {
		done.Go(func() {
			for n := range 1000 {
				topic := fmt.Sprintf("some.%d.%d", i, n%10)
				filter := []string{topic, fmt.Sprintf("some.%d.*", i), fmt.Sprintf("*.%d.>", i)}[n%3]
				e, err := m.Add(filter, i)
				assert.NoError(t, err)
				assert.True(t, slices.Contains(m.Match(topic, nil), i))
				assert.True(t, m.Remove(e))
				assert.False(t, slices.Contains(m.Match(topic, nil), i))
			}
		})
	}
	done.Wait()
	requireNothingLeft(t, &m)
	require.Zero(t, m.Len())
}
