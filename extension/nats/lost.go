package nats

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// mark says what of history is wanted: what is behind an offset, and was published at a
// time or later.
type mark struct {
	behind uint64
	since  time.Time
}

// lost says what of what is wanted history has no more.
type lost struct {
	all    bool // it may be anything
	topics map[string]bool
}

func (l *lost) some() bool { return l.all || len(l.topics) > 0 }

// lost returns what of a filter (of subjects) has gone so far: nothing else had when
// messages were read before. It also returns how far the stream is.
func (s *stream) lost(ctx context.Context, filter string, m mark) (lost, *jetstream.StreamState, error) {
	info, err := s.info(ctx, filter)
	if err != nil {
		return lost{}, nil, err
	}
	var full []string
	for subject, n := range info.State.Subjects {
		if s.limits.Messages > 0 && n > uint64(s.limits.Messages) {
			full = append(full, subject)
		}
	}
	lostOf := s.lostOf
	if s.config.Replicas == 1 && m.behind > 0 && m.since.IsZero() {
		lostOf = s.lostOfMany
	}
	gone, err := lostOf(ctx, full, m)
	gone.all = s.cut(&info.State, m)
	return gone, &info.State, err
}

// cut reports whether the limits of the whole stream may have removed what is wanted.
// They remove the oldest there is.
func (s *stream) cut(state *jetstream.StreamState, m mark) bool {
	if s.config.MaxAge == 0 && s.config.MaxBytes <= 0 || state.FirstSeq <= m.behind+1 {
		return false
	}
	if m.since.IsZero() {
		return true
	}
	oldest := state.FirstTime
	if state.Msgs == 0 {
		oldest = state.LastTime
	}
	return !oldest.Before(m.since)
}

// lostOf looks at subjects with one message more than has to be kept: if that one is
// wanted it counts as lost, and others may be.
func (s *stream) lostOf(ctx context.Context, full []string, m mark) (lost, error) {
	const atATime = 32
	var (
		mu      sync.Mutex
		gone    = lost{topics: make(map[string]bool)}
		failure error
		room    = make(chan struct{}, atATime)
		all     sync.WaitGroup
	)
	for _, subject := range full {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			oldest, err := s.oldest(ctx, subject, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failure = err
			}
			if oldest.offset > m.behind && !oldest.time.Before(m.since) {
				gone.topics[s.topic(subject)] = true
			}
		})
	}
	all.Wait()
	return gone, failure
}

// lostOfMany is lostOf with few questions, to the one server that has the stream: lost are
// subjects of which nothing is left that is not wanted.
func (s *stream) lostOfMany(ctx context.Context, full []string, m mark) (lost, error) {
	gone := lost{topics: make(map[string]bool, len(full))}
	for _, subject := range full {
		gone.topics[s.topic(subject)] = true
	}
	for _, subjects := range inParts(full) {
		left, err := s.lasts(ctx, getRequest{Lasts: subjects, UpTo: m.behind}, 0)
		if err != nil {
			return lost{}, err
		}
		for _, one := range left {
			if one.message != nil {
				delete(gone.topics, one.message.Topic)
			}
		}
	}
	return gone, nil
}

func (s *stream) topic(subject string) string {
	topic, _ := decode(strings.TrimPrefix(subject, s.b.names.kept))
	return topic
}

// oldest returns the first message of a subject there is. Where all is wanted it need
// not look.
func (s *stream) oldest(ctx context.Context, subject string, m mark) (first, error) {
	if m.behind == 0 && m.since.IsZero() {
		return first{offset: 1}, nil
	}
	return s.next(ctx, getRequest{From: 1, Filter: subject})
}
