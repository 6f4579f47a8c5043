package buffstreams

import (
	"net"
	"sync"
)

const (
	// readBuffer is the size in bytes of pooled read buffers.
	readBuffer = 64 << 10
	// stashLimit is how much of an incomplete message waits in memory of its own
	// size instead of a read buffer.
	stashLimit = 4 << 10
	// idleBuffer is what a connection that is no socket waits with.
	idleBuffer = 512
)

var readPool = sync.Pool{New: func() any { return new([readBuffer]byte) }}

// incoming is what was received and not handed out. Messages are parsed in place.
type incoming struct {
	framing
	pooled *[readBuffer]byte // that buf is; nil if it is not from the pool
	buf    []byte            // nil while idle
	r, w   int               // buf[r:w] is to be handed out
	stash  []byte            // is, while idle

	idle []byte // to wait with on connections that are no sockets
	hot  bool   // the last read of such a connection filled what it was given
}

// next returns the next message if all of it is there. It is valid until more is
// read.
func (in *incoming) next() (message []byte, ok bool, err error) {
	b := in.buf[in.r:in.w]
	if len(b) < in.header {
		return nil, false, nil
	}
	size, err := in.parseHeader(b[:in.header])
	if err != nil {
		return nil, false, err
	}
	end := in.header + size
	if len(b) < end {
		return nil, false, nil
	}
	in.r += end
	return b[in.header:end:end], true, nil
}

// undo has next return the message again that it has returned last.
func (in *incoming) undo(message []byte) { in.r -= in.header + len(message) }

// held returns how much was received and not handed out.
func (in *incoming) held() int { return in.w - in.r + len(in.stash) }

// readFrom waits for bytes of a connection that is no socket.
func (in *incoming) readFrom(nc net.Conn) (int, error) {
	if in.hot || in.held() > stashLimit {
		n, err := nc.Read(in.space())
		in.hot = n >= idleBuffer
		in.w += n
		return n, err
	}
	in.rest()
	if in.idle == nil {
		in.idle = make([]byte, idleBuffer)
	}
	n, err := nc.Read(in.idle)
	if n > 0 {
		copy(in.space(), in.idle[:n])
		in.w += n
	}
	in.hot = n == len(in.idle) // there is more
	return n, err
}

// space returns where to read to. The buffer grows as bytes arrive, whatever size
// a header announces.
func (in *incoming) space() []byte {
	switch {
	case in.buf == nil:
		in.pooled = readPool.Get().(*[readBuffer]byte)
		in.buf = in.pooled[:]
		in.r, in.w = 0, copy(in.buf, in.stash)
		in.stash = nil
	case in.r > 0:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) { // a message that is longer
		grown := make([]byte, len(in.buf)+min(len(in.buf), in.header+in.max-len(in.buf)))
		copy(grown, in.buf)
		in.putBuffer()
		in.buf = grown
	}
	return in.buf[in.w:]
}

// rest is called before a wait that may be long: the buffer goes back to the pool,
// unless it has much of a message.
func (in *incoming) rest() {
	if in.buf == nil || in.w-in.r > stashLimit {
		return
	}
	if in.r < in.w {
		in.stash = append([]byte(nil), in.buf[in.r:in.w]...)
	}
	in.discard()
}

// discard forgets what is in the buffer.
func (in *incoming) discard() {
	in.putBuffer()
	in.buf, in.r, in.w = nil, 0, 0
}

func (in *incoming) putBuffer() {
	if in.pooled != nil {
		readPool.Put(in.pooled)
		in.pooled = nil
	}
}
