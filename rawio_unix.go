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
	rc  syscall.RawConn
	in  *rawReader     // owned by the reader; nil while the connection rests
	out *socket.Writer // owned by the flusher; nil until it writes, since the connection rested
}

// rawOf returns nil for connections that are not sockets.
func rawOf(nc net.Conn) *rawConn {
	rc := socket.Of(nc)
	if rc == nil {
		return nil
	}
	return &rawConn{rc: rc}
}

// letGo forgets what is made anew when it is needed. Only a reader that is about to
// end calls it, with conn.mu held.
func (raw *rawConn) letGo(flushing bool) {
	raw.in = nil
	if !flushing {
		raw.out = nil
	}
}

// rawReader is what reads need.
type rawReader struct {
	once    func(fd uintptr) bool
	reader  *reader
	n       int
	err     error
	pollEnd time.Time // of WithBusyPoll
}

// read reads into the reader's buffer and returns the number of bytes. 0 bytes
// and no error mean that the reader is to prepare for a wait and call again, errRests
// that it has been asked to rest.
func (raw *rawConn) read(r *reader) (int, error) {
	in := raw.in
	if in == nil {
		in = &rawReader{}
		in.once = in.tryFD // once, not per read
		raw.in = in
	}
	in.reader, in.n, in.err, in.pollEnd = r, 0, nil, time.Time{}
	err := raw.rc.Read(in.once)
	switch {
	case err == nil:
		return in.n, in.err
	case r.conn.reading.Load() == readerAsked:
		return 0, errRests
	}
	return 0, err
}

// tryFD reports false to be called again when the socket is readable.
func (in *rawReader) tryFD(fd uintptr) bool {
	c := in.reader.conn
	if c.reading.Swap(readerWorks) == readerAsked { // before the bytes leave the socket
		c.unasked()
	}
	for {
		n, err := socket.Read(fd, in.reader.space())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN && in.looksAgain():
			continue
		case err == syscall.EAGAIN:
			return !in.reader.mayWait()
		case err != nil:
			in.err = os.NewSyscallError("read", err)
		case n == 0:
			in.err = io.EOF
		default:
			in.n = n
		}
		return true
	}
}

// looksAgain lets others run and reports whether WithBusyPoll says to look again
// instead of waiting.
func (in *rawReader) looksAgain() bool {
	c := in.reader.conn
	if c.settings.busyPoll == 0 || c.ended.Load() {
		return false
	}
	now := time.Now()
	if in.pollEnd.IsZero() {
		in.pollEnd = now.Add(c.settings.busyPoll)
	}
	if now.After(in.pollEnd) {
		return false
	}
	runtime.Gosched()
	return true
}

// wait waits until there is something to read, be it an error, which the next read
// has, too.
func (raw *rawConn) wait() { raw.rc.Read(socket.Readable) }

// tryWrite writes what the socket takes at once, which may be nothing.
func (raw *rawConn) tryWrite(b []byte) (int, error) {
	if raw.out == nil {
		raw.out = new(socket.Writer)
		raw.out.Init(raw.rc)
	}
	return raw.out.TryWrite(b)
}
