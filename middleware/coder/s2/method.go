package s2

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/s2"
)

// checksumLen is the length in bytes of the checksum before the block, which has
// none of its own.
const checksumLen = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("the checksum is wrong")

// method is S2 as package compress knows it, at a level.
type method int

func (level method) Compress(buf, plain []byte) []byte {
	buf = slices.Grow(buf[:0], checksumLen+s2.MaxEncodedLen(len(plain)))[:checksumLen]
	binary.LittleEndian.PutUint32(buf, crc32.Checksum(plain, castagnoli))
	block := buf[checksumLen:cap(buf)]
	switch level {
	case 1:
		block = s2.Encode(block, plain)
	case 2:
		block = s2.EncodeBetter(block, plain)
	default:
		block = s2.EncodeBest(block, plain)
	}
	return buf[:checksumLen+len(block)]
}

func (method) PlainLen(data []byte) (int64, error) {
	if len(data) < checksumLen {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s2.DecodedLen(data[checksumLen:])
	return int64(n), err
}

func (method) Decompress(dst, data []byte) error {
	plain, err := s2.Decode(dst, data[checksumLen:])
	if err == nil && crc32.Checksum(plain, castagnoli) != binary.LittleEndian.Uint32(data) {
		err = errChecksum
	}
	return err
}
