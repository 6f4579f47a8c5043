package main

import (
	"errors"
	"sync"
)

// maxAhead is how many broadcast messages may be on their way to a subscriber.
const maxAhead = 1024

// caster is the goroutine of a server's process that broadcasts, as far as it
// is allowed.
type caster struct {
	work *Work
	done sync.WaitGroup

	// Guarded by mu.
	mu    sync.Mutex
	moved sync.Cond
	sent  uint64
	until uint64
	size  int
	ended bool
}

func newCaster(work *Work) *caster {
	c := &caster{work: work}
	c.moved.L = &c.mu
	c.done.Go(c.run)
	return c
}

// allow has messages sent up to a number, of a size that does not change.
func (c *caster) allow(until uint64, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until, c.size = until, size
	c.moved.Signal()
}

func (c *caster) stop() {
	c.mu.Lock()
	c.ended = true
	c.moved.Signal()
	c.mu.Unlock()
	c.done.Wait()
}

var errNoBroadcast = errors.New("this server cannot broadcast")

func (c *caster) run() {
	var body []byte
	for {
		n, size, ok := c.next()
		if !ok {
			return
		}
		if body == nil {
			body = newNotice(size)
		}
		if err := c.send(body, n); err != nil {
			c.work.fail(err)
			return
		}
	}
}

// next waits until there is something to send.
func (c *caster) next() (n uint64, size int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sent >= c.until && !c.ended {
		c.moved.Wait()
	}
	c.sent++
	return c.sent, c.size, !c.ended
}

func (c *caster) send(body []byte, n uint64) error {
	c.work.mu.Lock()
	broadcast := c.work.broadcast
	c.work.mu.Unlock()
	if broadcast == nil {
		return errNoBroadcast
	}
	stamp(body, 0, n)
	return broadcast(body)
}
