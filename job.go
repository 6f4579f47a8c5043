package arpc

import (
	"sync"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// job is a message on its way to a goroutine of its own.
type job struct {
	req  request
	ctx  *Context
	conn *conn
	gate chan struct{} // to wait for before it runs
}

var jobPool = sync.Pool{New: func() any { return new(job) }}

// newJob copies the frame.
func newJob(c *conn, rt *route, h wire.Header, frame []byte, received, deadline int64) *job {
	j := jobPool.Get().(*job)
	j.conn = c
	if len(frame) > stashLimit && j.req.msg.Buffer == nil {
		j.req.msg.Buffer = largeBuffer(len(frame))
	}
	j.req.msg.Buffer = append(j.req.msg.Buffer[:0], frame...)
	j.ctx = new(Context)
	j.ctx.init(c, &j.req, rt, h, received, deadline)
	c.list(j.ctx)
	return j
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
		c.ordered.push(c, j)
		return
	}
	c.workers.start(j)
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
	if cap(j.req.msg.Buffer) > stashLimit {
		putLargeBuffer(j.req.msg.Buffer)
		j.req.msg.Buffer = nil
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
