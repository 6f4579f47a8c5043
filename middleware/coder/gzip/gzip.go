// Package gzip is a coder that compresses messages, in the form that version 1
// peers know: of a frame that is longer than a threshold and gets shorter, the
// bytes from offset 5 on are replaced by gzip data (RFC 1952), and bit 7 of the
// reserved byte says so. All other frames stay as they are.
//
// Both ends register it, once, at the same place in their chains of coders:
//
//	handler.UseCoder(gzip.New())
//
// The header of a compressed frame is not readable, so a peer without the coder
// ends the connection at the first one, and so does a peer that gets gzip data
// that is corrupt: all calls in flight on it fail at once. A message over the
// limit fails alone if gzip is the first coder of the chain.
package gzip

import (
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

const (
	// DefaultThreshold is the default of WithThreshold in bytes.
	DefaultThreshold = 1024
	// DefaultLevel is the default of WithLevel.
	DefaultLevel = gzip.BestSpeed
)

const (
	// flagBit says in the reserved byte that a frame is compressed.
	flagBit = frame.Gzip
	// start is the offset from which on it is.
	start = 5
	// maxFrame is the length of the longest frame that is compressed. The
	// trailer of gzip data has 32 bits for it.
	maxFrame = math.MaxUint32
)

// Gzip compresses and decompresses messages. It is safe for concurrent use,
// also by several handlers.
type Gzip struct {
	// Set by New, never changed.
	threshold  int
	level      int
	maxDecoded int // 0: as the client's limit

	deflaters sync.Pool
	inflaters sync.Pool
}

var (
	_ arpc.MessageCoder   = (*Gzip)(nil)
	_ arpc.CheckedDecoder = (*Gzip)(nil)
)

// Option is a setting for New.
type Option func(*Gzip)

// WithThreshold leaves frames of up to n bytes, header included, as they are.
// Default: 1024. New panics if n is negative.
func WithThreshold(n int) Option {
	return func(g *Gzip) {
		must(n >= 0, "WithThreshold: must not be negative: %d", n)
		g.threshold = n
	}
}

// WithLevel sets how hard to compress: 1 is the fastest, 9 the smallest.
// Default: 1. New panics at other values.
func WithLevel(level int) Option {
	return func(g *Gzip) {
		must(level >= gzip.BestSpeed && level <= gzip.BestCompression, "WithLevel: must be 1 to 9: %d", level)
		g.level = level
	}
}

// WithMaxDecoded limits the length in bytes, header included, of a frame after
// decoding. A longer one is refused before memory is allocated for it, and not
// compressed either. Default: what arpc.WithMaxBodyLen allows, 64 MiB unless it
// is set; that limit holds in any case. New panics unless n is 16 to 4294967295.
func WithMaxDecoded(n int) Option {
	return func(g *Gzip) {
		must(n >= arpc.HeadLen && int64(n) <= maxFrame, "WithMaxDecoded: must be %d to %d: %d", arpc.HeadLen, uint32(maxFrame), n)
		g.maxDecoded = n
	}
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf("gzip: "+format, args...))
	}
}

// New returns a coder for arpc.Handler.UseCoder. It panics when an option makes
// no sense.
func New(opts ...Option) *Gzip {
	g := &Gzip{threshold: DefaultThreshold, level: DefaultLevel}
	for _, opt := range opts {
		opt(g)
	}
	g.deflaters.New = func() any { return newDeflater(g.level) }
	g.inflaters.New = func() any { return new(inflater) }
	return g
}

func (g *Gzip) limit(c *arpc.Client) frame.Limit {
	return frame.LimitOf(c, g.maxDecoded, "gzip.WithMaxDecoded")
}

// Encode compresses the message in place, if it is worth it. A message that is
// marked as compressed stays as it is.
func (g *Gzip) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	n := m.Len()
	if n > g.threshold && n >= arpc.HeadLen && int64(n) <= g.limit(c).Bytes && !m.IsFlagBitSet(flagBit) {
		g.compress(m)
	}
	return m
}

func (g *Gzip) compress(m *arpc.Message) {
	d := g.deflaters.Get().(*deflater)
	if data, ok := d.deflate(m.Buffer[start:]); ok {
		m.Buffer = append(m.Buffer[:start], data...)
		m.SetBodyLen(m.Len() - arpc.HeadLen)
		m.SetFlagBit(flagBit, true)
	}
	if cap(d.out) > maxPooled {
		d.out = nil
	}
	g.deflaters.Put(d)
}

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (g *Gzip) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	m, err := g.DecodeChecked(c, m)
	if err != nil {
		return nil
	}
	return m
}

// DecodeChecked decompresses a message that is marked as compressed into memory
// of its own, and returns any other as it is. The error says what is wrong with
// the gzip data, or has CodeResourceExhausted for a message over the limit, see
// WithMaxDecoded; only then there may be a message beside it, with the header and
// the method of the one refused. No more than the limit is allocated, whatever
// the data says.
func (g *Gzip) DecodeChecked(c *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	if m.Len() < arpc.HeadLen || !m.IsFlagBitSet(flagBit) {
		return m, nil
	}
	f := g.inflaters.Get().(*inflater)
	plain, err := f.inflate(m.Buffer, g.limit(c))
	g.inflaters.Put(f)
	if plain == nil {
		return nil, err
	}
	m.Buffer = plain
	return m, err
}
