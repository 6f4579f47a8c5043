package s2_test

import (
	"encoding/binary"
	"hash/crc32"
)

// naive decodes a checksum and a block, as their description says, to at most limit
// bytes.
func naive(data []byte, limit int) (plain []byte, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	sum, in := binary.LittleEndian.Uint32(data), data[4:]
	n, used := binary.Uvarint(in)
	if used <= 0 || used > 5 || n > uint64(limit) {
		return nil, false
	}
	d := &decoder{in: in[used:], limit: int(n)}
	for len(d.in) > 0 {
		d.step()
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	return d.out, len(d.out) == int(n) && crc32.Checksum(d.out, castagnoli) == sum
}

// decoder panics at what is wrong with a block.
type decoder struct {
	in, out []byte
	limit   int
	offset  int
}

// number takes some bytes as a little-endian number.
func (d *decoder) number(length int) int {
	var b [8]byte
	copy(b[:], d.in[:length])
	d.in = d.in[length:]
	return int(binary.LittleEndian.Uint64(b[:]))
}

func (d *decoder) step() {
	switch tag := d.number(1); tag & 3 {
	case 0:
		length := tag >> 2
		if length >= 60 {
			length = d.number(length - 59)
		}
		d.append(d.in[:length+1])
		d.in = d.in[length+1:]
	case 1:
		length := tag >> 2 & 7
		if near := tag>>5<<8 | d.number(1); near != 0 {
			d.offset = near
		} else if length > 4 { // the same offset again, and more length
			length = []int{4, 1 << 8, 1 << 16}[length-5] + d.number(length-4)
		}
		d.again(length + 4)
	case 2:
		d.offset = d.number(2)
		d.again(tag>>2 + 1)
	case 3:
		d.offset = d.number(4)
		d.again(tag>>2 + 1)
	}
}

func (d *decoder) append(b []byte) {
	if len(d.out)+len(b) > d.limit {
		panic("too long")
	}
	d.out = append(d.out, b...)
}

// again repeats what is offset bytes back.
func (d *decoder) again(length int) {
	if d.offset <= 0 || d.offset > len(d.out) || len(d.out)+length > d.limit {
		panic("no such bytes")
	}
	for range length {
		d.out = append(d.out, d.out[len(d.out)-d.offset])
	}
}
