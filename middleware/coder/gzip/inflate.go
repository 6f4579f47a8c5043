package gzip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/gzip"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

const (
	// minStream is the length in bytes of a gzip header and trailer.
	minStream = 10 + 8
	// maxRatio is what deflate can make of a byte at most: it takes two bits
	// to repeat 258 bytes.
	maxRatio = 4 * 258
)

var (
	errTrailing = errors.New("gzip: bytes follow the compressed data")
	errLonger   = errors.New("gzip: the data decodes to more bytes than its trailer says")
)

// inflater decompresses one frame after the other.
type inflater struct {
	src bytes.Reader
	zr  gzip.Reader
	one [1]byte
}

// inflate returns the whole frame that was compressed to sealed. Its length is
// taken from the trailer of the gzip data, so that the right amount is allocated
// at once, after it was held against the limit and against what is possible. Of
// a frame over the limit it returns the header and the method, and an error.
func (f *inflater) inflate(sealed []byte, most frame.Limit) ([]byte, error) {
	data := sealed[start:]
	n, err := plainLen(data)
	if err != nil {
		return nil, err
	}
	n += start
	if n > most.Bytes {
		return f.head(sealed, n), most.Exceeded("gzip", n)
	}
	plain := newFrame(sealed, n, n)
	if err := f.fill(plain[start:], data); err != nil {
		return nil, err
	}
	return plain, nil
}

// newFrame returns the first size bytes of a frame of n bytes. What follows the
// mark is not set.
func newFrame(sealed []byte, size, n int64) []byte {
	frame := make([]byte, size)
	binary.LittleEndian.PutUint32(frame, uint32(n-arpc.HeadLen))
	frame[start-1] = sealed[start-1] &^ (1 << flagBit)
	return frame
}

// head returns the header and the method of a frame of n bytes, nil if they
// cannot be read.
func (f *inflater) head(sealed []byte, n int64) []byte {
	defer f.src.Reset(nil)
	if f.open(sealed[start:]) != nil {
		return nil
	}
	frame := newFrame(sealed, arpc.HeadLen+math.MaxUint8, n)
	if _, err := io.ReadFull(&f.zr, frame[start:arpc.HeadLen]); err != nil {
		return nil
	}
	frame = frame[:arpc.HeadLen+int(frame[7])]
	if _, err := io.ReadFull(&f.zr, frame[arpc.HeadLen:]); err != nil {
		return nil
	}
	return frame
}

// plainLen returns the decoded length that the trailer of data claims.
func plainLen(data []byte) (int64, error) {
	if len(data) < minStream {
		return 0, fmt.Errorf("gzip: %d bytes are less than a gzip header and trailer: %w", len(data), io.ErrUnexpectedEOF)
	}
	n := int64(binary.LittleEndian.Uint32(data[len(data)-4:]))
	switch {
	case n > maxRatio*int64(len(data)):
		return 0, fmt.Errorf("gzip: the trailer says %d bytes, which %d bytes of data cannot hold", n, len(data))
	case n < arpc.HeadLen-start:
		return 0, fmt.Errorf("gzip: the trailer says %d bytes, which is less than a message header", n)
	}
	return n, nil
}

// fill decompresses data, which must be one gzip stream of just len(dst) bytes.
func (f *inflater) fill(dst, data []byte) error {
	defer f.src.Reset(nil)
	if err := f.open(data); err != nil {
		return explain(err)
	}
	if _, err := io.ReadFull(&f.zr, dst); err != nil {
		return f.ended(err)
	}
	n, err := io.ReadFull(&f.zr, f.one[:])
	if n > 0 {
		return errLonger
	}
	if err == io.EOF && f.src.Len() == 0 {
		return nil
	}
	return f.ended(err)
}

// open starts to decompress data, of which f is to let go afterwards.
func (f *inflater) open(data []byte) error {
	f.src.Reset(data)
	if err := f.zr.Reset(&f.src); err != nil {
		return err
	}
	f.zr.Multistream(false)
	return nil
}

// ended says why the stream did not end where it should.
func (f *inflater) ended(err error) error {
	if f.src.Len() > 0 && (err == io.EOF || err == io.ErrUnexpectedEOF) {
		return errTrailing
	}
	return explain(err)
}

func explain(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("gzip: the compressed data is corrupt: %w", err)
}
