package nats

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// stream is where JetStream keeps history. Offsets are its sequence numbers.
//
// It keeps one message more of each topic than it has to: where that one is still there,
// and behind a position, it was not the only one that was. So Read knows exactly whether
// something is missing, from what there is.
type stream struct {
	b      *Broker
	config jetstream.StreamConfig // set by newStream, never changed
	limits pubsub.History         // likewise

	handle  atomic.Pointer[jetstream.Stream] // nil: not found or made yet
	created atomic.Int64                     // in nanoseconds: a stream that is made again is another epoch
	head    atomic.Uint64                    // an offset that has been reached
}

func newStream(b *Broker, h pubsub.History) *stream {
	const defaultBytes = 1 << 30
	config := jetstream.StreamConfig{
		Name:              b.names.stream,
		Subjects:          []string{b.names.kept + anyRest},
		RePublish:         &jetstream.RePublish{Source: b.names.kept + anyRest, Destination: b.names.stored + anyRest},
		Replicas:          b.replicas,
		MaxAge:            h.Age,
		MaxBytes:          max(h.TotalBytes, -1),
		MaxMsgsPerSubject: -1,
		Duplicates:        b.dedup,
		AllowDirect:       true,
	}
	if h.TotalBytes == 0 {
		config.MaxBytes = defaultBytes
	}
	if h.Messages > 0 {
		config.MaxMsgsPerSubject = int64(h.Messages) + 1
	}
	if h.Age > 0 {
		config.Duplicates = min(b.dedup, h.Age)
	}
	return &stream{b: b, config: config, limits: h}
}

func (s *stream) epoch() string { return strconv.FormatInt(s.created.Load(), 36) }

// ensure returns what the stream says of itself. It makes the stream if there is none.
func (s *stream) ensure(ctx context.Context) (*jetstream.StreamInfo, error) {
	if info, err := s.info(ctx, ""); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return info, err
	}
	made, err := s.b.js.CreateOrUpdateStream(ctx, s.config)
	if err != nil {
		return nil, s.unfit(err)
	}
	s.handle.Store(&made)
	s.pin(ctx, made.CachedInfo())
	return s.info(ctx, "")
}

// pinToken is a subject that no topic is encoded as.
const pinToken = "%pin"

// pin puts a message of no topic at the beginning of a new stream, which no limit of a
// topic removes. As long as it is there the limits of the whole stream have removed
// nothing, and all that is gone was over the limit of its topic.
func (s *stream) pin(ctx context.Context, info *jetstream.StreamInfo) {
	if s.limits.Messages > 0 && info.State.LastSeq == 0 {
		s.b.store(ctx, &nats.Msg{Subject: s.b.names.kept + pinToken}) // if it fails Read is more careful
	}
}

// info returns what the stream's leader says of it. With a filter (of subjects) that is
// also the number of messages of each subject that it matches.
func (s *stream) info(ctx context.Context, filter string) (*jetstream.StreamInfo, error) {
	handle := s.handle.Load()
	if handle == nil {
		return nil, jetstream.ErrStreamNotFound
	}
	var opts []jetstream.StreamInfoOpt
	if filter != "" {
		opts = append(opts, jetstream.WithSubjectFilter(filter))
	}
	info, err := (*handle).Info(ctx, opts...)
	if err == nil {
		s.note(info)
	}
	return info, err
}

// note takes note of how far the stream is.
func (s *stream) note(info *jetstream.StreamInfo) {
	if created := info.Created.UnixNano(); s.created.Swap(created) != created {
		s.head.Store(info.State.LastSeq)
	}
	s.reached(info.State.LastSeq)
}

func (s *stream) reached(offset uint64) {
	for head := s.head.Load(); offset > head && !s.head.CompareAndSwap(head, offset); head = s.head.Load() {
	}
}

// unfit returns the error of a stream that NATS will not make.
func (s *stream) unfit(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return arpc.Errorf(arpc.CodeFailedPrecondition, "nats: history needs JetStream, which this NATS has not got: %w", err)
	case errors.As(err, &api) && api.Code != 503:
		return arpc.Errorf(arpc.CodeFailedPrecondition, "nats: the stream %q: %w", s.config.Name, err)
	}
	return arpc.Errorf(arpc.CodeUnavailable, "nats: the stream %q: %w", s.config.Name, err)
}
