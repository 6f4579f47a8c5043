package main

import (
	"context"
	"net"
	"sync"
)

// limitSpawn is the limit with handlers that may block: a goroutine for each request
// sleeps, and writes its answer together with those of others.
type limitSpawn struct{ limit }

func (limitSpawn) Name() string { return "limit, a goroutine for each request" }

func (limitSpawn) Setup() string {
	return "hand-written: as with blocking callers, but that the server copies each request, sleeps on a new goroutine and answers from there; answers share writes"
}

func (limitSpawn) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	return limitAccept(ctx, ln, func(nc net.Conn) {
		c := &limitConn{nc: nc}
		limitRead(nc, func(frames []byte) error { return c.spawn(frames, work) })
	})
}

// limitBodies has the memory of requests in hand.
var limitBodies = sync.Pool{New: func() any { return new([]byte) }}

func (c *limitConn) spawn(frames []byte, work *Work) error {
	for len(frames) > 0 {
		body, number, rest := limitFrame(frames)
		frames = rest
		kept := limitBodies.Get().(*[]byte)
		*kept = append((*kept)[:0], body...)
		go func() {
			work.Pause()
			c.send(number, *kept)
			limitBodies.Put(kept)
		}()
	}
	return nil
}
