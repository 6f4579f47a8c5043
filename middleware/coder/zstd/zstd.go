// Package zstd is a coder that compresses messages with Zstandard (RFC 8878): of a
// message that is longer than a threshold and gets shorter, what follows header
// and method is replaced by one zstd frame that tells its decoded size, and bit 6
// of the reserved byte says so. All other messages stay as they are.
//
//	handler.UseCoder(zstd.New())
//
// It has a name, so it is announced when a connection begins and used towards
// peers that have announced the same. Header and method stay readable: a message
// that its receiver cannot decode is an error to its caller, and the connection
// goes on. A handler has one coder of this package.
//
// Compression lets the length of a message depend on what is in it. Where somebody
// who reads the wire can have text of theirs put beside a secret, they can guess
// the secret by the length, encrypted or not: send it in a message of its own.
package zstd

import (
	"fmt"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/compress"
	"github.com/arpc-go/arpc/middleware/coder/internal/frame"
)

const (
	// DefaultThreshold is the default of WithThreshold in bytes.
	DefaultThreshold = compress.DefaultThreshold
	// DefaultLevel is the default of WithLevel.
	DefaultLevel = 1
	// MaxDictionary is the length in bytes of the longest dictionary.
	MaxDictionary = 1 << 20
)

// maxLevel is the highest level of zstd.
const maxLevel = 22

// Zstd compresses and decompresses messages. It is safe for concurrent use, also
// by several handlers. As many messages as GOMAXPROCS are compressed at the same
// time, and as many decompressed; others wait. What it keeps is for each of them
// about 2 MiB at level 1, 3 at 3, 6 at 6, and 36 above 9, up to twice that with a
// dictionary, however long messages are.
type Zstd struct {
	coder compress.Coder
	name  string
}

var (
	_ arpc.NamedCoder     = (*Zstd)(nil)
	_ arpc.CheckedDecoder = (*Zstd)(nil)
)

// Option is a setting for New.
type Option func(*config)

type config struct {
	threshold, level, maxDecoded int
	dictionary                   []byte
}

// WithThreshold leaves messages of up to n bytes, header included, as they are.
// Default: 1024. New panics if n is negative.
func WithThreshold(n int) Option {
	return func(cfg *config) {
		compress.Check(n >= 0, "zstd: WithThreshold: must not be negative: %d", n)
		cfg.threshold = n
	}
}

// WithLevel sets how hard to compress, as zstd counts: 1 is the fastest, 22 the
// smallest. There are four steps: up to 2, to 5, to 9, and above. Default: 1. New
// panics at other values.
func WithLevel(level int) Option {
	return func(cfg *config) {
		compress.Check(level >= 1 && level <= maxLevel, "zstd: WithLevel: must be 1 to %d: %d", maxLevel, level)
		cfg.level = level
	}
}

// WithMaxDecoded limits the length in bytes, header included, of a message after
// decoding. A longer one is refused before memory is allocated for it, and not
// compressed either. Default: what arpc.WithMaxBodyLen allows, 64 MiB unless it is
// set; that limit holds in any case. New panics if n is less than 16.
func WithMaxDecoded(n int) Option {
	return func(cfg *config) {
		compress.Check(n >= arpc.HeadLen, "zstd: WithMaxDecoded: must be at least %d: %d", arpc.HeadLen, n)
		cfg.maxDecoded = n
	}
}

// WithDictionary compresses with a dictionary, which makes short messages shorter
// that have something in common with it: one trained by "zstd --train", or any
// bytes, such as typical messages one after the other. The peer needs the same; a
// peer with another one, or none, gets its messages as they are. New panics if the
// dictionary is empty, longer than MaxDictionary, or trained and corrupt. Default:
// none.
func WithDictionary(dictionary []byte) Option {
	return func(cfg *config) {
		n := len(dictionary)
		compress.Check(n > 0 && n <= MaxDictionary, "zstd: WithDictionary: must have 1 to %d bytes: %d", MaxDictionary, n)
		cfg.dictionary = dictionary
	}
}

// New returns a coder for arpc.Handler.UseCoder. It panics when an option makes no
// sense.
func New(opts ...Option) *Zstd {
	cfg := &config{threshold: DefaultThreshold, level: DefaultLevel}
	for _, opt := range opts {
		opt(cfg)
	}
	method, err := newMethod(cfg)
	compress.Check(err == nil, "zstd: %v", err)
	return &Zstd{name: cfg.name(), coder: compress.Coder{
		Name: "zstd", Setting: "zstd.WithMaxDecoded", Bit: frame.Zstd, Method: method,
		Threshold: cfg.threshold, MaxDecoded: cfg.maxDecoded,
	}}
}

// name is what both peers must have in common.
func (cfg *config) name() string {
	if cfg.dictionary == nil {
		return "zstd"
	}
	return fmt.Sprintf("zstd-%08x", dictionaryID(cfg.dictionary))
}

// CoderName returns "zstd", with the id of the dictionary behind it if there is
// one, as in "zstd-8a1f03c2". The coder is used towards peers that have announced
// the same.
func (z *Zstd) CoderName() string { return z.name }

// Encode compresses the message in place, if it is worth it. A message that a
// coder of ours has compressed already stays as it is.
func (z *Zstd) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message { return z.coder.Encode(c, m) }

// Decode is DecodeChecked without the reason: nil if the message is refused.
func (z *Zstd) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message { return z.coder.Decode(c, m) }

// DecodeChecked decompresses a message that is marked as compressed into memory of
// its own, and returns any other as it is. The error says what is wrong with the
// data, or has CodeResourceExhausted for a message over the limit, see
// WithMaxDecoded; the message beside it is the one that came. No more than the
// limit is allocated, whatever the data says.
func (z *Zstd) DecodeChecked(c *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	return z.coder.DecodeChecked(c, m)
}
