package arpc

import (
	"slices"
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// job is a message on its way to a goroutine of its own.
type job struct {
	req    request
	ctx    *Context
	conn   *conn
	gate   chan struct{} // to wait for before it runs
	memory []byte        // that the message lies in
}

var jobPool = sync.Pool{New: func() any { return new(job) }}

// newJob takes the frame along.
func (r *reader) newJob(rt *route, h wire.Header, frame []byte, deadline int64) *job {
	j := jobPool.Get().(*job)
	if !r.handOver(j, frame) {
		j.copy(frame)
	}
	j.begin(r.conn, rt, h, r.arrived(), deadline)
	return j
}

// newJob copies the frame.
func newJob(c *conn, h wire.Header, frame []byte) *job {
	j := jobPool.Get().(*job)
	j.copy(frame)
	j.begin(c, nil, h, c.now(), 0)
	return j
}

func (j *job) begin(c *conn, rt *route, h wire.Header, received, deadline int64) {
	j.conn = c
	j.ctx = new(Context)
	j.ctx.init(c, &j.req, rt, h, received, deadline)
	c.list(j.ctx)
}

func (j *job) copy(frame []byte) {
	if len(frame) > stashLimit && j.memory == nil {
		j.memory = largeBuffer(len(frame))
	}
	j.memory = append(j.memory[:0], frame...)
	j.req.msg.Buffer = j.memory
}

// handOver gives the read buffer away, with the frame in it, if the frame is large
// and takes most of the buffer. The reader goes on with another one.
func (r *reader) handOver(j *job, frame []byte) bool {
	buf, start := r.s.buf, r.r-len(frame)
	if len(frame) < largeBody || len(frame) < len(buf)/4*3 || start < 0 || &buf[start] != &frame[0] {
		return false
	}
	next := largeBuffer(len(buf))
	if next == nil {
		next = slices.Grow(next, len(buf))
	}
	r.s.buf = next[:len(buf)]
	r.r, r.w = 0, copy(r.s.buf, buf[r.r:r.w])
	j.memory, j.req.msg.Buffer = buf, frame
	return true
}

// carry has the message come with values that coders attached.
func (j *job) carry(values map[any]any) {
	if values != nil {
		j.req.msg.values = values
		j.ctx.own().carried = values
	}
}

// spawn runs a job that is counted already.
func (r *reader) spawn(j *job, ordered bool) {
	c := r.conn
	if ordered {
		c.orderedHint = true
		c.orderedQueue().push(c, j)
		return
	}
	c.workerPool().start(j)
}

// largePool has memory for large messages on their way to a goroutine of their own,
// apart from jobs, so that small ones do not hold it.
var largePool sync.Pool

func largeBuffer(n int) []byte {
	if b, ok := largePool.Get().(*[]byte); ok && cap(*b) >= n {
		return *b
	}
	return nil
}

func putLargeBuffer(b []byte) {
	if cap(b) <= maxPooled {
		b = b[:0]
		largePool.Put(&b)
	}
}

// run handles the message and gives the job back.
func (j *job) run() {
	c := j.conn
	if j.gate != nil {
		<-j.gate
	}
	start := time.Now()
	j.serve()
	c.unlist(j.ctx)
	pace := &c.callbackPace
	if j.ctx.rt != nil {
		pace = j.ctx.rt.slow
	}
	pace.took(time.Since(start))
	c.release(len(j.req.msg.Buffer))
	j.ctx, j.conn, j.gate = nil, nil, nil
	j.req.msg.values, j.req.msg.err = nil, nil
	j.req.msg.Buffer, j.req.callback = nil, nil
	if cap(j.memory) > stashLimit {
		putLargeBuffer(j.memory)
		j.memory = nil
	}
	jobPool.Put(j)
}

// serve runs the handler, unless nobody waits for it any more, or the connection
// ended before it could be used.
func (j *job) serve() {
	ctx := j.ctx
	if j.gate != nil && j.conn.stage.Load() != stageUsed {
		ctx.cmd = wire.CmdNotify // nobody is to be answered
		ctx.end()
		return
	}
	err := ctx.expired()
	switch {
	case err != nil && ctx.cmd == wire.CmdRequest:
		if ctx.claim(true) {
			ctx.fail(err)
		}
	case ctx.rt != nil:
		ctx.handle()
		return
	default:
		ctx.run()
	}
	ctx.end()
}
