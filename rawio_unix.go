//go:build unix

package arpc

import (
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/arpc-go/arpc/internal/socket"
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

	writer socket.Writer // owned by the flusher
}

// rawOf returns nil for connections that are not sockets.
func rawOf(nc net.Conn) *rawConn {
	rc := socket.Of(nc)
	if rc == nil {
		return nil
	}
	raw := &rawConn{rc: rc}
	raw.readOnce = raw.tryReadFD // once, not per read
	raw.writer.Init(rc)
	return raw
}

// read reads into the reader's buffer and returns the number of bytes. 0 bytes
// and no error mean that the reader is to prepare for a wait and call again.
func (raw *rawConn) read(r *reader) (int, error) {
	raw.reader, raw.n, raw.readErr, raw.pollEnd = r, 0, nil, time.Time{}
	err := raw.rc.Read(raw.readOnce)
	switch {
	case err == nil:
		return raw.n, raw.readErr
	case r.conn.reading.Load() == readerAsked:
		return 0, errRests
	}
	return 0, err
}

// letGo forgets the reader, which is about to end.
func (raw *rawConn) letGo() { raw.reader = nil }

// wait waits until there is something to read, be it an error.
func (raw *rawConn) wait() {
	looked := false
	raw.rc.Read(func(fd uintptr) bool { // what is wrong with it the next read says, too
		if looked {
			return true
		}
		looked = true
		return socket.Readable(fd)
	})
}

// tryReadFD reports false to be called again when the socket is readable.
func (raw *rawConn) tryReadFD(fd uintptr) bool {
	c := raw.reader.conn
	if c.reading.Swap(readerWorks) == readerAsked { // before the bytes leave the socket
		c.unasked()
	}
	for {
		n, err := socket.Read(fd, raw.reader.space())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN && raw.looksAgain():
			continue
		case err == syscall.EAGAIN:
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
func (raw *rawConn) tryWrite(b []byte) (int, error) { return raw.writer.TryWrite(b) }
