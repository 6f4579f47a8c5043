// Package compress is what the coders zstd and s2 have in common: of a message
// that is longer than a threshold and gets shorter, what is behind header and
// method is replaced by compressed data, and a bit of the reserved byte says so.
// Header and method stay readable.
package compress

import (
	"fmt"
	"sync"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

// DefaultThreshold is the default of the coders' WithThreshold in bytes.
const DefaultThreshold = 1024

const (
	// maxPooled is the capacity in bytes above which a buffer is not pooled.
	maxPooled = 256 << 10
	// maxPlain is the length in bytes above which a message is not compressed.
	maxPlain = 1 << 30
)

// compressed are the bits of all coders that compress.
const compressed = 1<<frame.S2 | 1<<frame.Zstd | 1<<frame.Gzip

// Method is a way to compress. It is safe for concurrent use.
type Method interface {
	// Compress returns the compressed form of plain, in memory of its own or in
	// that of buf.
	Compress(buf, plain []byte) []byte
	// PlainLen returns how many bytes data says that it decompresses to.
	PlainLen(data []byte) (int64, error)
	// Decompress decompresses data, which must be just len(dst) bytes, to dst.
	Decompress(dst, data []byte) error
}

// Coder compresses messages. It is safe for concurrent use.
type Coder struct {
	// Set before it is used, never changed.
	Name       string // for errors: that of the package
	Setting    string // for errors: what MaxDecoded is from
	Bit        int    // of the reserved byte
	Threshold  int    // messages of up to so many bytes stay as they are
	MaxDecoded int    // bytes, header included; 0: as the client's limit
	Method     Method

	buffers sync.Pool // of *[]byte
}

// Check panics when an option makes no sense.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}

func (cd *Coder) limit(c *arpc.Client, m *arpc.Message) frame.Limit {
	return frame.LimitOf(c, cd.MaxDecoded, cd.Setting).For(m)
}

// Encode compresses m in place, if it is worth it. What is compressed already, by
// whichever coder, stays as it is.
func (cd *Coder) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	head, ok := frame.Head(m)
	if ok && m.Len() > cd.Threshold && m.Buffer[4]&compressed == 0 && int64(m.Len()) <= min(cd.limit(c, m).Bytes, maxPlain) {
		cd.compress(m, head)
	}
	return m
}

func (cd *Coder) compress(m *arpc.Message, head int) {
	plain := m.Buffer[head:]
	buf, _ := cd.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	data := cd.Method.Compress((*buf)[:0], plain)
	*buf = data
	if len(data) < len(plain) {
		frame.SetBuffer(m, append(m.Buffer[:head], data...))
		m.SetFlagBit(cd.Bit, true)
	}
	if cap(*buf) <= maxPooled {
		cd.buffers.Put(buf)
	}
}

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (cd *Coder) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := cd.DecodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// DecodeChecked decompresses a message that is marked into memory of its own, and
// returns any other as it is. Beside an error there is the message as it came.
func (cd *Coder) DecodeChecked(c *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	if m.Len() < arpc.HeadLen || !m.IsFlagBitSet(cd.Bit) {
		return m, nil
	}
	head, ok := frame.Head(m)
	if !ok {
		return m, fmt.Errorf("%s: the message ends within its method", cd.Name)
	}
	data := m.Buffer[head:]
	n, err := cd.Method.PlainLen(data)
	if err != nil {
		return m, fmt.Errorf("%s: the compressed data is corrupt: %w", cd.Name, err)
	}
	if limit := cd.limit(c, m); n > limit.Bytes-int64(head) {
		return m, limit.Exceeded(cd.Name, n+int64(head))
	}
	plain := make([]byte, int64(head)+n)
	if err := cd.Method.Decompress(plain[head:], data); err != nil {
		return m, fmt.Errorf("%s: the compressed data is corrupt: %w", cd.Name, err)
	}
	copy(plain, m.Buffer[:head])
	frame.SetBuffer(m, plain)
	m.SetFlagBit(cd.Bit, false)
	return m, nil
}
