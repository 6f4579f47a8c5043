package arpc

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

const (
	// drainTick is how often a drain looks whether a connection is idle.
	drainTick = 5 * time.Millisecond
	// lingerTime is how long a drained connection waits for the peer to
	// close too, so that what it has not read yet is not lost.
	lingerTime = time.Second
)

// drain refuses new requests and waits until nothing is in flight on the
// connection, or ctx ends.
func (c *conn) drain(ctx context.Context) error {
	c.draining.Store(true)
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	for quiet := 0; quiet < 2; {
		if quiet++; !c.quiet() {
			quiet = 0
		}
		select {
		case <-ticker.C:
		case <-c.done:
			return nil
		case <-ctx.Done():
			return contextError(ctx, false)
		}
	}
	c.mu.Lock()
	c.out.closed = true
	c.mu.Unlock()
	c.linger(ctx)
	return nil
}

// quiet reports whether no call, handler, stream or byte is under way. The
// reader looks at draining after it has marked the connection as in a handler or
// counted the message, and quiet looks at these after draining was set.
func (c *conn) quiet() bool {
	if c.atWork.Load() || c.handling.Load() > 0 || c.mark.Load()&markRunning != 0 || c.busy() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.out.flushing && c.out.fill == nil
}

// linger closes our half and waits a moment for the peer's end. Closing at once
// would make the kernel throw away what the peer has not read, if anything of
// the peer is still unread here.
func (c *conn) linger(ctx context.Context) {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// temporary reports whether accepting may work again later.
func temporary(err error) bool {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return false
	}
	var t interface{ Temporary() bool } // as net/http asks, for want of another way to tell
	return errors.As(err, &t) && t.Temporary()
}
