package memconn

import "time"

// Delay makes the bytes of each later write arrive d after it, in the order
// written; d <= 0 takes the delay away. Bytes on their way fill the buffer, so
// its size over d bounds the throughput, as a window does. The end of the stream
// is delayed too.
func (c *Conn) Delay(d time.Duration) { c.send.setDelay(d) }

// Split makes each read of the other end return at most n bytes; n < 1 takes the
// limit away.
func (c *Conn) Split(n int) { c.send.setMaxRead(n) }

// ShortWrites makes the connection take at most n bytes of a write at a time, so
// that the other end may read it cut anywhere; n < 1 takes the limit away. A
// write still completes, and no other write gets in between.
func (c *Conn) ShortWrites(n int) { c.send.setMaxWrite(n) }

// CutAfter breaks the connection, both ways, as soon as this end has written n
// more bytes: a write of more returns what was left of n and an error. The peer
// reads those n bytes, delayed or stalled as they may be, then gets the error;
// everything else fails at once, and bytes on their way to this end are lost. The
// error is such that errors.Is finds syscall.ECONNRESET. A later CutAfter
// replaces an earlier one, and n < 0 takes it back.
func (c *Conn) CutAfter(n int64) { c.send.setBudget(n) }

// Cut breaks the connection now, both ways: the bytes on their way are lost, and
// pending and later reads and writes of both ends return an error for which
// errors.Is finds syscall.ECONNRESET.
func (c *Conn) Cut() { c.send.cut() }

// Stall holds back what this end writes from now on, the end of the stream
// included, and what is on its way, until Resume. The other end can read what had
// arrived before. Nothing else is held back: once this end closes, a write of the
// other fails at once. A dead network is both ends stalled.
func (c *Conn) Stall() { c.send.setStalled(true) }

// Resume lets through what Stall held back.
func (c *Conn) Resume() { c.send.setStalled(false) }

// Corrupt flips the lowest bit of the byte at that offset of all that this end
// writes; the first byte has offset 0. It does nothing to bytes already written.
// Several offsets may be pending.
func (c *Conn) Corrupt(offset int64) { c.send.addCorrupt(offset) }
