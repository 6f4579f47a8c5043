package router

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/arpc-go/arpc"
)

// Graceful lets handlers finish before their process ends. The zero value is
// ready for use. It is safe for concurrent use, also by several handlers.
//
// It is about handlers alone, and connections stay open: answers still go out,
// and calls that handlers make still come back. Server.Shutdown or
// Client.Shutdown, called after it, sees to it that everything is written.
type Graceful struct {
	// The messages and streams in hand, and shuttingDown. What is turned away
	// is in it for a moment.
	state atomic.Int64

	door door

	begin sync.Once     // makes idle, before shuttingDown is set
	idle  chan struct{} // closed when nothing is in hand any more
	ended sync.Once     // closes idle
}

// shuttingDown is set in Graceful.state once Shutdown was called.
const shuttingDown = 1 << 62

var errShuttingDown = arpc.NewError(arpc.CodeUnavailable, "shutting down")

// NewGraceful returns a Graceful for which Shutdown was not called.
func NewGraceful() *Graceful { return new(Graceful) }

// Handler returns the middleware. What runs behind it is what Shutdown waits
// for; a request that is detached counts until its handler returns.
func (g *Graceful) Handler() arpc.HandlerFunc { return g.handle }

func (g *Graceful) handle(ctx *arpc.Context) {
	defer g.leave()
	if g.state.Add(1)&shuttingDown == 0 {
		ctx.Next()
		return
	}
	g.door.turnAway(ctx, errShuttingDown)
}

// Stream is the middleware for streams. Shutdown waits for those in hand, and turns
// away what is opened later.
func (g *Graceful) Stream(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
	return func(s *arpc.Stream) {
		defer g.leave()
		if g.state.Add(1)&shuttingDown == 0 {
			next(s)
			return
		}
		g.door.failStream(s, errShuttingDown)
	}
}

func (g *Graceful) leave() {
	if g.state.Add(-1) == shuttingDown {
		g.ended.Do(func() { close(g.idle) })
	}
}

// Shutdown turns away what comes from now on: requests are refused with
// CodeUnavailable, "shutting down", notifications are dropped. It returns nil
// when the messages and streams in hand are done, or an error that wraps ctx.Err() if ctx
// ends before. It may be called more than once, at the same time too, and then
// waits again; from a handler it would wait for itself.
func (g *Graceful) Shutdown(ctx context.Context) error {
	g.begin.Do(func() {
		g.idle = make(chan struct{})
		g.state.Add(1 + shuttingDown)
		g.leave()
	})
	select {
	case <-g.idle:
		return nil
	default:
	}
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("router: shutdown with %d messages and streams in hand: %w", g.state.Load()-shuttingDown, ctx.Err())
	}
}

// Refused returns how many requests and streams were refused since Shutdown was
// called.
func (g *Graceful) Refused() uint64 { return g.door.refused.Load() }

// Dropped returns how many notifications were dropped since then.
func (g *Graceful) Dropped() uint64 { return g.door.dropped.Load() }
