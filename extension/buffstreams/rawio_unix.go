//go:build unix

package buffstreams

import (
	"io"
	"net"
	"os"
	"syscall"
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
	writeOnce func(fd uintptr) bool
	out       []byte
	wrote     int
	writeErr  error
	peekOnce  func(fd uintptr)
	peeked    [1]byte
	closed    bool
}

// rawOf returns nil for connections that are not sockets.
func rawOf(nc net.Conn) *rawConn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	rc, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	raw := &rawConn{rc: rc}
	raw.readOnce, raw.writeOnce, raw.peekOnce = raw.readFD, raw.writeFD, raw.peekFD // once, not per use
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
		n, err := syscall.Read(int(fd), raw.in.space())
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
func (raw *rawConn) tryWrite(b []byte) (int, error) {
	raw.out, raw.wrote, raw.writeErr = b, 0, nil
	err := raw.rc.Write(raw.writeOnce)
	raw.out = nil
	if err != nil {
		return 0, err
	}
	return raw.wrote, raw.writeErr
}

func (raw *rawConn) writeFD(fd uintptr) bool {
	for raw.wrote < len(raw.out) {
		n, err := syscall.Write(int(fd), raw.out[raw.wrote:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			raw.writeErr = os.NewSyscallError("write", err)
			return true
		case n == 0:
			return true
		}
		raw.wrote += n
	}
	return true
}

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
