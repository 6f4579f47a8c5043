package main

import (
	"fmt"
	"net"
	"sync"
)

// limitRaw is the limit without callers that wait: a reader that answers come to
// calls again, and what it calls goes out in one write for each read.
type limitRaw struct{ limit }

func (limitRaw) Name() string { return "limit, raw frames" }

func (limitRaw) Setup() string {
	return "hand-written: the same server; no caller waits, the client's reader checks the answers of a read and sends the next calls in one write; each sender of notifications fills a buffer of its own"
}

func (limitRaw) Dial(addr string) (Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &rawConn{nc: nc}
	c.wake.L = &c.mu
	c.running.Go(c.write)
	c.running.Go(func() { c.fail(limitRead(nc, c.answers)) })
	return c, nil
}

// rawDirect is how much may be under way for the reader to write itself. A reader
// that waits for a peer which waits for it would be stuck: this much fits into
// the buffers of the sockets.
const rawDirect = 64 << 10

type rawConn struct {
	nc      net.Conn
	running sync.WaitGroup

	// Guarded by mu.
	mu       sync.Mutex
	wake     sync.Cond
	calls    []func([]byte, error) // by number, nil when not in use
	free     []uint32              // numbers that are not in use
	underway int                   // bytes of calls without an answer
	filling  []byte                // what is to be written
	spare    []byte
	batching bool // the reader writes when it is through
	writing  bool
	ended    error
}

func (c *rawConn) Close() error {
	err := c.nc.Close()
	c.running.Wait()
	return err
}

func (c *rawConn) Start(req []byte, done func(rsp []byte, err error)) {
	c.mu.Lock()
	if err := c.ended; err != nil {
		c.mu.Unlock()
		done(nil, err)
		return
	}
	number := c.number()
	c.calls[number] = done
	c.underway += len(req)
	c.filling = limitAppend(c.filling, number, req)
	if !c.batching {
		c.wake.Signal()
	}
	c.mu.Unlock()
}

func (c *rawConn) number() uint32 {
	if n := len(c.free); n > 0 {
		number := c.free[n-1]
		c.free = c.free[:n-1]
		return number
	}
	c.calls = append(c.calls, nil)
	return uint32(len(c.calls) - 1)
}

// answers is called by the reader.
func (c *rawConn) answers(frames []byte) error {
	c.batch(true)
	for len(frames) > 0 {
		body, number, rest := limitFrame(frames)
		frames = rest
		done, err := c.finished(number, len(body))
		if err != nil {
			return err
		}
		done(body, nil)
	}
	c.batch(false)
	return nil
}

func (c *rawConn) finished(number uint32, size int) (done func([]byte, error), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(number) >= len(c.calls) || c.calls[number] == nil {
		return nil, fmt.Errorf("limit: an answer for %d, which is no call", number)
	}
	done, c.calls[number] = c.calls[number], nil
	c.free = append(c.free, number)
	c.underway -= size
	return done, nil
}

// batch begins a read's answers, or sends what they have led to.
func (c *rawConn) batch(begins bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batching = begins
	if begins || len(c.filling) == 0 {
		return
	}
	if c.writing || c.underway > rawDirect {
		c.wake.Signal()
		return
	}
	c.flush()
}

// flush writes what is there. It holds mu, but not while it writes.
func (c *rawConn) flush() {
	c.writing = true
	out := c.filling
	c.filling, c.spare = c.spare[:0], nil
	c.mu.Unlock()
	_, err := c.nc.Write(out)
	c.mu.Lock()
	c.spare = out
	c.writing = false
	if len(c.filling) > 0 {
		c.wake.Signal()
	}
	if err != nil {
		c.nc.Close() // the reader ends the calls
	}
}

// write is the goroutine that writes what the reader does not.
func (c *rawConn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.ended == nil {
		if len(c.filling) == 0 || c.batching || c.writing {
			c.wake.Wait()
			continue
		}
		c.flush()
	}
}

// fail is called by the reader at its end.
func (c *rawConn) fail(err error) {
	c.mu.Lock()
	c.ended = err
	c.wake.Signal()
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	for _, done := range calls {
		if done != nil {
			done(nil, err)
		}
	}
}

// Sender returns one that notifies in large writes of its own.
func (c *rawConn) Sender() Sender { return &rawSender{nc: c.nc} }

type rawSender struct {
	nc     net.Conn
	frames []byte
}

func (s *rawSender) Notify(body []byte) error {
	s.frames = limitAppend(s.frames, limitNotice, body)
	if len(s.frames) < limitBuffer {
		return nil
	}
	return s.Flush()
}

func (s *rawSender) Flush() error {
	_, err := s.nc.Write(s.frames)
	s.frames = s.frames[:0]
	return err
}
