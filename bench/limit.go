package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	limitHead   = 8 // length of the body, then the caller's number, both uint32
	limitBuffer = 64 << 10
	// limitNotice is the bit of the number that says not to answer.
	limitNotice = 1 << 31
)

// limit is no RPC system but what blocking callers over one socket can reach:
// length, caller and body, written in batches, nothing routed, nothing
// allocated, no timeouts.
type limit struct{}

func (limit) Name() string { return "limit, blocking callers" }

func (limit) Setup() string {
	return "hand-written: the server sends back the frames of one read in one write; callers share writes and sleep on a channel; no names, timeouts or limits"
}

func (limit) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	return limitAccept(ctx, ln, func(nc net.Conn) { limitServe(nc, work) })
}

// limitAccept has each connection served on a goroutine of its own until ctx ends.
func limitAccept(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		serving.Go(func() {
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			serve(nc)
		})
	}
}

func limitServe(nc net.Conn, work *Work) {
	limitRead(nc, func(frames []byte) error {
		for len(frames) > 0 {
			calls, rest := limitCut(frames, work)
			frames = rest
			if err := limitAnswer(nc, calls, work); err != nil {
				return err
			}
		}
		return nil
	})
}

// limitCut returns the calls that frames begin with, and what is behind them and
// the notifications that follow.
func limitCut(frames []byte, work *Work) (calls, rest []byte) {
	end := 0
	for end < len(frames) {
		body, number, after := limitFrame(frames[end:])
		if number&limitNotice != 0 {
			work.Notice(body)
			return frames[:end], after
		}
		end = len(frames) - len(after)
	}
	return frames, nil
}

// limitAnswer sends calls back, all in one write.
func limitAnswer(nc net.Conn, calls []byte, work *Work) error {
	if len(calls) == 0 {
		return nil
	}
	if work.Delay == 0 {
		_, err := nc.Write(calls)
		return err
	}
	calls = slices.Clone(calls)
	time.AfterFunc(work.Delay, func() { nc.Write(calls) })
	return nil
}

// limitFrame cuts the first off frames.
func limitFrame(frames []byte) (body []byte, number uint32, rest []byte) {
	end := limitHead + int(binary.LittleEndian.Uint32(frames))
	return frames[limitHead:end], binary.LittleEndian.Uint32(frames[4:]), frames[end:]
}

func limitAppend(frames []byte, number uint32, body []byte) []byte {
	frames = binary.LittleEndian.AppendUint32(frames, uint32(len(body)))
	frames = binary.LittleEndian.AppendUint32(frames, number)
	return append(frames, body...)
}

// limitRead hands on the whole frames of each read until an error.
func limitRead(r io.Reader, handle func(frames []byte) error) error {
	buf, have := make([]byte, limitBuffer), 0
	for {
		n, err := r.Read(buf[have:])
		have += n
		whole := 0
		for have-whole >= limitHead {
			size := limitHead + int(binary.LittleEndian.Uint32(buf[whole:]))
			if have-whole < size {
				if size > len(buf) {
					buf = append(buf, make([]byte, size)...)
				}
				break
			}
			whole += size
		}
		if whole > 0 {
			if err := handle(buf[:whole]); err != nil {
				return err
			}
			have = copy(buf, buf[whole:have])
		}
		if err != nil {
			return err
		}
	}
}

func (limit) Dial(addr string) (Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &limitConn{nc: nc}
	c.reader.Go(func() { c.fail(limitRead(nc, c.answers)) })
	return c, nil
}

type limitConn struct {
	nc      net.Conn
	reader  sync.WaitGroup
	callers atomic.Pointer[[]*limitCaller]

	// Guarded by mu.
	mu       sync.Mutex
	filling  []byte
	spare    []byte // nil while it is being written
	flushing bool
	err      error
}

func (c *limitConn) Close() error {
	err := c.nc.Close()
	c.reader.Wait()
	return err
}

func (c *limitConn) Caller() Caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	var callers []*limitCaller
	if old := c.callers.Load(); old != nil {
		callers = *old
	}
	caller := &limitCaller{conn: c, number: uint32(len(callers)), done: make(chan error, 1)}
	callers = append(callers, caller) // behind the end of what answers sees
	c.callers.Store(&callers)
	return caller
}

type limitCaller struct {
	conn   *limitConn
	number uint32
	rsp    []byte
	done   chan error
}

func (c *limitCaller) Call(req []byte) ([]byte, error) {
	if err := c.conn.send(c.number, req); err != nil {
		return nil, err
	}
	return c.rsp, <-c.done
}

func (c *limitConn) send(number uint32, body []byte) error {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.filling = limitAppend(c.filling, number, body)
	first := !c.flushing
	c.flushing = true
	c.mu.Unlock()
	if first {
		runtime.Gosched() // so that other callers add their frames
		c.flush()
	}
	return nil
}

func (c *limitConn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.filling) > 0 && c.err == nil {
		out := c.filling
		c.filling, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		_, err := c.nc.Write(out)
		c.mu.Lock()
		c.spare = out
		if err != nil {
			c.nc.Close() // the reader tells the callers
			break
		}
	}
	c.flushing = false
}

// answers is called by the reader.
func (c *limitConn) answers(frames []byte) error {
	callers := *c.callers.Load()
	for len(frames) > 0 {
		body, number, rest := limitFrame(frames)
		if int(number) >= len(callers) {
			return fmt.Errorf("limit: an answer for caller %d, there are %d", number, len(callers))
		}
		caller := callers[number]
		caller.rsp = append(caller.rsp[:0], body...)
		frames = rest
		caller.done <- nil
	}
	return nil
}

// fail is called by the reader at its end. It tells the callers that wait.
func (c *limitConn) fail(err error) {
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	if callers := c.callers.Load(); callers != nil {
		for _, caller := range *callers {
			select {
			case caller.done <- err:
			default:
			}
		}
	}
}
