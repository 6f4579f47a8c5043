package queue_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/arpc-go/arpc/extension/pubsub/internal/queue"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// naive is a queue that does what Queue is to do, slowly.
type naive struct {
	policy              queue.Policy
	messages, bytes     int
	items               []item
	missed              uint64
	served              int
	dropped, superseded uint64
}

type item struct {
	value, key string
	size       int
	missed     uint64
	turn       int
	note       bool
}

func (n *naive) count() (messages, bytes int) {
	for _, it := range n.items {
		if !it.note {
			messages++
			bytes += it.size
		}
	}
	return messages, bytes
}

func (n *naive) take(i int, missed uint64) item {
	it := n.items[i]
	n.items = slices.Delete(n.items, i, i+1)
	if i < len(n.items) {
		n.items[i].missed += missed
	} else {
		n.missed += missed
	}
	return it
}

func (n *naive) push(v, key string, size int) (dropped []string) {
	messages, _ := n.count()
	it := item{value: v, key: key, size: size, turn: n.served + messages}
	if n.policy == queue.KeepLatest {
		at := -1
		for i, old := range n.items {
			if !old.note && old.key == key {
				at = i // the last one
			}
		}
		if at >= 0 && n.served <= n.items[at].turn {
			it.turn = n.items[at].turn
			n.take(at, n.items[at].missed)
			n.superseded++
		}
	}
	for {
		messages, bytes := n.count()
		if messages == 0 || messages < n.messages && bytes+size <= n.bytes {
			break
		}
		if n.policy == queue.DropNewest {
			n.missed++
			n.dropped++
			return []string{v}
		}
		first := slices.IndexFunc(n.items, func(it item) bool { return !it.note })
		dropped = append(dropped, n.take(first, n.items[first].missed+1).value)
		n.dropped++
	}
	it.missed, n.missed = n.missed, 0
	n.items = append(n.items, it)
	return dropped
}

func (n *naive) pushNote(v string) {
	n.items = append(n.items, item{value: v, note: true, missed: n.missed})
	n.missed = 0
}

func (n *naive) pop() {
	if !n.items[0].note {
		n.served++
	}
	n.take(0, n.items[0].missed)
}

func TestQueueDoesWhatANaiveOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]queue.Policy{queue.DropOldest, queue.DropNewest, queue.KeepLatest}).Draw(t, "policy")
		messages, bytes := rapid.IntRange(1, 40).Draw(t, "messages"), rapid.IntRange(1, 200).Draw(t, "bytes")
		q := queue.New[string](policy, messages, bytes)
		model := naive{policy: policy, messages: messages, bytes: bytes}
		pushed := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				pushed++
				v, key, size := fmt.Sprint(pushed), rapid.StringMatching(`[a-e]`).Draw(t, "key"), rapid.IntRange(0, 30).Draw(t, "size")
				var dropped []string
				q.Push(v, key, size, func(v string) { dropped = append(dropped, v) })
				require.Equal(t, model.push(v, key, size), dropped)
			},
			"note": func(t *rapid.T) {
				if q.Notes() == 5 {
					t.Skip("enough notes")
				}
				pushed++
				q.PushNote(fmt.Sprint(pushed))
				model.pushNote(fmt.Sprint(pushed))
			},
			"pop": func(t *rapid.T) {
				if q.Len() == 0 {
					t.Skip("empty")
				}
				q.Pop()
				model.pop()
			},
			"tell": func(t *rapid.T) {
				q.Told()
				if len(model.items) > 0 {
					model.items[0].missed = 0
				} else {
					model.missed = 0
				}
			},
			"": func(t *rapid.T) {
				n, size := q.Messages()
				wantN, wantSize := model.count()
				require.Equal(t, []int{wantN, wantSize, len(model.items)}, []int{n, size, q.Len()})
				dropped, superseded := q.Dropped()
				require.Equal(t, []uint64{model.dropped, model.superseded}, []uint64{dropped, superseded})
				v, _, missed, ok := q.Front()
				require.Equal(t, len(model.items) > 0, ok)
				if ok {
					require.Equal(t, model.items[0].value, v)
					require.Equal(t, model.items[0].missed, missed)
				} else {
					require.Equal(t, model.missed, missed)
				}
				require.Equal(t, !ok && model.missed == 0, q.Idle())
			},
		})
	})
}

// A key that changes all the time is served, though others change too and more comes
// than goes.
func TestNoKeyIsKeptFromBeingServed(t *testing.T) {
	q := queue.New[int](queue.KeepLatest, 100, 1<<20)
	served := make(map[int]int)
	for round := range 1000 {
		for key := range 3 {
			for range 1 + 10*key { // key 2 changes 21 times as often as key 0
				q.Push(key, fmt.Sprint(key), 1, nil)
			}
		}
		if round%2 == 0 {
			v, _, _, ok := q.Front()
			require.True(t, ok)
			served[v]++
			q.Pop()
		}
	}
	n, _ := q.Messages()
	require.LessOrEqual(t, n, 6, "two for each key at most")
	for key := range 3 {
		require.Greater(t, served[key], 100, "key %d of %v", key, served)
	}
}

// A subscriber that takes nothing holds no more than its bounds, however much is
// superseded or dropped meanwhile, with a note in front too.
func TestStuckQueueDoesNotGrow(t *testing.T) {
	for _, policy := range []queue.Policy{queue.DropOldest, queue.DropNewest, queue.KeepLatest} {
		q := queue.New[int](policy, 64, 1<<20)
		q.Push(0, "first", 1, nil)
		q.PushNote(1)
		keys := make([]string, 80)
		for i := range keys {
			keys[i] = fmt.Sprint(i)
		}
		push := func() {
			for i, key := range keys {
				q.Push(i, key, 1, nil)
			}
		}
		push()
		require.Zero(t, testing.AllocsPerRun(200, push), "policy %d", policy)
		n, _ := q.Messages()
		require.Equal(t, 64, n)
	}
}

func TestClearDropsMessagesAlone(t *testing.T) {
	q := queue.New[string](queue.DropOldest, 10, 100)
	q.Push("a", "", 1, nil)
	q.PushNote("note")
	q.Push("b", "", 1, nil)
	var dropped []string
	q.Clear(func(v string) { dropped = append(dropped, v) })
	require.Equal(t, []string{"a", "b"}, dropped)
	require.True(t, q.Idle())
	q.Push("c", "", 1, nil)
	v, _, _, ok := q.Front()
	require.True(t, ok)
	require.Equal(t, "c", v)
	q.Clear(nil)
	require.True(t, q.Idle())
}
