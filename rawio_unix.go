//go:build unix

package arpc

import (
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
)

// rawConn reads and writes a socket without waiting, which net.Conn cannot:
// so an idle connection holds no buffer, and whoever flushes never blocks.
type rawConn struct {
	rc syscall.RawConn

	// Owned by the reader.
	readOnce func(fd uintptr) bool
	reader   *reader
	n        int
	readErr  error
	pollEnd  time.Time // of WithBusyPoll

	// Owned by the flusher.
	writeOnce func(fd uintptr) bool
	out       []byte
	wrote     int
	writeErr  error
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
	raw.readOnce, raw.writeOnce = raw.tryReadFD, raw.tryWriteFD // once, not per read
	return raw
}

// read reads into the reader's buffer and returns the number of bytes. 0 bytes
// and no error mean that the reader is to prepare for a wait and call again.
func (raw *rawConn) read(r *reader) (int, error) {
	raw.reader, raw.n, raw.readErr, raw.pollEnd = r, 0, nil, time.Time{}
	if err := raw.rc.Read(raw.readOnce); err != nil {
		return 0, err
	}
	return raw.n, raw.readErr
}

// tryReadFD reports false to be called again when the socket is readable.
func (raw *rawConn) tryReadFD(fd uintptr) bool {
	atWork := &raw.reader.conn.atWork
	atWork.Store(true) // before the bytes leave the socket
	for {
		n, err := syscall.Read(int(fd), raw.reader.space())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN && raw.looksAgain():
			continue
		case err == syscall.EAGAIN:
			atWork.Store(false)
			return !raw.reader.mayWait()
		case err != nil:
			raw.readErr = os.NewSyscallError("read", err)
		case n == 0:
			raw.readErr = io.EOF
		default:
			raw.n = n
		}
		return true
	}
}

// looksAgain lets others run and reports whether WithBusyPoll says to look again
// instead of waiting.
func (raw *rawConn) looksAgain() bool {
	c := raw.reader.conn
	if c.settings.busyPoll == 0 || c.ended.Load() {
		return false
	}
	now := time.Now()
	if raw.pollEnd.IsZero() {
		raw.pollEnd = now.Add(c.settings.busyPoll)
	}
	if now.After(raw.pollEnd) {
		return false
	}
	runtime.Gosched()
	return true
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

func (raw *rawConn) tryWriteFD(fd uintptr) bool {
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
		}
		raw.wrote += n
		if n == 0 {
			return true
		}
	}
	return true
}
