package proto

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Bytes is what names are made of: strings where they are written, views of what
// was received where they are read.
type Bytes interface{ ~string | ~[]byte }

// uvarintLen returns how many bytes v takes.
func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendNamed[S Bytes](dst []byte, s S) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// cursor reads one thing after the other from the start of rest. The first error
// stays; what is read behind it is zero.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) fail(what string, err error) {
	if c.err == nil {
		c.err = fmt.Errorf("%s: %w", what, err)
	}
	c.rest = nil
}

func (c *cursor) octet(what string) byte {
	if len(c.rest) == 0 {
		c.fail(what, errEmpty)
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b
}

// block reads a length of batchLen bytes, and so many bytes.
func (c *cursor) block(what string) []byte {
	if len(c.rest) < batchLen {
		c.fail(what, errEmpty)
		return nil
	}
	n := binary.LittleEndian.Uint32(c.rest)
	c.rest = c.rest[batchLen:]
	if uint64(n) > uint64(len(c.rest)) {
		c.fail(what, errOverrun)
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) uvarint(what string) uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.fail(what, errUvarint)
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) varint(what string) int64 {
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.fail(what, errUvarint)
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// bytes reads a length and so many bytes, at most limit. They are a view.
func (c *cursor) bytes(what string, limit int) []byte {
	length := c.uvarint(what)
	switch {
	case c.err != nil:
		return nil
	case length > uint64(limit):
		c.fail(what, tooLong(length, limit))
		return nil
	case length > uint64(len(c.rest)):
		c.fail(what, errOverrun)
		return nil
	}
	b := c.rest[:length:length]
	c.rest = c.rest[length:]
	return b
}

// end says that nothing may follow.
func (c *cursor) end() {
	if c.err == nil && len(c.rest) > 0 {
		c.fail("end", errLongerNo)
	}
}

func (c *cursor) malformed(record string) error {
	if c.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrMalformed, record, c.err)
}

func tooLong(length uint64, limit int) error {
	return fmt.Errorf("%d bytes are longer than the limit of %d", length, limit)
}

// Records of fields are a tag, a length and a value each, in any order. Of a field
// that comes twice the last counts; unknown tags are skipped. Fields that are zero
// are left out.

// parseFields calls set for each field of a record.
func parseFields(record string, body []byte, set func(tag uint64, value []byte) error) error {
	if err := eachField(body, set); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, record, err)
	}
	return nil
}

func eachField(body []byte, set func(tag uint64, value []byte) error) error {
	c := cursor{rest: body}
	for len(c.rest) > 0 && c.err == nil {
		tag := c.uvarint("tag")
		value := c.bytes("field", math.MaxInt)
		if c.err == nil {
			if err := set(tag, value); err != nil {
				return fmt.Errorf("field %d: %w", tag, err)
			}
		}
	}
	return c.err
}

func fieldNumber(dst []byte, tag, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return fieldNumberAlways(dst, tag, v)
}

func fieldNumberAlways(dst []byte, tag, v uint64) []byte {
	dst = binary.AppendUvarint(dst, tag)
	dst = append(dst, byte(uvarintLen(v)))
	return binary.AppendUvarint(dst, v)
}

func fieldBool(dst []byte, tag uint64, v bool) []byte {
	if !v {
		return dst
	}
	return fieldNumberAlways(dst, tag, 1)
}

func fieldTime(dst []byte, tag uint64, v int64) []byte {
	if v == 0 {
		return dst
	}
	return fieldNumberAlways(dst, tag, uint64(v)<<1^uint64(v>>63)) // as binary.AppendVarint has it
}

func fieldBytes[S Bytes](dst []byte, tag uint64, v S) []byte {
	if len(v) == 0 {
		return dst
	}
	return appendNamed(binary.AppendUvarint(dst, tag), v)
}

func setNumber(v *uint64, value []byte) error {
	n, size := binary.Uvarint(value)
	if size <= 0 || size != len(value) {
		return errNotNumber
	}
	*v = n
	return nil
}

func setInt(v *int, value []byte) error {
	var n uint64
	if err := setNumber(&n, value); err != nil {
		return err
	}
	if n > math.MaxInt32 {
		return errTooLarge
	}
	*v = int(n)
	return nil
}

func setBool(v *bool, value []byte) error {
	var n uint64
	err := setNumber(&n, value)
	*v = n != 0
	return err
}

func setTime(v *int64, value []byte) error {
	n, size := binary.Varint(value)
	if size <= 0 || size != len(value) {
		return errNotNumber
	}
	*v = n
	return nil
}

func setString(v *string, value []byte, limit int) error {
	if len(value) > limit {
		return tooLong(uint64(len(value)), limit)
	}
	*v = string(value)
	return nil
}
