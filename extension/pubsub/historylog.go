package pubsub

import (
	"cmp"
	"math"
	"slices"
)

// keptLog is kept messages by their offsets, which only grow. Any of them can be
// removed. The zero keptLog is empty.
type keptLog struct {
	chunks []*keptChunk // by offset; none is without messages
}

// keptChunk is a piece of a keptLog. What is removed leaves a hole.
type keptChunk struct {
	first, n int // where the oldest message is, and the end of what is in use
	live     int
	offsets  [keptChunkLen]uint64
	messages [keptChunkLen]*keptMessage // nil: a hole
}

const keptChunkLen = 256

// oldest returns the message with the lowest offset, or nil.
func (l *keptLog) oldest() *keptMessage {
	if len(l.chunks) == 0 {
		return nil
	}
	c := l.chunks[0]
	return c.messages[c.first]
}

// add appends a message, whose offset is higher than all there were.
func (l *keptLog) add(m *keptMessage) {
	last := len(l.chunks) - 1
	if last < 0 || l.chunks[last].n == keptChunkLen {
		l.chunks = append(l.chunks, new(keptChunk))
		last++
	}
	l.chunks[last].add(m.Offset, m)
}

func (c *keptChunk) add(offset uint64, m *keptMessage) {
	c.offsets[c.n], c.messages[c.n] = offset, m
	c.n++
	c.live++
}

// remove takes out the message with this offset, which is there.
func (l *keptLog) remove(offset uint64) {
	i := l.chunk(offset)
	c := l.chunks[i]
	c.remove(offset)
	switch {
	case c.live == 0:
		l.chunks = slices.Delete(l.chunks, i, i+1)
	case c.live <= keptChunkLen/2:
		l.merge(i)
	}
}

// chunk returns the index of the chunk in which offset would be, -1 if it is before
// the first.
func (l *keptLog) chunk(offset uint64) int {
	if len(l.chunks) > 0 && (len(l.chunks) == 1 || offset < l.chunks[1].offsets[0]) {
		return 0 // most are removed from there
	}
	i, found := slices.BinarySearchFunc(l.chunks, offset, func(c *keptChunk, offset uint64) int {
		return cmp.Compare(c.offsets[0], offset)
	})
	if found {
		return i
	}
	return i - 1
}

func (c *keptChunk) remove(offset uint64) {
	i := c.find(offset)
	c.messages[i] = nil
	c.live--
	for c.first < c.n && c.messages[c.first] == nil {
		c.first++
	}
}

// find returns where offset is, or the first place behind it.
func (c *keptChunk) find(offset uint64) int {
	i, _ := slices.BinarySearch(c.offsets[:c.n], offset)
	return i
}

// merge joins the chunk at i with a neighbour if both together are half empty, so
// that holes never are much more than messages.
func (l *keptLog) merge(i int) {
	for _, at := range [2]int{i, i - 1} {
		if at < 0 || at+1 >= len(l.chunks) || l.chunks[at].live+l.chunks[at+1].live > keptChunkLen/2 {
			continue
		}
		merged := new(keptChunk)
		merged.take(l.chunks[at])
		merged.take(l.chunks[at+1])
		l.chunks[at] = merged
		l.chunks = slices.Delete(l.chunks, at+1, at+2)
		return
	}
}

func (c *keptChunk) take(from *keptChunk) {
	for i := from.first; i < from.n; i++ {
		if from.messages[i] != nil {
			c.add(from.offsets[i], from.messages[i])
		}
	}
}

// scan appends to dst messages behind an offset for which takes holds, at most limit
// of them. It looks at a bounded number of places and returns how far it got: the
// offset up to which there are no others, endOfLog if that is all.
func (l *keptLog) scan(dst []*keptMessage, behind uint64, limit int, takes func(*keptMessage) bool) ([]*keptMessage, uint64) {
	limit += len(dst)
	looked := 0
	for i := max(0, l.chunk(behind)); i < len(l.chunks); i++ {
		c := l.chunks[i]
		for at := c.find(behind + 1); at < c.n; at++ {
			if m := c.messages[at]; m != nil && takes(m) {
				dst = append(dst, m)
			}
			if len(dst) == limit {
				return dst, c.offsets[at]
			}
		}
		if looked += c.n; looked > keptScanBudget && i+1 < len(l.chunks) {
			return dst, c.offsets[c.n-1]
		}
	}
	return dst, endOfLog
}

const (
	endOfLog       = math.MaxUint64
	keptScanBudget = 8 * keptChunkLen // places: some tens of microseconds
)
