package arpc

import (
	"context"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// incoming holds the peer's requests that are in hand off the reader, so that the
// peer can cancel them. One that is handled on the reader is not in it: no Cancel
// can be read meanwhile.
type incoming struct {
	mu       sync.Mutex
	requests map[uint64]*Context
}

// list makes a request known by its number, if the peer may cancel it.
func (c *conn) list(ctx *Context) {
	if ctx.cmd != wire.CmdRequest || !c.cancels.Load() {
		return
	}
	c.incoming.mu.Lock()
	defer c.incoming.mu.Unlock()
	if !ctx.looked().moved {
		c.incoming.put(ctx)
	}
}

func (in *incoming) put(ctx *Context) {
	if in.requests == nil {
		in.requests = make(map[uint64]*Context)
	}
	in.requests[ctx.seq] = ctx
}

// relist has a detached request take the place of ctx, its lifetime included.
func (c *conn) relist(ctx, detached *Context) {
	c.incoming.mu.Lock()
	defer c.incoming.mu.Unlock()
	ctx.own().moved = true
	if c.cancels.Load() {
		c.incoming.put(detached)
	}
	if x := ctx.extra.Load(); x != nil {
		if l := x.life.Swap(nil); l != nil {
			detached.own().life.Store(l)
		}
	}
}

// unlist forgets a request.
func (c *conn) unlist(ctx *Context) {
	if ctx.cmd != wire.CmdRequest || !c.cancels.Load() {
		return
	}
	c.incoming.mu.Lock()
	defer c.incoming.mu.Unlock()
	if c.incoming.requests[ctx.seq] == ctx {
		delete(c.incoming.requests, ctx.seq)
	}
}

// cancelled ends the context of a request whose caller has given up.
func (c *conn) cancelled(seq uint64, cause error) bool {
	c.incoming.mu.Lock()
	defer c.incoming.mu.Unlock()
	ctx := c.incoming.requests[seq]
	if ctx == nil {
		return false
	}
	ctx.lifetime().cancel(cause)
	return true
}

// context returns a context that ends with the connection.
func (c *conn) context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.rare()
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancelCause(context.Background())
		if c.cause != nil {
			s.cancel(c.cause)
		}
	}
	return s.ctx
}

// timeOf turns a time of the connection's clock into one of the wall.
func (c *conn) timeOf(t int64) time.Time {
	now := time.Now()
	return now.Add(time.Duration(c.born+t) - now.Sub(processStart))
}
