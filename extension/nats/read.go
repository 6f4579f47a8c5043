package nats

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Read says pubsub.Broker. Where History.Age or TotalBytes has removed messages, and the
// start is before all that is left of any topic, nobody knows of which topics they were:
// Lost is then true for all.
func (b *Broker) Read(ctx context.Context, filter string, from pubsub.Start, max int) (pubsub.Page, error) {
	if err := b.check(ctx); err != nil {
		return pubsub.Page{}, err
	}
	if err := subject.CheckFilter(filter); err != nil {
		return pubsub.Page{}, arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
	}
	if max < 1 && from.Kind != pubsub.StartNew {
		return pubsub.Page{}, invalidf("read at least 1 message, not %d", max)
	}
	if b.stream == nil {
		r := &reading{from: from}
		return pubsub.Page{Lost: !r.mean("")}, nil
	}
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	var page pubsub.Page
	exact := false
	err := b.try(ctx, "read", func(ctx context.Context) (err error) {
		r := &reading{stream: b.stream, filter: filter, from: from, limit: max, exact: exact}
		exact = true
		page, err = r.page(ctx)
		return err
	})
	return page, err
}

// reading is a Read in progress.
type reading struct {
	*stream
	filter string
	from   pubsub.Start
	limit  int
	exact  bool // look at the stream first

	subjects string // the filter as one of subjects
	wants    mark
	head     uint64                 // an offset that the stream has reached before messages are looked for
	state    *jetstream.StreamState // behind that
	found    []*pubsub.Message
	dropped  map[string]bool // topics of which the first message was taken out
	at       uint64          // the offset that was reached
	more     bool
}

// errMoved is of a stream that is not what it was thought to be.
var errMoved = errors.New("the stream was made again")

func (r *reading) page(ctx context.Context) (page pubsub.Page, err error) {
	if err := r.begin(ctx); err != nil {
		return page, err
	}
	epoch := r.epoch()
	page.Lost = !r.mean(epoch)
	if r.from.Kind != pubsub.StartNew && r.b.rules.touches(r.filter) {
		gone, err := r.findSome(ctx)
		if err != nil {
			return page, err
		}
		if r.epoch() != epoch || r.wants.behind > r.state.LastSeq {
			return page, errMoved
		}
		page.Lost = page.Lost || gone.some()
	}
	if !r.more {
		r.at = max(r.at, r.head)
	}
	page.Messages, page.More = r.found, r.more
	page.Next = pubsub.Position{Epoch: epoch, Offset: r.at}
	page.Complete = !page.Lost && r.b.rules.covers(r.filter)
	return page, nil
}

// begin finds out where the stream is: as far as is known already, if any server that is
// asked for messages has them all.
func (r *reading) begin(ctx context.Context) error {
	r.subjects = r.b.names.kept + encodeFilter(r.filter)
	r.dropped = make(map[string]bool)
	if r.from.Kind != pubsub.StartNew && r.config.Replicas == 1 && !r.exact {
		r.head = r.stream.head.Load()
		return nil
	}
	info, err := r.ensure(ctx)
	if err == nil {
		r.head = info.State.LastSeq
	}
	r.exact = true
	return err
}

// mean looks at what the start means in an epoch, and reports whether it is one of it.
func (r *reading) mean(epoch string) bool {
	p := r.from.Position
	reached := epoch != "" && p.Epoch == epoch && (p.Offset <= r.head || !r.exact)
	if reached {
		r.wants.behind = p.Offset
	}
	r.at = r.wants.behind
	if r.from.Kind == pubsub.StartSince {
		r.wants.since = r.from.Time
	}
	return reached || r.from.Kind == pubsub.StartNew || p == pubsub.Position{} && r.from.Kind != pubsub.StartAfter
}

// findSome finds messages, and what is lost of what is wanted.
func (r *reading) findSome(ctx context.Context) (gone lost, err error) {
	for {
		if err := r.find(ctx); err != nil {
			return gone, err
		}
		dropped := len(r.dropped)
		gone, err = r.missing(ctx)
		if err != nil || len(r.found) > 0 || !r.more && dropped == len(r.dropped) {
			return gone, err
		}
	}
}

func (r *reading) find(ctx context.Context) error {
	if r.from.Kind == pubsub.StartLast {
		return r.findLasts(ctx)
	}
	for r.more = true; r.more; {
		got, err := r.stream.read(ctx, r.request(), r.head)
		if err != nil {
			return err
		}
		for i, m := range got.messages {
			r.at = m.offset
			if m.message == nil || m.message.Time.Before(r.wants.since) {
				continue
			}
			r.found = append(r.found, m.message)
			if len(r.found) == r.limit {
				r.more = got.more || i+1 < len(got.messages)
				return nil
			}
		}
		r.more = got.more
	}
	return nil
}

// clockSkew is how much earlier a message may have been stored than its publisher's clock
// said: so much earlier StartSince begins to look.
const clockSkew = time.Minute

func (r *reading) request() getRequest {
	const most = 1024
	request := getRequest{From: r.at + 1, Filter: r.subjects, Batch: min(r.limit-len(r.found), most)}
	if since := r.wants.since; !since.IsZero() && r.at == r.wants.behind && r.at == 0 {
		since = since.Add(-clockSkew)
		request.From, request.Since = 0, &since
	}
	return request
}

// missing returns what is lost of what is wanted, and takes out what counts as lost: of
// topics with one message more than has to be kept, that one.
func (r *reading) missing(ctx context.Context) (lost, error) {
	if r.from.Kind == pubsub.StartLast {
		return r.missingLast(), nil
	}
	gone, state, err := r.lost(ctx, r.subjects, r.wants)
	if err != nil {
		return lost{}, err
	}
	r.state = state
	r.found = slices.DeleteFunc(r.found, func(m *pubsub.Message) bool {
		surplus := gone.topics[m.Topic] && !r.dropped[m.Topic]
		if surplus {
			r.dropped[m.Topic] = true
		}
		return surplus
	})
	return gone, nil
}
