package gzip

import (
	"errors"

	"github.com/klauspost/compress/gzip"
)

// maxPooled is the capacity in bytes above which a buffer is not pooled.
const maxPooled = 256 << 10

// deflater compresses one frame after the other into its own buffer.
type deflater struct {
	zw  *gzip.Writer
	out []byte
	max int // bytes that out may have
}

func newDeflater(level int) *deflater {
	zw, err := gzip.NewWriterLevel(nil, level)
	if err != nil {
		panic(err) // WithLevel has checked it
	}
	return &deflater{zw: zw}
}

// deflate returns plain as gzip data, which is valid until the next call, and
// whether it is shorter.
func (d *deflater) deflate(plain []byte) ([]byte, bool) {
	d.out, d.max = d.out[:0], len(plain)-1
	d.zw.Reset(d)
	if _, err := d.zw.Write(plain); err != nil {
		return nil, false
	}
	return d.out, d.zw.Close() == nil
}

var errNotShorter = errors.New("gzip: the data does not get shorter")

// Write takes compressed data, and stops the compressor when there is no point
// in going on.
func (d *deflater) Write(p []byte) (int, error) {
	if len(d.out)+len(p) > d.max {
		return 0, errNotShorter
	}
	d.out = append(d.out, p...)
	return len(p), nil
}
