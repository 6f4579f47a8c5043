package memconn

import (
	"io"
	"net"
	"time"
)

// Conn is one end of an in-memory connection. All its methods may be called at
// the same time, from any goroutine. Errors come as *net.OpError, io.EOF as is.
type Conn struct {
	// Set by newPair, never changed.
	send          *stream // this end writes it
	recv          *stream // this end reads it
	local, remote addr
}

var _ net.Conn = (*Conn)(nil)

// Read copies bytes that have arrived into p, at least one, waiting for it. It
// returns io.EOF behind the last byte of a peer that closed, and errors for which
// errors.Is finds syscall.ECONNRESET on a broken connection,
// os.ErrDeadlineExceeded past the deadline, net.ErrClosed after Close.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.recv.read(p)
	return n, c.opError("read", err)
}

// Write copies all of p into the buffer of the connection, waiting for room. p is
// the caller's again when it returns. Concurrent writes do not mix. With an error
// comes the number of bytes that the connection took: errors.Is finds
// syscall.EPIPE after CloseWrite or when the peer has closed,
// syscall.ECONNRESET on a broken connection, os.ErrDeadlineExceeded past the
// deadline, net.ErrClosed after Close.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.send.write(p)
	return n, c.opError("write", err)
}

// Close ends both directions and the calls that wait on this end. The peer still
// reads what was written, then io.EOF; bytes that this end has not read are lost.
// The second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	return c.opError("close", c.send.close())
}

// CloseWrite ends the direction this end writes: the peer reads what was written,
// then io.EOF. This end may go on reading. Calling it again does nothing.
func (c *Conn) CloseWrite() error {
	return c.opError("close", c.send.closeWrite())
}

// LocalAddr returns the name of this end; its network is "mem".
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the name of the other end; its network is "mem".
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the deadline of reads and writes, blocked ones included. The
// zero time means none, and a new one revives a connection that has timed out.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is SetDeadline for reads alone.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.opError("set", c.recv.setReadDeadline(t))
}

// SetWriteDeadline is SetDeadline for writes alone.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.opError("set", c.send.setWriteDeadline(t))
}

// BytesWritten returns how many bytes this end has written: those the connection
// took, whether or not they have arrived.
func (c *Conn) BytesWritten() int64 { return c.send.written.Load() }

// BytesRead returns how many bytes the reads of this end have returned.
func (c *Conn) BytesRead() int64 { return c.recv.taken.Load() }

// opError adds to err the operation and the names of the two ends.
func (c *Conn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
}
