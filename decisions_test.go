package arpc

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The benchmarks of this file justify decisions of docs/ARCHITECTURE.md. Each
// has what the engine does beside what it could have done.

func decided(d decisions) Option {
	return Option{apply: func(h *Handler) {
		h.set("decisions", "", true, func(s *settings) { s.decisions = d })
	}}
}

func benchPair(b *testing.B, opts ...Option) (*Server, *Client) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	s := NewServer(opts...)
	go s.Serve(ln)
	b.Cleanup(s.Stop)
	s.Handler.Handle("/echo", func(ctx *Context) { ctx.WriteBytes(ctx.Body()) })
	c, err := NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, opts...)
	require.NoError(b, err)
	b.Cleanup(c.Stop)
	return s, c
}

// benchCalls spreads b.N echo calls over callers and compares the answers.
func benchCalls(b *testing.B, c *Client, callers, size int) {
	b.Helper()
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			req := bytes.Repeat([]byte("x"), size)
			var rsp []byte
			for left.Add(-1) >= 0 {
				if err := c.Call("/echo", &req, &rsp, time.Minute); err != nil || len(rsp) != size {
					b.Errorf("%d bytes, error %v", len(rsp), err)
					return
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkYield(b *testing.B) {
	for _, callers := range []int{1, 100, 1000} {
		for name, d := range map[string]decisions{"yield": {}, "at-once": {neverYield: true}} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				var writes atomic.Int64
				_, c := benchPair(b, decided(d))
				c.Handler.BeforeSend(func(net.Conn) error { writes.Add(1); return nil })
				c.Restart()
				require.Eventually(b, func() bool { return c.Call("/echo", nil, nil, time.Second) == nil }, 5*time.Second, time.Millisecond)
				writes.Store(0)
				benchCalls(b, c, callers, 128)
				b.ReportMetric(float64(b.N)/float64(max(writes.Load(), 1)), "frames/write")
			})
		}
	}
}

func BenchmarkBaton(b *testing.B) {
	for _, callers := range []int{1, 100, 1000} {
		for name, d := range map[string]decisions{"baton": {}, "goroutine-each": {neverInline: true}} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				_, c := benchPair(b, decided(d))
				benchCalls(b, c, callers, 128)
			})
		}
	}
}

// A handler that sleeps for 30 ms, and 5,000 calls outstanding.
func BenchmarkSlowHandler(b *testing.B) {
	for name, d := range map[string]decisions{"baton": {}, "new-goroutines": {neverReuse: true}} {
		b.Run(name, func(b *testing.B) {
			s, c := benchPair(b, decided(d))
			s.Handler.Handle("/slow", func(ctx *Context) { time.Sleep(30 * time.Millisecond); ctx.WriteBytes(ctx.Body()) })
			var all sync.WaitGroup
			slots := make(chan struct{}, 5000)
			body := make([]byte, 128)
			b.ResetTimer()
			for range b.N {
				slots <- struct{}{}
				all.Add(1)
				err := c.CallAsync("/slow", &body, func(ctx *Context) {
					if err := ctx.Bind(nil); err != nil {
						b.Error(err)
					}
					<-slots
					all.Done()
				}, time.Minute)
				require.NoError(b, err)
			}
			all.Wait()
		})
	}
}

func BenchmarkLargeBody(b *testing.B) {
	for _, size := range []int{16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20} {
		for name, d := range map[string]decisions{"in-place": {}, "copied": {alwaysCopy: true}} {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				_, c := benchPair(b, decided(d))
				b.SetBytes(int64(2 * size))
				benchCalls(b, c, 8, size)
			})
		}
	}
}

// Callbacks that call again, 100 at a time.
func BenchmarkAsync(b *testing.B) {
	for name, d := range map[string]decisions{"flushers": {}, "at-once": {neverShare: true}} {
		b.Run(name, func(b *testing.B) {
			_, c := benchPair(b, decided(d))
			body := make([]byte, 128)
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			var again func(*Context)
			again = func(*Context) {
				if left.Add(-1) < 0 {
					all.Done()
				} else if err := c.CallAsync("/echo", &body, again, time.Minute); err != nil {
					b.Error(err)
					all.Done()
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range 100 {
				all.Add(1)
				again(nil)
			}
			all.Wait()
		})
	}
}

// Messages for 200 subscribers, up to 64 on their way to each.
func BenchmarkBroadcast(b *testing.B) {
	const subscribers, ahead = 200, 64
	for name, d := range map[string]decisions{"flushers": {}, "at-once": {neverShare: true}} {
		b.Run(name, func(b *testing.B) {
			s, c := benchPair(b, decided(d))
			addr := c.Conn().RemoteAddr().String()
			c.Handler.Handle("/news", func(*Context) {})
			var got sync.WaitGroup
			h := NewHandler()
			h.Handle("/news", func(*Context) { got.Done() })
			for range subscribers {
				c, err := NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, WithHandler(h))
				require.NoError(b, err)
				b.Cleanup(c.Stop)
			}
			require.Eventually(b, func() bool { return len(s.Clients()) == subscribers+1 }, 10*time.Second, time.Millisecond)
			b.ResetTimer()
			for n := 0; n < b.N; n += ahead {
				some := min(ahead, b.N-n)
				got.Add(subscribers * some)
				for range some {
					require.NoError(b, s.Broadcast("/news", "something has happened"))
				}
				got.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*subscribers), "ns/delivery")
		})
	}
}

// What an idle connection costs, both ends, in bytes of heap and stacks.
func BenchmarkIdleConnection(b *testing.B) {
	for name, d := range map[string]decisions{"raw": {}, "net.Conn": {neverRaw: true}} {
		b.Run(name, func(b *testing.B) {
			const conns = 500
			for range b.N {
				before := liveBytes()
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(b, err)
				s := NewServer(decided(d))
				s.Handler.Handle("/echo", func(ctx *Context) { ctx.WriteBytes(ctx.Body()) })
				go s.Serve(ln)
				h := NewHandler(decided(d))
				clients := make([]*Client, conns)
				for i := range clients {
					clients[i], err = NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, WithHandler(h))
					require.NoError(b, err)
					require.NoError(b, clients[i].Call("/echo", "x", nil, time.Minute))
				}
				b.ReportMetric(float64(liveBytes()-before)/(2*conns), "B/end")
				for _, c := range clients {
					c.Stop()
				}
				s.Stop()
			}
		})
	}
}

func liveBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Looking up calls in flight: slots with generations against a map.
func BenchmarkCallTable(b *testing.B) {
	for _, inflight := range []int{1, 100, 200_000} {
		b.Run(fmt.Sprintf("slots/inflight=%d", inflight), func(b *testing.B) {
			t := newCallTable(1, new(atomic.Int64))
			k := new(call)
			for range inflight {
				t.add(k, 0)
			}
			b.ResetTimer()
			for range b.N {
				t.take(t.add(k, 0))
			}
		})
		b.Run(fmt.Sprintf("map/inflight=%d", inflight), func(b *testing.B) {
			m := make(map[uint64]*call)
			k := new(call)
			for i := range inflight {
				m[uint64(i)] = k
			}
			seq := uint64(inflight)
			b.ResetTimer()
			for range b.N {
				m[seq] = k
				delete(m, seq)
				seq++
			}
		})
	}
}

// Deadlines: one sweep per connection against a timer per call.
func BenchmarkDeadline(b *testing.B) {
	b.Run("sweep", func(b *testing.B) {
		_, c := benchPair(b)
		benchCalls(b, c, 100, 128)
	})
	b.Run("timer-each", func(b *testing.B) {
		_, c := benchPair(b)
		b.ReportAllocs()
		var left atomic.Int64
		left.Store(int64(b.N))
		var all sync.WaitGroup
		b.ResetTimer()
		for range 100 {
			all.Go(func() {
				req := make([]byte, 128)
				var rsp []byte
				for left.Add(-1) >= 0 {
					timer := time.AfterFunc(time.Minute, func() {})
					if err := c.Call("/echo", &req, &rsp, TimeForever); err != nil {
						b.Error(err)
						return
					}
					timer.Stop()
				}
			})
		}
		all.Wait()
	})
}
