package nats

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

var errBehind = errors.New("the NATS server that was asked is behind the others")

// findLasts finds the last message of each topic, as long as it was published before
// reading began: what came later is watched.
func (r *reading) findLasts(ctx context.Context) error {
	info, err := r.info(ctx, r.subjects)
	if err != nil {
		return err
	}
	r.state = &info.State
	r.head = info.State.LastSeq
	var all []storedMessage
	for _, subjects := range inParts(slices.Sorted(maps.Keys(info.State.Subjects))) {
		lasts, err := r.lasts(ctx, getRequest{From: r.wants.behind + 1, Lasts: subjects}, r.head)
		if err != nil {
			return err
		}
		all = append(all, lasts...)
	}
	slices.SortFunc(all, func(a, b storedMessage) int { return cmp.Compare(a.offset, b.offset) })
	for _, m := range all {
		if m.message == nil || m.offset > r.head {
			continue
		}
		if r.more = len(r.found) == r.limit; r.more {
			break
		}
		r.found = append(r.found, m.message)
		r.at = m.offset
	}
	return nil
}

// lasts returns the last messages of subjects, from a server that has got to an offset.
func (s *stream) lasts(ctx context.Context, r getRequest, reached uint64) (all []storedMessage, err error) {
	for {
		got, err := s.get(ctx, r)
		switch {
		case err != nil:
			return nil, err
		case got.upTo == 0:
			return all, nil // all of them have gone
		case got.upTo < reached:
			return nil, errBehind
		}
		all = append(all, got.messages...)
		if !got.more || len(got.messages) == 0 {
			return all, nil
		}
		r.From = got.messages[len(got.messages)-1].offset + 1
	}
}

// inParts divides subjects so that each part fits into a request and its answer.
func inParts(subjects []string) (parts [][]string) {
	const mostSubjects, mostBytes = 1000, 256 << 10
	bytes, from := 0, 0
	for i, s := range subjects {
		if bytes += len(s); i > from && (i-from == mostSubjects || bytes > mostBytes) {
			parts = append(parts, subjects[from:i])
			bytes, from = len(s), i
		}
	}
	if from < len(subjects) {
		parts = append(parts, subjects[from:])
	}
	return parts
}

// missingLast returns whether a topic may be without its last message: if the limits of
// the whole stream have removed it.
func (r *reading) missingLast() lost {
	if !r.cut(r.state, r.wants) || subject.IsLiteral(r.filter) && len(r.state.Subjects) > 0 {
		return lost{}
	}
	return lost{all: true}
}
