package pubsub

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The log of kept messages is that of a naive list, however many holes it has.
func TestKeptLogIsANaiveList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &logMachine{}
		t.Repeat(rapid.StateMachineActions(m))
	})
}

type logMachine struct {
	log  keptLog
	list []uint64
	last uint64
}

func (m *logMachine) Add(t *rapid.T) {
	for range rapid.IntRange(1, 2*keptChunkLen).Draw(t, "n") {
		m.last += 1 + rand.Uint64N(3)
		m.log.add(&keptMessage{Message: Message{Offset: m.last}})
		m.list = append(m.list, m.last)
	}
}

// RemoveSome takes out a share of what is in a piece of the list.
func (m *logMachine) RemoveSome(t *rapid.T) {
	if len(m.list) == 0 {
		t.Skip("nothing there")
	}
	from := rapid.IntRange(0, len(m.list)-1).Draw(t, "from")
	to := rapid.IntRange(from, min(len(m.list), from+3*keptChunkLen)).Draw(t, "to")
	keep := rapid.IntRange(1, 40).Draw(t, "keep one in")
	var left []uint64
	for i, offset := range m.list[from:to] {
		if i%keep == 0 && keep > 1 {
			left = append(left, offset)
		} else {
			m.log.remove(offset)
		}
	}
	m.list = slices.Concat(m.list[:from], left, m.list[to:])
}

func (m *logMachine) Scan(t *rapid.T) {
	behind := rapid.Uint64Range(0, m.last).Draw(t, "behind")
	limit := rapid.IntRange(1, 1000).Draw(t, "limit")
	odd := func(offset uint64) bool { return offset%2 == 1 }
	var want, got []uint64
	for _, offset := range m.list {
		if offset > behind && odd(offset) {
			want = append(want, offset)
		}
	}
	end := behind
	for end != endOfLog && len(got) < limit {
		var found []*keptMessage
		found, end = m.log.scan(nil, end, limit-len(got), func(m *keptMessage) bool { return odd(m.Offset) })
		for _, one := range found {
			require.LessOrEqual(t, one.Offset, end)
			got = append(got, one.Offset)
		}
	}
	require.Equal(t, want[:min(limit, len(want))], got)
}

// Check is done after each step.
func (m *logMachine) Check(t *rapid.T) {
	if len(m.list) == 0 {
		require.Nil(t, m.log.oldest())
		require.Empty(t, m.log.chunks)
		return
	}
	require.Equal(t, m.list[0], m.log.oldest().Offset)
	// No two neighbours have less than half a chunk between them.
	require.LessOrEqual(t, len(m.log.chunks), 4*len(m.list)/keptChunkLen+2)
}
