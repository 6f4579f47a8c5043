package pubsub

import (
	"cmp"
	"slices"
	"sort"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// keptReading is a Read in progress. It goes in steps, each of which holds the lock
// of the history for a bounded time.
type keptReading struct {
	filter  string
	literal bool
	from    Start
	limit   int
	begun   bool
	covered bool   // all topics that filter matches have history
	behind  uint64 // offset
	page    Page
}

func newKeptReading(filter string, from Start, limit int) *keptReading {
	return &keptReading{filter: filter, literal: subject.IsLiteral(filter), from: from, limit: limit}
}

// step goes on with r and reports whether it is done.
func (h *history) step(r *keptReading) (done bool) {
	if !r.begun {
		h.begin(r)
	}
	if r.from.Kind == StartNew {
		r.page = Page{Next: Position{Epoch: h.epoch, Offset: h.last}, Complete: r.covered}
		return true
	}
	if !h.expireBefore(r) {
		return false
	}
	r.page.Lost = r.page.Lost || h.misses(r)
	r.page.Complete = !r.page.Lost && r.covered
	found, end := h.find(r)
	return h.take(r, found, end)
}

// begin looks at what the start of r means here.
func (h *history) begin(r *keptReading) {
	r.begun = true
	r.covered = h.covers(r.filter)
	p := r.from.Position
	switch known := p.Epoch == h.epoch && p.Offset <= h.last; {
	case r.from.Kind == StartNew:
	case known:
		r.behind = p.Offset
	case r.from.Kind == StartAfter || p != Position{}:
		r.page.Lost = true
	}
}

// expireBefore evicts what is over its age where r reads, and reports whether that
// was all.
func (h *history) expireBefore(r *keptReading) bool {
	const most = 4096 // some milliseconds
	now, all := h.now(), true
	for _, rule := range h.rules {
		if rule.Age > 0 && subject.Overlaps(rule.Filter, r.filter) {
			all = h.expire(rule, now, most) && all
		}
	}
	return all
}

// misses reports whether something is lost that r would have returned.
func (h *history) misses(r *keptReading) bool {
	if r.literal {
		if t := h.topics[r.filter]; t != nil {
			return r.missesOf(t)
		}
		rule := h.ruleFor(r.filter)
		return rule != nil && r.wanted(rule.forgotten)
	}
	return slices.ContainsFunc(h.rules, func(rule *keptRule) bool {
		return r.wanted(rule.lost) && subject.Overlaps(rule.Filter, r.filter) &&
			(r.wanted(rule.forgotten) || r.missesOfSome(rule))
	})
}

// missesOfSome is misses of the topics of a rule: of those only that had a message
// behind the start.
func (r *keptReading) missesOfSome(rule *keptRule) bool {
	for e := rule.recent.Front(); e != nil; e = e.Next() {
		t := e.Value.(*keptTopic)
		if t.last <= r.behind {
			return false
		}
		if r.missesOf(t) && subject.Match(r.filter, t.name) {
			return true
		}
	}
	return false
}

func (r *keptReading) missesOf(t *keptTopic) bool {
	if r.from.Kind == StartLast && t.messages.len() > 0 {
		return false
	}
	return r.wanted(t.lost)
}

// wanted reports whether any of what is lost is what r looks for.
func (r *keptReading) wanted(lost keptLoss) bool {
	return lost.offset > r.behind && (r.from.Kind != StartSince || !lost.time.Before(r.from.Time))
}

// find returns messages of r and the offset up to which there are no others.
func (h *history) find(r *keptReading) (found []*keptMessage, end uint64) {
	end = endOfLog
	if r.literal {
		if t := h.topics[r.filter]; t != nil {
			found, end = r.findIn(t)
		}
		return found, end
	}
	for _, rule := range h.rules {
		if rule.log.oldest() == nil || !subject.Overlaps(rule.Filter, r.filter) {
			continue
		}
		var reached uint64
		found, reached = rule.log.scan(found, r.behind, r.room(), r.takesAny)
		end = min(end, reached)
	}
	slices.SortFunc(found, func(a, b *keptMessage) int { return cmp.Compare(a.Offset, b.Offset) })
	return found, end
}

func (r *keptReading) room() int { return r.limit - len(r.page.Messages) }

func (r *keptReading) findIn(t *keptTopic) (found []*keptMessage, end uint64) {
	n := t.messages.len()
	first := sort.Search(n, func(i int) bool { return t.messages.at(i).Offset > r.behind })
	if r.from.Kind == StartLast {
		first = max(first, n-1)
	}
	for i := first; i < n; i++ {
		m := t.messages.at(i)
		if r.takes(m) {
			found = append(found, m)
		}
		if len(found) == r.room() || i-first == keptScanBudget {
			return found, m.Offset
		}
	}
	return found, endOfLog
}

// takes reports whether a message behind the start is one that r looks for.
func (r *keptReading) takes(m *keptMessage) bool {
	switch r.from.Kind {
	case StartSince:
		return !m.Time.Before(r.from.Time)
	case StartLast:
		return m.Offset == m.topic.last
	}
	return true
}

func (r *keptReading) takesAny(m *keptMessage) bool {
	return r.takes(m) && subject.Match(r.filter, m.Topic)
}

// take adds what was found up to end to the page, and reports whether r is done.
func (h *history) take(r *keptReading, found []*keptMessage, end uint64) (done bool) {
	r.behind = min(end, h.last)
	for _, m := range found {
		if m.Offset > end {
			break
		}
		r.page.Messages = append(r.page.Messages, &m.Message)
		if r.room() == 0 {
			r.behind = m.Offset
			break
		}
	}
	full := r.room() == 0
	r.page.More = full && r.behind < h.last
	r.page.Next = Position{Epoch: h.epoch, Offset: r.behind}
	return full || end == endOfLog
}
