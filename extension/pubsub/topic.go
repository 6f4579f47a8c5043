package pubsub

import (
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// Topic is a message that was received. It belongs to the callback that gets it,
// with its Data, and may be kept.
type Topic struct {
	Name      string // what it was published to
	Data      []byte
	Timestamp int64  // when it was published, by its publisher's clock: nanoseconds since 1970
	Offset    uint64 // its place in the history; 0: the topic has none
	Key       string // WithKey
	// Attempt is the which time a group with acknowledgement got it: 1 the first, and
	// more if it may have been handled before. 0 elsewhere.
	Attempt int

	client   *Client // nil: the program has made it
	epoch    string
	delivery *delivery // nil: there is nothing to settle
}

// delivery is what is to be settled of a group's message.
type delivery struct {
	sub     *Subscription
	number  uint64 // of the subscription on the server
	tag     uint64
	settled atomic.Bool
}

// Bind decodes the data into v, which points to the value: raw into a *[]byte or a
// *string, with the client's codec into anything else.
func (t *Topic) Bind(v any) error {
	if t.client == nil {
		return decode(codec.DefaultCodec, t.Data, v)
	}
	return decode(t.client.Codec, t.Data, v)
}

// Time returns when it was published, by its publisher's clock.
func (t *Topic) Time() time.Time { return time.Unix(0, t.Timestamp) }

// Position returns its place in the history, for StartAt in another process, once it
// is done with. It is zero if the topic has no history.
func (t *Topic) Position() Position {
	if t.Offset == 0 {
		return Position{}
	}
	return Position{Epoch: t.epoch, Offset: t.Offset}
}

// Errors of Ack and Nak.
var (
	errNotToSettle = arpc.NewError(arpc.CodeFailedPrecondition, "pubsub: the message is not of a group with acknowledgement (WithGroupAck)")
	errSettled     = arpc.NewError(arpc.CodeFailedPrecondition, "pubsub: the message was acknowledged or given back already")
	errGivenBack   = arpc.NewError(arpc.CodeAborted, "pubsub: the message was given back to its group, since the connection or the subscription that it came by has ended")
)

// Ack acknowledges a message of a group with acknowledgement, once, so that no other
// member gets it. No error means that this is on its way; if it is lost the message
// comes again. After the subscription has lost its connection the error has
// CodeAborted: the message comes again, here or elsewhere. Ack and Nak may be called
// from any goroutine.
func (t *Topic) Ack() error { return t.settle(true) }

// Nak gives a message of a group with acknowledgement back, so that a member gets it
// again, soon. Its errors are those of Ack.
func (t *Topic) Nak() error { return t.settle(false) }

func (t *Topic) settle(acknowledged bool) error {
	d := t.delivery
	switch {
	case d == nil:
		return errNotToSettle
	case !d.settled.CompareAndSwap(false, true):
		return errSettled
	}
	return d.sub.client.settle(d.sub, proto.Settled{Number: d.number, Acknowledged: acknowledged, Tag: d.tag})
}
