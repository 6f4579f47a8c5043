// Package memconn is an in-memory, full-duplex net.Conn with faults: delay,
// stalls, odd cuts, broken connections, flipped bits.
//
// It behaves as a TCP connection does where a program can tell: deadlines, half
// close, bounded buffers, the errors of a closed or broken connection. Nothing
// blocks while it holds a mutex, and whoever waits does so on a sync.Cond, so a
// pair made inside a testing/synctest bubble counts as idle when it waits and
// runs on the fake clock of the bubble. It starts no goroutines.
package memconn

import (
	"math/rand/v2"
	"strconv"
	"time"
)

const defaultBuffer = 64 << 10

// An Option configures both ends of a pair. Faults of one end only are set with
// the methods of its Conn.
type Option func(*options)

type options struct {
	buffer int
	faults []func(*Conn) // called with each new end
}

// WithBuffer bounds the bytes that each direction holds: written by one end and
// not yet read by the other, delayed and stalled ones included. The default, also
// for n < 1, is 64 KiB. The memory is allocated as it is needed.
func WithBuffer(n int) Option {
	return func(o *options) {
		if n > 0 {
			o.buffer = n
		}
	}
}

// WithDelay is Conn.Delay for both ends. The default is no delay.
func WithDelay(d time.Duration) Option {
	return withFault(func(c *Conn) { c.Delay(d) })
}

// WithSplit is Conn.Split for both ends. The default is no limit.
func WithSplit(n int) Option {
	return withFault(func(c *Conn) { c.Split(n) })
}

// WithShortWrites is Conn.ShortWrites for both ends. The default is no limit.
func WithShortWrites(n int) Option {
	return withFault(func(c *Conn) { c.ShortWrites(n) })
}

// WithCutAfter is Conn.CutAfter for both ends. The default is never.
func WithCutAfter(n int64) Option {
	return withFault(func(c *Conn) { c.CutAfter(n) })
}

// WithStall is Conn.Stall for both ends: they begin stalled.
func WithStall() Option {
	return withFault((*Conn).Stall)
}

// WithCorrupt is Conn.Corrupt for both ends. The default is none.
func WithCorrupt(offset int64) Option {
	return withFault(func(c *Conn) { c.Corrupt(offset) })
}

func withFault(set func(*Conn)) Option {
	return func(o *options) { o.faults = append(o.faults, set) }
}

// Pipe returns the two ends of a new connection.
func Pipe(opts ...Option) (a, b *Conn) {
	name := newAddr()
	return newPair(name+"/a", name+"/b", opts)
}

func newPair(aAddr, bAddr addr, opts []Option) (a, b *Conn) {
	o := options{buffer: defaultBuffer}
	for _, opt := range opts {
		opt(&o)
	}
	ab, ba := newStreams(o.buffer)
	a = &Conn{send: ab, recv: ba, local: aAddr, remote: bAddr}
	b = &Conn{send: ba, recv: ab, local: bAddr, remote: aAddr}
	for _, set := range o.faults {
		set(a)
		set(b)
	}
	return a, b
}

// addr is the name of one end.
type addr string

// newAddr draws a name at random: unique without a counter in the package.
func newAddr() addr {
	return addr("mem-" + strconv.FormatUint(rand.Uint64(), 36))
}

func (addr) Network() string  { return "mem" }
func (a addr) String() string { return string(a) }
