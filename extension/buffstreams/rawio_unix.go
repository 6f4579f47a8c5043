//go:build unix

package buffstreams

import (
	"io"
	"net"
	"os"
	"syscall"

	"github.com/arpc-go/arpc/internal/socket"
)

// rawConn reads and writes a socket without waiting, which net.Conn cannot: so an
// idle connection holds no buffer, and whoever flushes never blocks.
type rawConn struct {
	rc syscall.RawConn

	// Owned by the reader.
	readOnce func(fd uintptr) bool
	in       *incoming
	n        int
	readErr  error

	// Owned by the flusher.
	writer   socket.Writer
	peekOnce func(fd uintptr)
	peeked   [1]byte
	closed   bool
}

// rawOf returns nil for connections that are not sockets.
func rawOf(nc net.Conn) *rawConn {
	rc := socket.Of(nc)
	if rc == nil {
		return nil
	}
	raw := &rawConn{rc: rc}
	raw.readOnce, raw.peekOnce = raw.readFD, raw.peekFD // once, not per use
	raw.writer.Init(rc)
	return raw
}

// read waits for bytes and returns how many came.
func (raw *rawConn) read(in *incoming) (int, error) {
	raw.in, raw.n, raw.readErr = in, 0, nil
	if err := raw.rc.Read(raw.readOnce); err != nil {
		return 0, err
	}
	return raw.n, raw.readErr
}

// readFD reports false to be called again when the socket is readable.
func (raw *rawConn) readFD(fd uintptr) bool {
	for {
		n, err := socket.Read(fd, raw.in.space())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			raw.in.rest()
			return false
		case err != nil:
			raw.readErr = os.NewSyscallError("read", err)
		case n == 0:
			raw.readErr = io.EOF
		default:
			raw.n = n
			raw.in.w += n
		}
		return true
	}
}

// tryWrite writes what the socket takes at once, which may be nothing.
func (raw *rawConn) tryWrite(b []byte) (int, error) { return raw.writer.TryWrite(b) }

// peerClosed reports whether the peer has ended the connection and nothing of it
// is left to be read. It does not disturb a reader that waits.
func (raw *rawConn) peerClosed() bool {
	raw.closed = false
	raw.rc.Control(raw.peekOnce)
	return raw.closed
}

func (raw *rawConn) peekFD(fd uintptr) {
	n, _, err := syscall.Recvfrom(int(fd), raw.peeked[:], syscall.MSG_PEEK)
	switch err {
	case nil:
		raw.closed = n == 0
	case syscall.EAGAIN, syscall.EINTR:
	default:
		raw.closed = true
	}
}
