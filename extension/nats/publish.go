package nats

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// Publish says pubsub.Broker. With history it returns when the stream has stored the
// message, on most of its WithReplicas servers; without, when the message is on its way,
// or with WithConfirm when NATS has it: such messages are delivered at most once. While
// NATS is away it waits, as WithWait says. A message that may have been stored when the
// connection was lost is published again if it has an ID; else the error says so.
func (b *Broker) Publish(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
	if err := b.checkMessage(ctx, m); err != nil {
		return pubsub.Position{}, err
	}
	if b.rules.keep(m.Topic) {
		return b.publishKept(ctx, m)
	}
	return pubsub.Position{}, b.publishPlain(ctx, b.names.plain, m, b.confirm)
}

// PublishToOne says pubsub.Broker: the message is delivered at most once. It returns when
// NATS has passed it on, or found that nobody is there. Each filter of each broker is as
// likely as the others; of a broker's subscribers each is. If the one has nobody left
// another is asked, up to 200 times.
func (b *Broker) PublishToOne(ctx context.Context, m *pubsub.Message) error {
	if err := b.checkMessage(ctx, m); err != nil {
		return err
	}
	return b.publishPlain(ctx, b.names.one, m, true)
}

func (b *Broker) checkMessage(ctx context.Context, m *pubsub.Message) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if err := subject.CheckTopic(m.Topic); err != nil {
		return arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
	}
	return nil
}

// publishPlain publishes what is not stored. After an error its ID is not known: to publish
// it again is better than to say that it is there.
func (b *Broker) publishPlain(ctx context.Context, prefix string, m *pubsub.Message, confirm bool) error {
	id := messageID{m.Topic, m.ID}
	if m.ID != "" && !b.seen.add(id) {
		b.counts.doubles.Add(1)
		return nil
	}
	send := b.send
	if confirm {
		send = b.sendConfirmed
	}
	err := send(ctx, toNATS(prefix, m))
	if err != nil && m.ID != "" {
		b.seen.remove(id)
	}
	return err
}

// sendConfirmed returns when NATS has the message: when it answers on the same connection.
func (b *Broker) sendConfirmed(ctx context.Context, m *nats.Msg) error {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	if err := b.connected(ctx); err != nil {
		return b.failed(ctx, "publish", err)
	}
	connection, cancelConnection := b.gate.while(ctx)
	defer cancelConnection()
	before := b.nc.Stats().Reconnects
	if err := b.send(ctx, m); err != nil {
		return err
	}
	err := b.nc.FlushWithContext(connection)
	if err == nil && b.nc.Stats().Reconnects != before {
		err = nats.ErrDisconnected
	}
	return b.failed(ctx, "publish", err)
}

// send hands a message to the connection, for which it waits, and for room in the window.
func (b *Broker) send(ctx context.Context, m *nats.Msg) error {
	if b.window.take(len(m.Data)) == nil && b.nc.PublishMsg(m) == nil {
		return nil
	}
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	if err := b.window.enter(ctx, len(m.Data)); err != nil {
		return b.failed(ctx, "publish", err)
	}
	for n := 0; ; n++ {
		err := b.nc.PublishMsg(m)
		switch {
		case err == nil:
			return nil
		case !notSent(err):
			return b.refused(ctx, err)
		}
		if err := b.pause(ctx, n); err != nil {
			return b.failed(ctx, "publish", err)
		}
	}
}

// notSent reports whether err says that nothing was published, and may go away.
func notSent(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) ||
		errors.As(err, &api) && (api.Code == 503 || api.ErrorCode == errorInProcess)
}

// errorInProcess is of a message with the same ID as one that is being stored.
const errorInProcess = 10158

// refused returns the error of a message that NATS will not have.
func (b *Broker) refused(ctx context.Context, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return arpc.Errorf(arpc.CodeResourceExhausted, "nats: publish: the message is larger than NATS takes, %d bytes (max_payload, WithMaxPayload): %w", b.nc.MaxPayload(), err)
	case errors.As(err, &api):
		return arpc.Errorf(arpc.CodeInternal, "nats: publish: %w", err)
	}
	return b.failed(ctx, "publish", err)
}

func (b *Broker) publishKept(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	out := toNATS(b.names.kept, m)
	if m.ID != "" {
		out.Header[headerMsgID] = []string{dedupID(m)}
	}
	for n := 0; ; n++ {
		epoch := b.stream.epoch() // before: an old epoch with a new offset is found out
		offset, err := b.storeOnce(ctx, out, n)
		if err == nil {
			b.stream.reached(offset)
			return pubsub.Position{Epoch: epoch, Offset: offset}, nil
		}
		unknown := errors.Is(err, nats.ErrDisconnected) || errors.Is(err, errNoAnswer)
		if !notSent(err) && !(unknown && m.ID != "") {
			return pubsub.Position{}, b.refused(ctx, err)
		}
		if err := b.pause(ctx, n); err != nil {
			return pubsub.Position{}, b.failed(ctx, "publish", err)
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			b.remake(ctx)
		}
	}
}

var errNoAnswer = errors.New("nobody answered")

// storeOnce waits for an answer as long as ctx lets, if a message has no ID to publish it
// again with: the server that got it may be gone.
func (b *Broker) storeOnce(ctx context.Context, m *nats.Msg, n int) (offset uint64, err error) {
	if m.Header[headerMsgID] == nil {
		return b.store(ctx, m)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, attempt<<min(n, 3), errNoAnswer)
	defer cancel()
	return b.store(ctx, m)
}

// remake makes the stream again if it is gone, as with a NATS server that has lost its
// disk. If that fails it is tried again.
func (b *Broker) remake(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	b.stream.ensure(ctx)
}

// store publishes a message and waits until it is stored. Its error is
// nats.ErrDisconnected if nobody knows whether it is.
func (b *Broker) store(ctx context.Context, m *nats.Msg) (offset uint64, err error) {
	future, err := b.js.PublishMsgAsync(m)
	if err != nil {
		return 0, err
	}
	select {
	case ack := <-future.Ok():
		if ack.Duplicate {
			b.counts.doubles.Add(1)
		}
		return ack.Sequence, nil
	case err := <-future.Err():
		return 0, err
	case <-b.done:
		return 0, pubsub.ErrBrokerClosed
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// dedupID is what JetStream knows a message by: the ID means something in its topic only.
func dedupID(m *pubsub.Message) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(m.Topic)) + ":" + m.Topic + m.ID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
