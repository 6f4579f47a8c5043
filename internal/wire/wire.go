// Package wire reads and writes the frames of the arpc protocol. It is pure:
// no I/O, no state, no allocation beyond the slice that is appended to.
// docs/PROTOCOL.md is the normative description.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	// HeaderLen is the fixed length of a frame's header in bytes.
	HeaderLen = 16
	// MaxMethodLen is the longest method name in bytes.
	MaxMethodLen = 127
	// DefaultMaxBodyLen is the largest body (method and payload) in bytes that
	// peers accept unless told otherwise.
	DefaultMaxBodyLen = 64<<20 - HeaderLen
)

// Commands, the low six bits of a header's command byte.
const (
	CmdRequest  byte = 1
	CmdResponse byte = 2
	CmdNotify   byte = 3
	CmdPing     byte = 4
	CmdPong     byte = 5
	CmdStream   byte = 6
	CmdCancel   byte = 7 // 7 to 9: only to a peer that announced them
	CmdWindow   byte = 8
	CmdGoAway   byte = 9

	CmdMask byte = 0x3f
)

// withoutMethod holds a bit for each command whose method may be empty.
const withoutMethod uint64 = 1<<CmdPing | 1<<CmdPong | 1<<CmdCancel | 1<<CmdWindow | 1<<CmdGoAway

// Bits of the command byte of a stream frame. StreamEnd also marks a Cancel
// that is about a stream, and a GoAway that acknowledges one.
const (
	StreamEnd    byte = 0x40 // the sender sends no more on this stream
	StreamOpener byte = 0x80 // sent by the side that opened the stream
)

// Bits of the flag byte.
const (
	FlagError byte = 0x01
	FlagAsync byte = 0x02
	FlagMeta  byte = 0x04 // a metadata section follows the method
	FlagOpen  byte = 0x08 // this stream frame opens its stream
)

// Reasons why a frame whose length is sound cannot be understood. The bytes
// after it are still in step, so the connection can go on.
var (
	ErrMethodEmpty    = errors.New("the method name is empty")
	ErrMethodTooLong  = fmt.Errorf("the method name is longer than %d bytes", MaxMethodLen)
	ErrMethodOverruns = errors.New("the method name is longer than the body")
)

// Header is the fixed part of a frame.
type Header struct {
	BodyLen   uint32 // bytes after the header: method, metadata section and payload
	Reserved  byte   // bits owned by coders
	Cmd       byte   // command in the low six bits, stream bits above
	Flag      byte
	MethodLen byte
	Seq       uint64
}

// Command returns the command without the stream bits.
func (h Header) Command() byte { return h.Cmd & CmdMask }

// FrameLen returns the length of the whole frame in bytes. BodyLen is what the
// peer says: hold it against the limit first.
func (h Header) FrameLen() int { return HeaderLen + int(h.BodyLen) }

// Check says whether the method's length fits the command and the body.
func (h Header) Check() error {
	switch {
	case h.MethodLen > MaxMethodLen:
		return ErrMethodTooLong
	case uint32(h.MethodLen) > h.BodyLen:
		return ErrMethodOverruns
	case h.MethodLen == 0 && withoutMethod>>h.Command()&1 == 0:
		return ErrMethodEmpty
	}
	return nil
}

// ParseHeader reads the header at the start of b, which holds at least
// HeaderLen bytes.
func ParseHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		BodyLen:   binary.LittleEndian.Uint32(b),
		Reserved:  b[4],
		Cmd:       b[5],
		Flag:      b[6],
		MethodLen: b[7],
		Seq:       binary.LittleEndian.Uint64(b[8:]),
	}
}

// PutHeader writes h over the first HeaderLen bytes of b.
func PutHeader(b []byte, h Header) {
	_ = b[HeaderLen-1]
	binary.LittleEndian.PutUint32(b, h.BodyLen)
	b[4], b[5], b[6], b[7] = h.Reserved, h.Cmd, h.Flag, h.MethodLen
	binary.LittleEndian.PutUint64(b[8:], h.Seq)
}

// AppendHeader appends h to dst.
func AppendHeader(dst []byte, h Header) []byte {
	n := len(dst)
	dst = slices.Grow(dst, HeaderLen)[:n+HeaderLen]
	PutHeader(dst[n:], h)
	return dst
}

// AppendFrame appends a whole frame to dst. The lengths in h are set from
// method, at most MaxMethodLen bytes, and payload.
func AppendFrame[P ~string | ~[]byte](dst []byte, h Header, method string, payload P) []byte {
	h.MethodLen = byte(len(method))
	h.BodyLen = uint32(len(method) + len(payload))
	dst = AppendHeader(dst, h)
	dst = append(dst, method...)
	return append(dst, payload...)
}

// Split returns the method and the payload of a whole frame that passed
// Header.Check. Both are views into frame; appending to one copies it.
func Split(frame []byte, h Header) (method, payload []byte) {
	end := HeaderLen + int(h.MethodLen)
	return frame[HeaderLen:end:end], frame[end:len(frame):len(frame)]
}
