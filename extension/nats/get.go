package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// getRequest asks for messages of a stream: JetStream's "direct get", which all servers
// with a replica answer.
type getRequest struct {
	From     uint64     `json:"seq,omitempty"`
	Since    *time.Time `json:"start_time,omitempty"` // instead of From; when it was stored
	Filter   string     `json:"next_by_subj,omitempty"`
	Lasts    []string   `json:"multi_last,omitempty"` // the last of each subject
	UpTo     uint64     `json:"up_to_seq,omitempty"`  // with Lasts: of those up to there
	Batch    int        `json:"batch,omitempty"`
	MaxBytes int        `json:"max_bytes,omitempty"`
}

// storedMessage is one of a stream.
type storedMessage struct {
	offset  uint64
	message *pubsub.Message // nil: none of a topic
}

// batch is what answers a getRequest: messages by their offsets.
type batch struct {
	messages []storedMessage
	more     bool
	upTo     uint64 // how far the server had got; for Lasts only
}

// cut drops what is behind an offset.
func (b *batch) cut(end uint64) {
	n := len(b.messages)
	for n > 0 && b.messages[n-1].offset > end {
		n--
	}
	b.messages = b.messages[:n]
}

// maxBatchBytes is about how much comes at a time.
const maxBatchBytes = 4 << 20

// get asks any server that has a replica. It may not have all messages yet.
func (s *stream) get(ctx context.Context, r getRequest) (batch, error) {
	r.MaxBytes = maxBatchBytes
	query, err := json.Marshal(r)
	if err != nil {
		return batch{}, err
	}
	inbox := s.b.nc.NewInbox()
	sub, err := s.b.nc.SubscribeSync(inbox)
	if err != nil {
		return batch{}, err
	}
	defer sub.Unsubscribe()
	if err := s.b.nc.PublishRequest("$JS.API.DIRECT.GET."+s.config.Name, inbox, query); err != nil {
		return batch{}, err
	}
	return s.receive(ctx, sub)
}

// read is get from a server that has all that was stored up to an offset. Of several it
// asks the leader whether there is more.
func (s *stream) read(ctx context.Context, r getRequest, upTo uint64) (batch, error) {
	for n := 0; ; n++ {
		got, err := s.get(ctx, r)
		if err != nil || got.more || s.config.Replicas == 1 {
			return got, err
		}
		behind := getRequest{From: r.From, Since: r.Since, Filter: r.Filter}
		if len(got.messages) > 0 {
			behind.From, behind.Since = got.messages[len(got.messages)-1].offset+1, nil
		}
		more, err := s.next(ctx, behind)
		if err != nil || more.offset == 0 || more.offset > upTo {
			return got, err
		}
		if err := s.b.pause(ctx, n); err != nil {
			return batch{}, err
		}
	}
}

func (s *stream) receive(ctx context.Context, sub *nats.Subscription) (got batch, err error) {
	last := uint64(0)
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return batch{}, err
		}
		if before := number(m.Header, headerLast); before != last {
			return batch{}, fmt.Errorf("message %d of the stream did not arrive", before)
		}
		switch status := m.Header.Get(headerStatus); status {
		case "":
			last = number(m.Header, headerSequence)
			got.messages = append(got.messages, s.received(m, last))
		case "204": // the end
			got.more = number(m.Header, headerPending) > 0
			got.upTo = number(m.Header, headerUpTo)
			return got, nil
		case "404":
			return got, nil
		default:
			return batch{}, fmt.Errorf("JetStream says %s %s", status, m.Header.Get(headerText))
		}
	}
}

func (s *stream) received(m *nats.Msg, offset uint64) storedMessage {
	encoded := strings.TrimPrefix(m.Header.Get(headerSubject), s.b.names.kept)
	return storedMessage{offset, keptFromNATS(encoded, m.Header, m.Data, offset)}
}

// first is what the stream's leader has of a filter (of subjects) from an offset on.
type first struct {
	offset uint64 // 0: nothing
	time   time.Time
}

// next returns the first message that was asked for, as the leader knows it.
func (s *stream) next(ctx context.Context, r getRequest) (first, error) {
	query, err := json.Marshal(r)
	if err != nil {
		return first{}, err
	}
	m, err := s.b.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+s.config.Name, query)
	if err != nil {
		return first{}, err
	}
	var answer struct {
		Error   *jetstream.APIError
		Message struct {
			Offset uint64    `json:"seq"`
			Header []byte    `json:"hdrs"`
			Time   time.Time `json:"time"`
		}
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return first{}, err
	}
	switch {
	case answer.Error == nil:
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return first{}, nil
	default:
		return first{}, answer.Error
	}
	found := first{offset: answer.Message.Offset, time: answer.Message.Time}
	if h, err := nats.DecodeHeadersMsg(answer.Message.Header); err == nil {
		if published := fromNATS("-", h, nil); !published.Time.IsZero() {
			found.time = published.Time
		}
	}
	return found, nil
}
