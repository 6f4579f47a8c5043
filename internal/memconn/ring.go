package memconn

const firstRing = 4 << 10 // bytes of the first allocation

// ring is a queue of bytes. The zero value is empty and owns no memory.
type ring struct {
	buf  []byte
	head int // index of the first byte
	n    int // bytes queued
}

// write appends p. The queue grows up to limit, which the caller keeps to.
func (r *ring) write(p []byte, limit int) {
	if need := r.n + len(p); need > len(r.buf) {
		r.grow(need, limit)
	}
	n := copy(r.buf[r.index(r.n):], p)
	copy(r.buf, p[n:])
	r.n += len(p)
}

func (r *ring) grow(need, limit int) {
	buf := make([]byte, min(limit, max(firstRing, 2*len(r.buf), need)))
	n := copy(buf, r.buf[r.head:min(r.head+r.n, len(r.buf))])
	copy(buf[n:], r.buf[:r.n-n])
	r.buf, r.head = buf, 0
}

// read fills p with the first bytes, which the caller knows to be there.
func (r *ring) read(p []byte) {
	n := copy(p, r.buf[r.head:])
	copy(p[n:], r.buf)
	r.head = r.index(len(p))
	r.n -= len(p)
	if r.n == 0 {
		r.head = 0 // the next bytes lie in one piece
	}
}

// at returns the place of byte i of the queue.
func (r *ring) at(i int) *byte { return &r.buf[r.index(i)] }

// index is where byte i of the queue lies, or would.
func (r *ring) index(i int) int {
	i += r.head
	if i >= len(r.buf) {
		i -= len(r.buf)
	}
	return i
}
