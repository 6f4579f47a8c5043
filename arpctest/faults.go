package arpctest

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/arpc-go/arpc/internal/memconn"
)

// Faults make one direction of an in-memory connection bad: what one end
// writes. The other direction has Faults of its own, those of the other end. The
// methods may be called at any time, from any goroutine.
type Faults struct {
	conn *memconn.Conn
}

// FaultsOf returns the faults of what this end of an in-memory connection
// writes: of a Pair over Memory with p.Client.Conn() what the client sends, with
// p.Peer().Conn() what the server sends to it. A reconnect makes a new
// connection, without faults but those Memory was given. It panics for a
// connection that is not of this package.
func FaultsOf(nc net.Conn) Faults {
	conn, ok := nc.(*memconn.Conn)
	if !ok {
		panic(fmt.Sprintf("arpctest: FaultsOf(%T): not an in-memory connection", nc))
	}
	return Faults{conn}
}

// Delay makes what is written from now on arrive d later, in order; 0 takes the
// delay away. At most 64 KiB are under way at a time, as with a TCP window, so a
// delay bounds the throughput too.
func (f Faults) Delay(d time.Duration) { f.conn.Delay(d) }

// Split makes each read at the other end return at most n bytes; 0 takes the
// limit away.
func (f Faults) Split(n int) { f.conn.Split(n) }

// ShortWrites makes the connection take at most n bytes of a write at a time, so
// that the other end may see it cut anywhere; 0 takes the limit away. A write
// still completes, and others do not get in between.
func (f Faults) ShortWrites(n int) { f.conn.ShortWrites(n) }

// CutAfter breaks the connection, both ways, when n more bytes are written. The
// other end can still read these, then gets an error for which errors.Is finds
// syscall.ECONNRESET. A negative n takes it back.
func (f Faults) CutAfter(n int64) { f.conn.CutAfter(n) }

// Cut breaks the connection now, both ways. Bytes under way are lost, and all
// reads and writes return an error for which errors.Is finds syscall.ECONNRESET.
func (f Faults) Cut() { f.conn.Cut() }

// Stall holds back what is under way and what is written from now on, the end of
// the connection included, until Resume. Writes wait when 64 KiB are held. A dead
// network is both directions stalled.
func (f Faults) Stall() { f.conn.Stall() }

// Resume lets through what Stall held back.
func (f Faults) Resume() { f.conn.Resume() }

// Corrupt flips a bit of one byte still to be written, by its offset from the
// first byte ever written, which has 0.
func (f Faults) Corrupt(offset int64) { f.conn.Corrupt(offset) }

// Pipe returns the two ends of an in-memory connection. It has deadlines, half
// close and bounded buffers as a TCP connection has, and starts no goroutines.
// Each of the faults is called with both ends before they are returned.
func Pipe(faults ...func(Faults)) (a, b net.Conn) {
	one, other := memconn.Pipe()
	return spoil(one, faults), spoil(other, faults)
}

// spoil applies faults to one end.
func spoil(nc net.Conn, faults []func(Faults)) net.Conn {
	for _, fault := range faults {
		fault(FaultsOf(nc))
	}
	return nc
}

// MemoryListener is a net.Listener without a network. Its Dial is an
// arpc.DialerFunc. The methods may be called at the same time.
type MemoryListener struct {
	// Set by ListenMemory, never changed.
	listener *memconn.Listener
	faults   []func(Faults)
}

// ListenMemory returns a listener for Pipes. Each of the faults is called with
// both ends of every connection, before Dial or Accept returns it.
func ListenMemory(faults ...func(Faults)) *MemoryListener {
	return &MemoryListener{listener: memconn.Listen(), faults: faults}
}

// Dial connects to the listener. It does not wait for Accept, unless 128
// connections do. To a closed listener it fails with an error for which
// errors.Is finds syscall.ECONNREFUSED.
func (l *MemoryListener) Dial() (net.Conn, error) {
	return l.DialContext(context.Background())
}

// DialContext is Dial that gives up when ctx ends.
func (l *MemoryListener) DialContext(ctx context.Context) (net.Conn, error) {
	nc, err := l.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return spoil(nc, l.faults), nil
}

// Accept waits for the next connection. After Close it returns an error for
// which errors.Is finds net.ErrClosed.
func (l *MemoryListener) Accept() (net.Conn, error) {
	nc, err := l.listener.Accept()
	if err != nil {
		return nil, err
	}
	return spoil(nc, l.faults), nil
}

// Close ends Accept and Dial. Accepted connections stay, those that wait to be
// accepted are cut. A second Close returns net.ErrClosed.
func (l *MemoryListener) Close() error { return l.listener.Close() }

// Addr returns a unique name; its network is "mem".
func (l *MemoryListener) Addr() net.Addr { return l.listener.Addr() }
