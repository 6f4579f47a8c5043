package arpc

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Large messages that handlers on other goroutines hold stay as they came, whatever
// the reader receives meanwhile: it has given its buffer away.
func TestHeldMessagesStayAsTheyCame(t *testing.T) {
	for name, listen := range engListeners {
		t.Run(name, func(t *testing.T) {
			const held = 8
			var all sync.WaitGroup
			all.Add(held)
			near, _ := engPair(t, listen, func(h *Handler) {
				decided(decisions{neverInline: true}).apply(h)
				h.Handle("/held", func(ctx *Context) {
					all.Done()
					all.Wait()
					ctx.WriteBytes(ctx.Body())
				})
				h.Handle("/passing", func(ctx *Context) { ctx.WriteBytes(ctx.Body()) })
			})
			answers := make(chan error, 2*held)
			ask := func(method string, n, size int) {
				body := bytes.Repeat([]byte{byte(n)}, size)
				var rsp []byte
				err := near.Call(method, body, &rsp, time.Minute)
				if err == nil && !bytes.Equal(body, rsp) {
					err = fmt.Errorf("%s of %d bytes came back as something else", method, size)
				}
				answers <- err
			}
			for n := range held - 1 {
				go ask("/held", n, n*100_000)
				ask("/passing", 100+n, 70_000)
				require.NoError(t, <-answers)
			}
			ask("/held", held, 1<<20)
			for range held {
				require.NoError(t, <-answers)
			}
		})
	}
}

// The buffer goes along with a message that takes most of it, and no other.
func TestReadBufferIsHandedOver(t *testing.T) {
	const size = 200_000
	reading := func(start, n, behind int) (r *reader, frame []byte) {
		r = &reader{s: &scratch{buf: make([]byte, size)}, r: start + n, w: start + n + behind}
		for i := range r.w {
			r.s.buf[i] = byte(i)
		}
		return r, r.s.buf[start : start+n]
	}
	for _, c := range []struct {
		start, n, behind int
		want             bool
	}{
		{0, size, 0, true},
		{0, size - 100, 100, true},
		{1000, size - 3000, 50, true},
		{0, size / 2, size / 2, false},
		{0, largeBody - 1, 0, false},
	} {
		r, frame := reading(c.start, c.n, c.behind)
		old, rest := &r.s.buf[0], bytes.Clone(r.s.buf[r.r:r.w])
		var j job
		require.Equal(t, c.want, r.handOver(&j, frame), c)
		require.Equal(t, !c.want, old == &r.s.buf[0])
		require.Len(t, r.s.buf, size)
		require.Equal(t, rest, r.s.buf[r.r:r.w])
		if c.want {
			require.Same(t, old, &j.memory[0])
			require.Same(t, &frame[0], &j.req.msg.Buffer[0])
		}
	}
	r, frame := reading(0, size, 0)
	require.False(t, r.handOver(new(job), bytes.Clone(frame)), "a coder has made it")
}
