package zstd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

const (
	// window is how many bytes back the encoder looks for repetitions, and so
	// what it remembers at a time.
	window = 1 << 20
	// maxBlock is what one block decodes to at most, in bytes.
	maxBlock = 128 << 10
	// checksumLen is the length in bytes of the checksum of a frame.
	checksumLen = 4
)

// The types of blocks.
const (
	blockRaw = iota
	blockRLE
	blockCompressed
)

// nothing is a frame of an empty block.
var nothing = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}

// trained is what a trained dictionary begins with, before its id.
var trained = []byte{0x37, 0xa4, 0x30, 0xec}

// dictionaryID returns the id that a trained dictionary has, or one made of the
// content of any other, in the range that is for private use.
func dictionaryID(dictionary []byte) uint32 {
	if bytes.HasPrefix(dictionary, trained) && len(dictionary) >= 8 {
		return binary.LittleEndian.Uint32(dictionary[4:])
	}
	sum := sha256.Sum256(dictionary)
	return binary.LittleEndian.Uint32(sum[:])&math.MaxInt32 | 1<<15
}

// method is zstd as package compress knows it.
type method struct {
	encoder  *zstd.Encoder      // of GOMAXPROCS encoders
	decoders chan *zstd.Decoder // GOMAXPROCS of them; a channel, so that each can be reset
}

func newMethod(cfg *config) (*method, error) {
	encoding := []zstd.EOption{
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(cfg.level)),
		zstd.WithWindowSize(window),
		zstd.WithSingleSegment(true), // so that the decoded size is always there
		zstd.WithLowerEncoderMem(true),
	}
	decoding := []zstd.DOption{
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(math.MaxUint32), // a frame that is one segment has its size as window
	}
	switch dictionary := cfg.dictionary; {
	case dictionary == nil:
	case bytes.HasPrefix(dictionary, trained):
		encoding = append(encoding, zstd.WithEncoderDict(dictionary))
		decoding = append(decoding, zstd.WithDecoderDicts(dictionary))
	default:
		dictionary, id := bytes.Clone(dictionary), dictionaryID(dictionary)
		encoding = append(encoding, zstd.WithEncoderDictRaw(id, dictionary))
		decoding = append(decoding, zstd.WithDecoderDictRaw(id, dictionary))
	}
	encoder, err := zstd.NewWriter(nil, encoding...)
	if err != nil {
		return nil, err
	}
	z := &method{encoder, make(chan *zstd.Decoder, runtime.GOMAXPROCS(0))}
	for range cap(z.decoders) {
		decoder, err := zstd.NewReader(nil, decoding...)
		if err != nil {
			return nil, err
		}
		z.decoders <- decoder
	}
	return z, nil
}

func (z *method) Compress(buf, plain []byte) []byte { return z.encoder.EncodeAll(plain, buf[:0]) }

// PlainLen returns the decoded size in the frame's header, after it was held
// against the blocks.
func (z *method) PlainLen(data []byte) (int64, error) {
	var header zstd.Header
	if err := header.Decode(data); err != nil {
		return 0, err
	}
	if !header.HasFCS {
		return 0, errors.New("the frame does not tell its decoded size")
	}
	least, most, rest, err := blocks(data[header.HeaderSize:])
	if err != nil {
		return 0, err
	}
	if header.HasCheckSum {
		if len(rest) < checksumLen {
			return 0, io.ErrUnexpectedEOF
		}
		rest = rest[checksumLen:]
	}
	switch n := header.FrameContentSize; {
	case len(rest) > 0:
		return 0, errors.New("bytes follow the frame")
	case n < least || n > most:
		return 0, fmt.Errorf("the frame says %d bytes, its blocks have %d to %d", n, least, most)
	}
	return int64(header.FrameContentSize), nil
}

// blocks returns how many bytes the blocks of a frame have at least and at most,
// after decoding, and what follows them.
func blocks(data []byte) (least, most uint64, rest []byte, err error) {
	for last := false; !last; {
		if len(data) < 3 {
			return 0, 0, nil, io.ErrUnexpectedEOF
		}
		header := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16
		last = header&1 != 0
		size, length := uint64(header>>3), uint64(header>>3)
		switch header >> 1 & 3 {
		case blockRaw:
		case blockRLE:
			length = 1
		case blockCompressed:
			size = 0
			most += maxBlock
		default:
			return 0, 0, nil, errors.New("a block has no type")
		}
		least, most, data = least+size, most+size, data[3:]
		if length > uint64(len(data)) {
			return 0, 0, nil, io.ErrUnexpectedEOF
		}
		data = data[length:]
	}
	return least, most, data, nil
}

// Decompress needs no look at the length: the decoder holds it against the header,
// as PlainLen has done.
func (z *method) Decompress(dst, data []byte) error {
	decoder := <-z.decoders
	defer func() { z.decoders <- decoder }() // whatever happens: others wait for it
	_, err := decoder.DecodeAll(data, dst[:0:len(dst)])
	decoder.DecodeAll(nothing, nil) // instead of data and dst, which it would keep
	return err
}
