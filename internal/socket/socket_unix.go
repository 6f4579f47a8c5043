//go:build unix

package socket

import (
	"net"
	"os"
	"syscall"
)

// Of returns nil for connections that are not sockets.
func Of(nc net.Conn) syscall.RawConn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	rc, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

// Read reads what the socket has at once, at most len(b) bytes, in a function given to
// its RawConn. There is nothing with syscall.EAGAIN; 0 bytes without an error are the
// end.
func Read(fd uintptr, b []byte) (int, error) { return read(int(fd), b) }

// Readable reports whether Read would return something else than syscall.EAGAIN. It
// takes little stack.
func Readable(fd uintptr) bool {
	var b [1]byte
	_, err := peek(int(fd), b[:])
	return err != syscall.EAGAIN
}

// Writer writes to a socket, for one goroutine at a time.
type Writer struct {
	rc    syscall.RawConn
	once  func(fd uintptr) bool
	out   []byte
	wrote int
	err   error
}

// Init has it write to rc.
func (w *Writer) Init(rc syscall.RawConn) {
	w.rc, w.once = rc, w.write // once, not per write
}

// TryWrite writes what the socket takes at once, which may be nothing.
func (w *Writer) TryWrite(b []byte) (int, error) {
	w.out, w.wrote, w.err = b, 0, nil
	err := w.rc.Write(w.once)
	w.out = nil
	if err != nil {
		return 0, err
	}
	return w.wrote, w.err
}

func (w *Writer) write(fd uintptr) bool {
	for w.wrote < len(w.out) {
		n, err := write(int(fd), w.out[w.wrote:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			w.err = os.NewSyscallError("write", err)
			return true
		}
		w.wrote += n
		if n == 0 {
			return true
		}
	}
	return true
}
