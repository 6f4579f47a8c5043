package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// Reasons why fields cannot be read.
var (
	errUvarint   = errors.New("a number is cut short or longer than 64 bits")
	errOverrun   = errors.New("a length runs beyond the end")
	errNotNumber = errors.New("the value is not one number")
	errTooLarge  = errors.New("the number is too large")
)

// uvarintLen returns how many bytes v takes.
func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// takeBytes reads a length, of one byte most of the time, and that many bytes from
// the start of b.
func takeBytes(b []byte) (value, rest []byte, err error) {
	if len(b) > 0 && int(b[0]) <= min(len(b)-1, 0x7f) {
		end := 1 + int(b[0])
		return b[1:end:end], b[end:], nil
	}
	length, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, errUvarint
	}
	b = b[n:]
	if length > uint64(len(b)) {
		return nil, nil, errOverrun
	}
	return b[:length:length], b[length:], nil
}

// takeField reads the field at the start of b: tag, length, value. Nearly every
// field has a tag and a length of one byte.
func takeField(b []byte) (tag uint64, value, rest []byte, err error) {
	if len(b) >= 2 && b[0] < 0x80 && int(b[1]) <= min(len(b)-2, 0x7f) {
		end := 2 + int(b[1])
		return uint64(b[0]), b[2:end:end], b[end:], nil
	}
	return takeFieldSlow(b)
}

func takeFieldSlow(b []byte) (tag uint64, value, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, nil, errUvarint
	}
	value, rest, err = takeBytes(b[n:])
	return tag, value, rest, err
}

// ParseUvarint reads a body that is one number with nothing behind it, such as
// that of a Window frame.
func ParseUvarint(body []byte) (uint64, error) {
	v, n := binary.Uvarint(body)
	if n == 0 || n != len(body) {
		return 0, errNotNumber
	}
	return v, nil
}

func parseUint32(value []byte) (uint32, error) {
	v, err := ParseUvarint(value)
	if err != nil {
		return 0, err
	}
	if v > math.MaxUint32 {
		return 0, errTooLarge
	}
	return uint32(v), nil
}

// AppendUvarintBody appends what ParseUvarint reads.
func AppendUvarintBody(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func appendNumber(dst []byte, tag, v uint64) []byte {
	dst = binary.AppendUvarint(dst, tag)
	dst = append(dst, byte(uvarintLen(v)))
	return binary.AppendUvarint(dst, v)
}

func appendBytes[V ~string | ~[]byte](dst []byte, tag uint64, value V) []byte {
	dst = binary.AppendUvarint(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// appendNamed appends a field whose value is a name, with its length before it,
// and data.
func appendNamed[V ~string | ~[]byte](dst []byte, tag uint64, name string, data V) []byte {
	length := uint64(len(name))
	dst = binary.AppendUvarint(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(uvarintLen(length))+length+uint64(len(data)))
	dst = binary.AppendUvarint(dst, length)
	dst = append(dst, name...)
	return append(dst, data...)
}
