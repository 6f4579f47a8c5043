package buffstreams

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// DefaultMaxMessageSize is the limit in bytes when MaxMessageSize is 0.
const DefaultMaxMessageSize = 4096

// largestMessage is the highest MaxMessageSize, so that sizes are ints on every
// system.
const largestMessage = 1 << 30

// framing is the form of a message on the wire: its size as a signed varint,
// followed by zeros up to the length of the header, then its bytes.
type framing struct {
	max    int // bytes of a message
	header int // bytes
}

// newFraming returns the framing for a MaxMessageSize.
func newFraming(max int) (framing, error) {
	if max == 0 {
		max = DefaultMaxMessageSize
	}
	if max < 0 || max > largestMessage {
		return framing{}, fmt.Errorf("buffstreams: MaxMessageSize must be 0 to %d, not %d", largestMessage, max)
	}
	return framing{max, headerLen(max)}, nil
}

// headerLen is BuffStreams' formula: as many bytes as the largest size has, and
// one more.
func headerLen(max int) int { return (bits.Len(uint(max))+7)/8 + 1 }

// appendHeader appends the header of a message of so many bytes, at most max.
func (f framing) appendHeader(dst []byte, size int) []byte {
	v := uint64(size) << 1 // what zigzag makes of a positive number
	for range f.header {
		b := byte(v & 0x7f)
		if v >>= 7; v > 0 {
			b |= 0x80
		}
		dst = append(dst, b)
	}
	return dst
}

// parseHeader returns the size in a whole header. It takes nothing but what
// appendHeader makes: with other bytes behind the varint, the ends have different
// ideas of how long a header is.
func (f framing) parseHeader(h []byte) (int, error) {
	v, n := binary.Uvarint(h)
	switch {
	case n <= 0, n > 1 && h[n-1] == 0, !zeros(h[n:]):
		return 0, fmt.Errorf("%w: %x is none of %d bytes; do both ends have the same MaxMessageSize?", ErrMalformed, h, f.header)
	case v&1 != 0:
		return 0, fmt.Errorf("%w: %x announces a negative size", ErrMalformed, h)
	case v>>1 > uint64(f.max):
		return 0, tooLarge(v>>1, f.max)
	}
	return int(v >> 1), nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func tooLarge(size uint64, max int) error {
	return fmt.Errorf("%w: %d bytes, at most %d are allowed (MaxMessageSize)", ErrTooLarge, size, max)
}

// whole returns how long the frames are that b has from its beginning to their
// ends, and how many there are. It is for frames of our own.
func (f framing) whole(b []byte) (length, frames int) {
	for len(b)-length >= f.header {
		size, _ := binary.Uvarint(b[length:])
		end := length + f.header + int(size>>1)
		if end > len(b) {
			break
		}
		length, frames = end, frames+1
	}
	return length, frames
}

// cut splits frames of our own behind the first, and returns its message.
func (f framing) cut(frames []byte) (message, rest []byte) {
	size, _ := binary.Uvarint(frames)
	end := f.header + int(size>>1)
	return frames[f.header:end:end], frames[end:]
}
