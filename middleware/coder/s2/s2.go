// Package s2 is a coder that compresses messages with S2, which is faster than
// zstd and compresses less: of a message that is longer than a threshold and gets
// shorter, what follows header and method is replaced by a checksum and one S2
// block, and bit 5 of the reserved byte says so. All other messages stay as they
// are.
//
//	handler.UseCoder(s2.New())
//
// It has a name, so it is announced when a connection begins and used towards
// peers that have announced the same. Header and method stay readable: a message
// that its receiver cannot decode is an error to its caller, and the connection
// goes on. A handler has one coder of this package; beside zstd, the first in the
// chain that the peer knows compresses.
//
// Compression lets the length of a message depend on what is in it. Where somebody
// who reads the wire can have text of theirs put beside a secret, they can guess
// the secret by the length, encrypted or not: send it in a message of its own.
package s2

import (
	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/compress"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

const (
	// DefaultThreshold is the default of WithThreshold in bytes.
	DefaultThreshold = compress.DefaultThreshold
	// DefaultLevel is the default of WithLevel.
	DefaultLevel = 1
)

// maxLevel is the highest level.
const maxLevel = 3

// S2 compresses and decompresses messages. It is safe for concurrent use, also by
// several handlers.
type S2 struct {
	coder compress.Coder
}

var (
	_ arpc.NamedCoder     = (*S2)(nil)
	_ arpc.CheckedDecoder = (*S2)(nil)
)

// Option is a setting for New.
type Option func(*config)

type config struct {
	threshold, level, maxDecoded int
}

// WithThreshold leaves messages of up to n bytes, header included, as they are.
// Default: 1024. New panics if n is negative.
func WithThreshold(n int) Option {
	return func(cfg *config) {
		compress.Check(n >= 0, "s2: WithThreshold: must not be negative: %d", n)
		cfg.threshold = n
	}
}

// WithLevel sets how hard to compress: 1 is the fastest, 2 better, 3 the best, which
// is for long messages: it clears a table of some MiB for each. Default: 1. New panics
// at other values.
func WithLevel(level int) Option {
	return func(cfg *config) {
		compress.Check(level >= 1 && level <= maxLevel, "s2: WithLevel: must be 1 to %d: %d", maxLevel, level)
		cfg.level = level
	}
}

// WithMaxDecoded limits the length in bytes, header included, of a message after
// decoding. A longer one is refused before memory is allocated for it, and not
// compressed either. Default: what arpc.WithMaxBodyLen allows, 64 MiB unless it is
// set; that limit holds in any case. New panics if n is less than 16.
func WithMaxDecoded(n int) Option {
	return func(cfg *config) {
		compress.Check(n >= arpc.HeadLen, "s2: WithMaxDecoded: must be at least %d: %d", arpc.HeadLen, n)
		cfg.maxDecoded = n
	}
}

// New returns a coder for arpc.Handler.UseCoder. It panics when an option makes no
// sense.
func New(opts ...Option) *S2 {
	cfg := &config{threshold: DefaultThreshold, level: DefaultLevel}
	for _, opt := range opts {
		opt(cfg)
	}
	return &S2{compress.Coder{
		Name: "s2", Setting: "s2.WithMaxDecoded", Bit: frame.S2, Method: method(cfg.level),
		Threshold: cfg.threshold, MaxDecoded: cfg.maxDecoded,
	}}
}

// CoderName returns "s2". The coder is used towards peers that have announced the
// same.
func (s *S2) CoderName() string { return "s2" }

// Encode compresses the message in place, if it is worth it. A message that a
// coder of ours has compressed already stays as it is.
func (s *S2) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message { return s.coder.Encode(c, m) }

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (s *S2) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message { return s.coder.Decode(c, m) }

// DecodeChecked decompresses a message that is marked as compressed into memory of
// its own, and returns any other as it is. The error says what is wrong with the
// data, or has CodeResourceExhausted for a message over the limit, see
// WithMaxDecoded; the message beside it is the one that came. No more than the
// limit is allocated, whatever the data says.
func (s *S2) DecodeChecked(c *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	return s.coder.DecodeChecked(c, m)
}
