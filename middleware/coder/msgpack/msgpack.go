// Package msgpack is a coder that sends values along with messages, in the form
// that version 1 peers know: the payload of every message is replaced by the
// msgpack map {"Body": payload, "Values": values}, and no bit of the reserved byte
// says so. Both ends register it, at the same place in their chains of coders:
//
//	handler.UseCoder(msgpack.New())
//
// The values of a message are those of arpc.Message: what Message.Set stored before
// the message is sent arrives with it, and Message.Get finds it at the other end.
// Between peers of version 2 metadata does the same without a coder.
//
// A peer without the coder takes the map for the payload. What is not such a map is
// refused: an error to its caller, and the connection goes on.
package msgpack

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tinylib/msgp/msgp"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

const (
	// DefaultMaxValues is the default of WithMaxValues.
	DefaultMaxValues = 1024
	// MaxDepth is how deep lists and maps among the values are nested at most.
	MaxDepth = 16
)

// Msgpack wraps and unwraps payloads. It is safe for concurrent use, also by
// several handlers.
type Msgpack struct {
	// Set by New, never changed.
	maxValues int
	keys      []any // to send; nil: all
}

var (
	_ arpc.MessageCoder   = (*Msgpack)(nil)
	_ arpc.CheckedEncoder = (*Msgpack)(nil)
	_ arpc.CheckedDecoder = (*Msgpack)(nil)
)

// Option is a setting for New.
type Option func(*Msgpack)

// WithMaxValues limits how many values a message has, those within lists and maps
// and the keys of maps included. A message with more is refused, by the sender and
// by the receiver. Default: 1024. New panics unless n is positive.
func WithMaxValues(n int) Option {
	return func(mp *Msgpack) {
		if n <= 0 {
			panic(fmt.Sprintf("msgpack: WithMaxValues: must be positive: %d", n))
		}
		mp.maxValues = n
	}
}

// WithKeys has only the values under these keys sent, for messages that carry others
// for this process alone. What arrives is not limited. Default: all values are sent.
func WithKeys(keys ...any) Option {
	return func(mp *Msgpack) { mp.keys = append([]any{}, keys...) }
}

// New returns a coder for arpc.Handler.UseCoder. It panics when an option makes no
// sense.
func New(opts ...Option) *Msgpack {
	mp := &Msgpack{maxValues: DefaultMaxValues}
	for _, opt := range opts {
		opt(mp)
	}
	return mp
}

// Encode is EncodeChecked without the reason: nil if the message is refused.
func (mp *Msgpack) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := mp.EncodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// EncodeChecked replaces the payload by a map of it and the values. Keys and values
// may be nil, booleans, integers, floats, strings, []byte, time.Time, and []any,
// map[string]any, map[string]string and map[any]any of these. It refuses a message
// with others, with too many, or nested too deep.
func (mp *Msgpack) EncodeChecked(_ *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	start, ok := frame.Payload(m)
	if !ok {
		return nil, errNoPayload
	}
	body := m.Buffer[start:]
	b := make([]byte, 0, m.Len()+64)
	b = append(b, m.Buffer[:start]...)
	b = msgp.AppendMapHeader(b, 2)
	b = msgp.AppendString(b, "Body")
	b = msgp.AppendBytes(b, body)
	b = msgp.AppendString(b, "Values")
	b, err := mp.appendValues(b, m.Values())
	if err != nil {
		return nil, arpc.Errorf(arpc.CodeInvalidArgument, "msgpack: the values of the message: %w", err)
	}
	frame.SetBuffer(m, b)
	return m, nil
}

func (mp *Msgpack) appendValues(b []byte, values map[any]any) ([]byte, error) {
	if mp.keys != nil {
		values = maps.Clone(values)
		maps.DeleteFunc(values, func(key, _ any) bool { return !slices.Contains(mp.keys, key) })
	}
	if len(values) == 0 {
		return msgp.AppendNil(b), nil
	}
	w := writer{left: mp.maxValues}
	return w.appendMap(b, values, 0)
}

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (mp *Msgpack) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := mp.DecodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// DecodeChecked replaces the map by the payload in it, in place, and sets the values
// on the message. Integers arrive as int64, or as uint64 if they are too large for
// it, lists as []any, maps as map[string]any, or as map[any]any if they have other
// keys than strings, times in UTC. A value that is nil is not set. The error says
// what is wrong; the message beside it is as it came.
func (mp *Msgpack) DecodeChecked(_ *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	start, ok := frame.Payload(m)
	if !ok {
		return m, errNoPayload
	}
	r := reader{left: mp.maxValues}
	body, values, err := r.envelope(m.Buffer[start:])
	if err != nil {
		return m, fmt.Errorf("msgpack: the payload is not a map of Body and Values: %w", err)
	}
	frame.SetBuffer(m, append(m.Buffer[:start], body...))
	for key, value := range values {
		if key != nil && value != nil {
			m.Set(key, value)
		}
	}
	return m, nil
}
