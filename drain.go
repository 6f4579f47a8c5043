package arpc

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

const (
	// drainTick is how often a drain looks whether a connection is idle.
	drainTick = 5 * time.Millisecond
	// lingerTime is how long a drained connection waits for the peer to
	// close too, so that what it has not read yet is not lost.
	lingerTime = time.Second
)

// drain has the peer begin nothing new, or refuses what it begins if it is of
// version 1, and waits until nothing is in flight on the connection, or ctx ends.
func (c *conn) drain(ctx context.Context) error {
	if c.stage.Load() == stageOpening && c.demandsHello() {
		return nil // nothing was let in
	}
	c.draining.Store(true)
	c.goAway()
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	patience := time.NewTimer(c.settings.helloTimeout)
	defer patience.Stop()
	for quiet := 0; quiet < 2; {
		if quiet++; !c.acked.Load() || !c.quiet() {
			quiet = 0
		}
		select {
		case <-ticker.C:
		case <-patience.C:
			c.acked.Store(true) // it has had its time: what it begins is refused
		case <-c.done.wait():
			return nil
		case <-ctx.Done():
			return contextError(ctx, false)
		}
	}
	c.closeOutput()
	c.linger(ctx)
	return nil
}

// goAway tells the peer to begin nothing new.
func (c *conn) goAway() {
	c.mu.Lock()
	able := c.features&wire.FeatureGoAway != 0
	if !able {
		c.acked.Store(true) // it cannot be told
	}
	c.mu.Unlock()
	c.closeAway()
	if !able {
		return
	}
	o := outgoing{header: wire.Header{Cmd: wire.CmdGoAway}, payload: payload{s: "shutting down"}, reply: true, urgent: true}
	if d := c.settings.comeBack; d > 0 {
		o.section = wire.AppendComeBack(nil, microseconds(d))
	}
	c.sendReply(&o)
}

// closeAway tells streams that the connection is on its way out.
func (c *conn) closeAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isAway && c.seldom != nil && c.seldom.away != nil {
		close(c.seldom.away)
	}
	c.isAway = true
}

// goesAway returns what is closed when the connection is on its way out.
func (c *conn) goesAway() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isAway {
		return closedChan
	}
	s := c.rare()
	if s.away == nil {
		s.away = make(chan struct{})
	}
	return s.away
}

// goAway handles the peer's wish that nothing new is begun, or that it begins
// nothing new itself.
func (r *reader) goAway(h wire.Header, reason []byte) {
	c := r.conn
	if h.Cmd&wire.StreamEnd != 0 {
		c.acked.Store(true)
		return
	}
	c.settings.logger.Info("arpc: the peer goes away", "peer", c.peer(), "reason", string(head(reason)))
	var comeBack time.Duration
	if meta := r.metaOf(h); meta != nil && meta.HasComeBack {
		comeBack = time.Duration(min(meta.ComeBack, maxComeBack)) * time.Microsecond
	}
	c.client.move(c, comeBack) // before: a call that is turned away waits for where it is to go
	c.mu.Lock()                // senders look at it under the lock: nothing new is behind the acknowledgement
	c.leaveCasts()
	c.leaving.Store(true)
	c.mu.Unlock()
	c.closeAway()
	c.reply(wire.Header{Cmd: wire.CmdGoAway | wire.StreamEnd}, "")
}

// maxComeBack is the longest wait, in microseconds, that a peer may ask for.
const maxComeBack = uint64(time.Hour / time.Microsecond)

// drained waits until what was to be sent has left, and the peer has had time to
// read it.
func (c *conn) drained(ctx context.Context) {
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	for !c.flushedAll() {
		select {
		case <-ticker.C:
		case <-c.done.wait():
			return
		case <-ctx.Done():
			return
		}
	}
	c.closeOutput()
	c.linger(ctx)
}

func (c *conn) closeOutput() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.closed = true
}

// quiet reports whether no call, handler, stream or byte is under way. The
// reader looks at draining after it has marked the connection as in a handler or
// counted the message, and quiet looks at these after draining was set.
func (c *conn) quiet() bool {
	if c.reading.Load() == readerWorks || c.handling.Load() > 0 || c.mark.Load()&markRunning != 0 || c.busy() {
		return false
	}
	return c.flushedAll()
}

func (c *conn) flushedAll() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.out.flushing && c.out.empty() && !c.castsWait()
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
	case <-c.done.wait():
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
