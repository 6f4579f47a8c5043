// Package tracing is a coder that sends one value along with messages, such as the
// context of a trace, in the form that version 1 peers know: a trailer behind the
// payload, which is a key, the value, and the length of all three as a 16-bit
// big-endian number. Bit 0 of the reserved byte says that it is there. Both ends
// register the coder with the same key:
//
//	handler.UseCoder(tracing.New("arpc-opentracing"))
//
// The value is that of arpc.Message under the key: what Message.Set stored before
// the message is sent arrives with it, and Message.Get finds it at the other end.
// Messages without one stay as they are. Between peers of version 2 the trace of
// arpc.ContextWithTrace does the same without a coder.
//
// A peer without the coder takes the trailer for the end of the payload.
package tracing

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

// lengthLen is the length in bytes of the length at the end of a trailer.
const lengthLen = 2

// maxBit is the highest bit that no other coder of ours owns.
const maxBit = 3

// Tracing adds and removes trailers. It is safe for concurrent use, also by several
// handlers.
type Tracing struct {
	// Set by New, never changed.
	key    string
	bit    int
	encode func(any) ([]byte, error)
	decode func([]byte) (any, error)
}

var (
	_ arpc.MessageCoder   = (*Tracing)(nil)
	_ arpc.CheckedEncoder = (*Tracing)(nil)
	_ arpc.CheckedDecoder = (*Tracing)(nil)
)

// Option is a setting for New.
type Option func(*Tracing)

// WithEncoder sets how the value becomes bytes. An error refuses the message.
// Default: the value must be []byte or string.
func WithEncoder(encode func(value any) ([]byte, error)) Option {
	return func(tr *Tracing) { tr.encode = encode }
}

// WithDecoder sets how bytes become the value. They are valid until it returns. An
// error refuses the message, as one that cannot be decoded. Default: a copy of them,
// as []byte.
func WithDecoder(decode func([]byte) (any, error)) Option {
	return func(tr *Tracing) { tr.decode = decode }
}

// WithBit sets which bit of the reserved byte says that there is a trailer: a second
// coder of this package, with a key of its own, needs another one. Default: 0. New
// panics unless it is 0 to 3.
func WithBit(bit int) Option {
	return func(tr *Tracing) {
		if bit < 0 || bit > maxBit {
			panic(fmt.Sprintf("tracing: WithBit: must be 0 to %d: %d", maxBit, bit))
		}
		tr.bit = bit
	}
}

// New returns a coder for arpc.Handler.UseCoder that sends the value under key. It
// panics when an option makes no sense, and for a key that is empty or longer than
// a trailer can be.
func New(key string, opts ...Option) *Tracing {
	if key == "" || len(key)+lengthLen > math.MaxUint16 {
		panic(fmt.Sprintf("tracing: the key must have 1 to %d bytes: %d", math.MaxUint16-lengthLen, len(key)))
	}
	tr := &Tracing{key: key, encode: asBytes, decode: clone}
	for _, opt := range opts {
		opt(tr)
	}
	return tr
}

func asBytes(value any) ([]byte, error) {
	switch v := value.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("it is a %T, not []byte or string (tracing.WithEncoder)", value)
}

func clone(b []byte) (any, error) { return bytes.Clone(b), nil }

// Encode is EncodeChecked without the reason: nil if the message is refused.
func (tr *Tracing) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := tr.EncodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// EncodeChecked appends the trailer, if the message has a value under the key. It
// refuses a value that cannot be encoded, a trailer longer than 65,535 bytes, and a
// message that has one already.
func (tr *Tracing) EncodeChecked(_ *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	value, ok := m.Get(tr.key)
	if !ok || m.Len() < arpc.HeadLen {
		return m, nil
	}
	b, err := tr.encode(value)
	n := len(tr.key) + len(b) + lengthLen
	switch {
	case err != nil:
		return nil, arpc.Errorf(arpc.CodeInvalidArgument, "tracing: the value of %q: %w", tr.key, err)
	case n > math.MaxUint16:
		return nil, arpc.Errorf(arpc.CodeInvalidArgument, "tracing: a trailer of %d bytes is over the limit of %d", n, math.MaxUint16)
	case m.IsFlagBitSet(tr.bit):
		return nil, arpc.Errorf(arpc.CodeInternal, "tracing: bit %d of the reserved byte is set already (tracing.WithBit)", tr.bit)
	}
	out := append(m.Buffer, tr.key...)
	out = append(out, b...)
	frame.SetBuffer(m, binary.BigEndian.AppendUint16(out, uint16(n)))
	m.SetFlagBit(tr.bit, true)
	return m, nil
}

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (tr *Tracing) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := tr.DecodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// DecodeChecked removes the trailer, in place, and sets the value on the message. A
// message without a trailer is returned as it is. The error says what is wrong; the
// message beside it is as it came.
func (tr *Tracing) DecodeChecked(_ *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	if m.Len() < arpc.HeadLen || !m.IsFlagBitSet(tr.bit) {
		return m, nil
	}
	rest, value, err := tr.split(m.Buffer)
	if err != nil {
		return m, fmt.Errorf("tracing: malformed trailer: %w", err)
	}
	v, err := tr.decode(value)
	if err != nil {
		return m, fmt.Errorf("tracing: the value of %q: %w", tr.key, err)
	}
	frame.SetBuffer(m, rest)
	m.SetFlagBit(tr.bit, false)
	m.Set(tr.key, v)
	return m, nil
}

// split returns what is before the trailer, and the value in it.
func (tr *Tracing) split(b []byte) (rest, value []byte, err error) {
	if len(b) < arpc.HeadLen+lengthLen {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n := int(binary.BigEndian.Uint16(b[len(b)-lengthLen:]))
	if n < len(tr.key)+lengthLen || n > len(b)-arpc.HeadLen {
		return nil, nil, fmt.Errorf("it says to be %d bytes, of %d with a key of %d", n, len(b)-arpc.HeadLen, len(tr.key))
	}
	rest, trailer := b[:len(b)-n], b[len(b)-n:len(b)-lengthLen]
	if string(trailer[:len(tr.key)]) != tr.key {
		return nil, nil, fmt.Errorf("its key is not %q", tr.key)
	}
	return rest, trailer[len(tr.key):], nil
}
