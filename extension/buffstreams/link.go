package buffstreams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// writeChunk is how much must get through in a WriteTimeout.
const writeChunk = 64 << 10

// link is one connection of a Conn, from its dial or accept to its end.
type link struct {
	// Set by newLink, never changed.
	nc  net.Conn
	raw *rawConn // nil if nc is no socket

	over    atomic.Bool // it is no longer the Conn's
	reading atomic.Bool // somebody waits for bytes, and would notice the end

	// Owned by who has the turn to read.
	in incoming

	// Guarded by Conn.mu.
	sent bool // a message was handed to it
}

func newLink(nc net.Conn, f framing) *link {
	return &link{nc: nc, raw: rawOf(nc), in: incoming{framing: f}}
}

// read waits for bytes, unless ctx ends. An error is the end of the link, but not
// that of ctx.
func (l *link) read(ctx context.Context) error {
	if ctx.Done() != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		defer l.interrupt(ctx)()
	}
	l.reading.Store(true)
	n, err := l.readNow()
	l.reading.Store(false)
	switch {
	case n > 0 || err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return ctx.Err()
	case errors.Is(err, io.EOF) && l.in.held() > 0:
		return fmt.Errorf("buffstreams: the peer closed in the middle of a message: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return fmt.Errorf("buffstreams: receive: %w", err)
}

func (l *link) readNow() (int, error) {
	if l.raw != nil {
		return l.raw.read(&l.in)
	}
	return l.in.readFrom(l.nc)
}

// interrupt has a read fail when ctx ends, until the function it returns is called.
func (l *link) interrupt(ctx context.Context) (stop func()) {
	interrupted := make(chan struct{})
	forget := context.AfterFunc(ctx, func() {
		l.nc.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	return func() {
		if !forget() {
			<-interrupted
			l.nc.SetReadDeadline(time.Time{})
		}
	}
}

// tryWrite writes to a socket what it takes at once. With watch it looks first
// whether the peer has closed, as a socket takes bytes for nobody too.
func (l *link) tryWrite(b []byte, watch bool) (int, error) {
	if watch && !l.reading.Load() && l.raw.peerClosed() {
		return 0, errPeerGone
	}
	n, err := l.raw.tryWrite(b)
	if err != nil {
		err = fmt.Errorf("buffstreams: send: %w", err)
	}
	return n, err
}

// writeAll writes b and waits for the peer, as long as it takes a chunk within the
// timeout. It returns how much was written.
func (l *link) writeAll(b []byte, timeout time.Duration, watch bool) (n int, err error) {
	if l.raw != nil { // most of the time there is room, and no deadline needed
		if n, err = l.tryWrite(b, watch); err != nil || n == len(b) {
			return n, err
		}
		defer l.nc.SetWriteDeadline(time.Time{}) // of the next tryWrite
	}
	for n < len(b) && err == nil {
		var m int
		l.nc.SetWriteDeadline(time.Now().Add(timeout))
		m, err = l.nc.Write(b[n:min(len(b), n+writeChunk)])
		n += m
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("buffstreams: the peer takes no bytes (WriteTimeout %v): %w", timeout, err)
	default:
		err = fmt.Errorf("buffstreams: send: %w", err)
	}
	return n, err
}

// closeWrite tells the peer that nothing more comes, and reports whether it can.
func (l *link) closeWrite() bool {
	half, ok := l.nc.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}
