package arpctest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/arpc-go/arpc"
)

// The commands of version 2 that carry no message, and the flags of headers.
const (
	cmdCancel = 7
	cmdWindow = 8
	cmdGoAway = 9

	flagError    = 0x01
	flagAsync    = 0x02
	flagMetadata = 0x04
	streamEnd    = 0x40
	streamOpener = 0x80
)

// coderFrame is a frame before it is coded.
type coderFrame struct {
	name  string
	bytes []byte
}

// frame makes a frame. Metadata is a section as version 2 has it, or nothing.
func frame(cmd, flag byte, method, metadata string, payload []byte) []byte {
	b := make([]byte, arpc.HeadLen, arpc.HeadLen+len(method)+len(metadata)+len(payload)+8)
	b[5], b[6], b[7] = cmd, flag, byte(len(method))
	binary.LittleEndian.PutUint64(b[8:], 0x0102030405060708)
	b = append(b, method...)
	if metadata != "" {
		b[6] |= flagMetadata
		b = binary.AppendUvarint(b, uint64(len(metadata)))
		b = append(b, metadata...)
	}
	return fitted(append(b, payload...))
}

// fitted sets the length in a frame's header.
func fitted(b []byte) []byte {
	if len(b) >= arpc.HeadLen {
		binary.LittleEndian.PutUint32(b, uint32(len(b)-arpc.HeadLen))
	}
	return b
}

// manyKinds is the length in bytes of the longest payload that all kinds of messages
// are made with.
const manyKinds = 6000

// coderFrames returns messages of all kinds, and of all sizes up to a limit.
func coderFrames(limit int) (frames []coderFrame) {
	kinds := map[string]struct {
		cmd, flag byte
		method    string
	}{
		"request":            {arpc.CmdRequest, 0, "/echo"},
		"async request":      {arpc.CmdRequest, flagAsync, "/echo"},
		"response":           {arpc.CmdResponse, 0, "/echo"},
		"error response":     {arpc.CmdResponse, flagError | flagAsync, "/echo"},
		"notification":       {arpc.CmdNotify, flagAsync, "n"},
		"pushed":             {arpc.CmdNotify, 0, strings.Repeat("m", 127)},
		"stream":             {arpc.CmdStream | streamOpener, 0, "/stream"},
		"end of a stream":    {arpc.CmdStream | streamEnd, 0, "/stream"},
		"cancel":             {cmdCancel, 0, ""},
		"window":             {cmdWindow | streamOpener, 0, ""},
		"go-away":            {cmdGoAway, 0, ""},
		"cancel of a stream": {cmdCancel | streamEnd, 0, ""},
	}
	metadata := "\x04\x09\x03key" + "value" // a pair, as a section has it
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for _, payload := range coderPayloads(limit) {
			if len(payload.bytes) > manyKinds && kind != "request" {
				continue
			}
			for _, section := range []string{"", metadata} {
				of := kinds[kind]
				frames = append(frames, coderFrame{
					fmt.Sprintf("%s with %s and %d bytes of metadata", kind, payload.name, len(section)),
					frame(of.cmd, of.flag, of.method, section, payload.bytes),
				})
			}
		}
	}
	return frames
}

// coderPayloads returns some that get shorter, and some that do not.
func coderPayloads(limit int) (payloads []coderFrame) {
	noise := make([]byte, limit)
	rand.NewChaCha8([32]byte{5}).Read(noise)
	text := bytes.Repeat([]byte(`{"id":12345,"name":"somebody","state":"open"},`), limit/46+1)
	for n := range sizes(limit) {
		payloads = append(payloads,
			coderFrame{fmt.Sprintf("%d bytes of text", n), text[:n]},
			coderFrame{fmt.Sprintf("%d bytes of noise", n), noise[:n]},
			coderFrame{fmt.Sprintf("%d zeros", n), make([]byte, n)})
	}
	return payloads
}

// sizes yields small and large sizes, and those around powers of two.
func sizes(limit int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for n := 0; n <= limit; n = 4*n + 1 {
			for _, size := range []int{n, n + 1} {
				if size <= limit && !yield(size) {
					return
				}
			}
		}
	}
}

// message returns a message of a frame, which it copies, with the spec's values.
func (k *coderKit) message(b []byte) *arpc.Message {
	m := &arpc.Message{Buffer: bytes.Clone(b)}
	for key, value := range k.spec.Values {
		m.Set(key, value)
	}
	return m
}

// encode returns the frame as it travels, and checks what holds for any coder.
func (k *coderKit) encode(coder arpc.MessageCoder, c *arpc.Client, plain []byte) ([]byte, error) {
	m, err := encode(coder, c, k.message(plain))
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", excerpt(plain), err)
	}
	b := bytes.Clone(m.Buffer)
	switch {
	case !sound(b):
		return nil, fmt.Errorf("encode: got a message of %d bytes whose length is said to be %d: %s", len(b), m.BodyLen(), excerpt(b))
	case isPing(b):
		return nil, fmt.Errorf("encode: got a message that is taken for a ping: %s", excerpt(b))
	case len(b) > len(plain)+k.spec.MaxGrowth:
		return nil, fmt.Errorf("encode: got %d bytes of %d, which is more than CoderSpec.MaxGrowth", len(b), len(plain))
	}
	return b, nil
}

// encode encodes a message as a connection does. A nil message is an error.
func encode(coder arpc.MessageCoder, c *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	if checked, ok := coder.(arpc.CheckedEncoder); ok {
		out, err := checked.EncodeChecked(c, m)
		if out == nil && err == nil {
			return nil, fmt.Errorf("%w: EncodeChecked returned neither a message nor an error", errCoder)
		}
		return out, err
	}
	if m = coder.Encode(c, m); m == nil {
		return nil, errors.New("it was refused")
	}
	return m, nil
}

// sound reports whether a frame has the length that it says.
func sound(b []byte) bool {
	return len(b) >= arpc.HeadLen && int64(binary.LittleEndian.Uint32(b)) == int64(len(b)-arpc.HeadLen)
}

// isPing reports whether a peer without coders takes a frame for a ping or pong.
func isPing(b []byte) bool {
	cmd := b[5] & 0x3f
	return cmd == arpc.CmdPing || cmd == arpc.CmdPong
}

// decode decodes a frame as a connection does. A nil message is an error.
func decode(coder arpc.MessageCoder, c *arpc.Client, b []byte) (*arpc.Message, error) {
	m := &arpc.Message{Buffer: bytes.Clone(b)}
	if checked, ok := coder.(arpc.CheckedDecoder); ok {
		out, err := checked.DecodeChecked(c, m)
		if out == nil && err == nil {
			return nil, fmt.Errorf("%w: DecodeChecked returned neither a message nor an error", errCoder)
		}
		return out, err
	}
	if m = coder.Decode(c, m); m == nil {
		return nil, fmt.Errorf("it was refused: %s", excerpt(b))
	}
	return m, nil
}
