package aead

import (
	"slices"
	"sort"
)

// maxGaps is how many runs of numbers that have not come are remembered. Numbers
// are given before messages stand in line for the wire, so they overtake each other,
// by as many as there are senders at the same time. A window of fixed width would
// refuse the one that was held up while others passed; here it is one gap.
const maxGaps = 1 << 14

// window knows which numbers came: all below next but for the gaps.
type window struct {
	next uint64
	gaps []gap // in order; no two touch
}

// gap is a run of numbers that have not come.
type gap struct{ from, to uint64 } // without to

// accept reports whether number has not come before, and remembers it.
func (w *window) accept(number uint64) bool {
	if number >= w.next {
		if number > w.next {
			w.gaps = append(w.gaps, gap{w.next, number})
		}
		w.next = number + 1
		w.trim()
		return true
	}
	i := sort.Search(len(w.gaps), func(i int) bool { return w.gaps[i].to > number })
	if i == len(w.gaps) || w.gaps[i].from > number {
		return false
	}
	w.fill(i, number)
	w.trim()
	return true
}

// fill takes a number out of a gap.
func (w *window) fill(i int, number uint64) {
	switch g := &w.gaps[i]; {
	case g.from+1 == g.to:
		w.gaps = slices.Delete(w.gaps, i, i+1)
	case g.from == number:
		g.from++
	case g.to == number+1:
		g.to--
	default:
		behind := gap{number + 1, g.to}
		g.to = number
		w.gaps = slices.Insert(w.gaps, i+1, behind)
	}
}

// trim gives up the numbers that are missing for longest when there are too many
// gaps: they are refused from now on. It drops many at a time.
func (w *window) trim() {
	if len(w.gaps) > maxGaps {
		w.gaps = slices.Delete(w.gaps, 0, maxGaps/4)
	}
}
