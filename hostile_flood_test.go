package arpc_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/stretchr/testify/require"
)

// hostileBuffer is what one direction of a connection in memory holds.
const hostileBuffer = 64 << 10

// hostileInBubble is hostileOnEach on a fake clock. Waits in it end when nothing
// else can happen any more.
func hostileInBubble(t *testing.T, opts []arpc.Option, test func(t *testing.T, target *hostileTarget)) {
	for name, role := range hostileRoles {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen(memconn.WithBuffer(hostileBuffer))
				t.Cleanup(func() { ln.Close() })
				target := newHostileTarget(opts)
				target.accept = role(t, ln, target.handler)
				test(t, target)
			})
		})
	}
}

// flood writes what next returns until the connection is over.
func (p *hostilePeer) flood(next func(n int) []byte) {
	p.nc.SetDeadline(time.Time{})
	for n := 0; ; n++ {
		if _, err := p.nc.Write(next(n)); err != nil {
			return
		}
	}
}

func (p *hostilePeer) written() int { return int(p.nc.(*memconn.Conn).BytesWritten()) }

// A peer that reads nothing of what it asks for loses its connection before
// much has gathered.
func TestHostileNothingIsRead(t *testing.T) {
	const queue, reserve = 4 << 10, 1 << 20
	for name, frame := range map[string]hostileMsg{
		"pings":                    {cmd: 4},
		"requests without a route": {1, 0, 7, "/nope", ""},
		"requests without sense":   {1, 0, 7, "", ""},
		"requests over the limit":  {1, 0, 7, "/echo", strings.Repeat("x", 1000)},
		"streams without a route":  {0xc6, 0, 7, "/nope", ""},
	} {
		t.Run(name, func(t *testing.T) {
			opts := []arpc.Option{arpc.WithMaxBodyLen(500), arpc.WithSendQueue(100, queue)}
			hostileInBubble(t, opts, func(t *testing.T, target *hostileTarget) {
				p := target.connect(t)
				b := frame.frame()
				many := bytes.Repeat(b, 100)
				p.flood(func(int) []byte { return many })
				cause := target.ended(t)
				require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(cause))
				require.ErrorContains(t, cause, "does not read the answers")
				require.ErrorContains(t, cause, "WithSendQueue")
				answer := 16 // the shortest there is
				most := 2 * (queue + reserve) / answer * len(b)
				require.Less(t, p.written(), most)
				require.Empty(t, target.connect(t).answers())
			})
		})
	}
}

// Requests whose answers nobody reads stop being read when the send queue and
// the handlers in flight are at their bounds. Then the write timeout counts.
func TestHostileResponsesAreNotRead(t *testing.T) {
	opts := []arpc.Option{arpc.WithSendQueue(16, 16<<10), arpc.WithMaxInflight(32)}
	hostileInBubble(t, opts, func(t *testing.T, target *hostileTarget) {
		var handled atomic.Int32
		target.handler.Handle("/count", func(ctx *arpc.Context) {
			handled.Add(1)
			ctx.Write(ctx.Body())
		})
		p := target.connect(t)
		b := hostileMsg{1, 0, 7, "/count", strings.Repeat("x", 1000)}.frame()
		p.flood(func(int) []byte { return b })
		require.ErrorContains(t, target.ended(t), "WithWriteTimeout 10s")
		require.Less(t, handled.Load(), int32(32+16*2+4*hostileBuffer/len(b)))
		require.Less(t, p.written(), 8*hostileBuffer)
		require.Empty(t, target.connect(t).answers())
	})
}

// Notifications that come faster than they are handled wait at the peer. None
// is lost, and their order is kept.
func TestHostileNotifications(t *testing.T) {
	const sent = 5000
	hostileInBubble(t, []arpc.Option{arpc.WithMaxInflight(8)}, func(t *testing.T, target *hostileTarget) {
		release, done := make(chan struct{}), make(chan struct{})
		handled := 0
		target.handler.Handle("/note", func(ctx *arpc.Context) {
			<-release
			require.Equal(t, fmt.Sprintf("%0100d", handled), string(ctx.Body()))
			if handled++; handled == sent {
				close(done)
			}
		})
		p := target.connect(t)
		go func() {
			for n := range sent {
				p.send(hostileMsg{3, 2, 7, "/note", fmt.Sprintf("%0100d", n)}.frame())
			}
		}()
		synctest.Wait()
		written := p.written()
		close(release)
		require.Less(t, written, 4*hostileBuffer, "the peer has to wait")
		<-done
		require.Empty(t, p.answers())
		require.Zero(t, target.dropped.Load())
	})
}

// While a call of ours waits for its answer on the same connection, requests
// over the limit are refused rather than not read.
func TestHostileRequestsWhileCalling(t *testing.T) {
	hostileInBubble(t, []arpc.Option{arpc.WithMaxInflight(8)}, func(t *testing.T, target *hostileTarget) {
		release := make(chan struct{})
		target.handler.Handle("/held", func(ctx *arpc.Context) {
			<-release
			ctx.Write(nil)
		}, true)
		p := target.connect(t)
		c := <-target.clients
		synctest.Wait() // the connected hook counts as in flight while it runs
		outcome := hostileCalls["Call"](c)
		call := p.request()
		for seq := range uint64(100) {
			p.send(hostileMsg{1, 0, 1000 + seq, "/held", ""}.frame())
		}
		for range 100 - 8 {
			m := p.mustReceive()
			require.Equal(t, hostileMsg{2, 1, m.seq, "/held", m.payload}, m)
			require.Contains(t, m.payload, "WithMaxInflight")
		}
		p.send(hostileFine(call))
		require.NoError(t, <-outcome)
		close(release)
		for range 8 {
			require.Zero(t, p.mustReceive().flag)
		}
		require.Empty(t, p.answers())
	})
}

// A frame that is refused behind a slow handler is skipped by whoever reads on.
func TestHostileTooLargeBehindSlowHandler(t *testing.T) {
	hostileInBubble(t, []arpc.Option{arpc.WithMaxBodyLen(1000)}, func(t *testing.T, target *hostileTarget) {
		release := make(chan struct{})
		target.handler.Handle("/held", func(ctx *arpc.Context) {
			<-release
			ctx.Write(nil)
		})
		held := hostileMsg{1, 0, 8, "/held", ""}.frame()
		frames := append(held, hostileMsg{1, 0, 7, "/echo", strings.Repeat("x", 10000)}.frame()...)
		p := target.connect(t)
		for _, at := range []int{len(held), len(held) + 5, len(held) + 18, len(held) + 500, len(frames)} {
			p.send(frames[:at])
			synctest.Wait()
			p.send(frames[at:])
			hostileMatch(t, []hostileMsg{{2, 1, 7, "/echo", "limit of 1000"}}, p.answers())
			release <- struct{}{}
			require.Equal(t, hostileMsg{2, 0, 8, "/held", ""}, p.mustReceive())
		}
	})
}

// A stream over the limit is refused. A peer that goes on with too many such
// streams loses its connection.
func TestHostileStreamOpenings(t *testing.T) {
	const limit = 4
	hostileInBubble(t, []arpc.Option{arpc.WithMaxStreams(limit)}, func(t *testing.T, target *hostileTarget) {
		p := target.connect(t)
		for id := range uint64(limit) {
			p.send(hostileMsg{0x86, 0, id, "/stream", "hello"}.frame())
			require.Equal(t, hostileMsg{0x06, 0, id, "/stream", "hello"}, p.mustReceive())
		}
		for id := range uint64(10 * limit) {
			p.send(hostileMsg{0xc6, 0, 100 + id, "/stream", "no more"}.frame())
			require.Equal(t, hostileMsg{0x46, 0, 100 + id, "/stream", ""}, p.mustReceive())
		}
		p.send(hostileMsg{0x86, 0, 0, "/stream", "still there?"}.frame())
		require.Equal(t, hostileMsg{0x06, 0, 0, "/stream", "still there?"}, p.mustReceive())

		go io.Copy(io.Discard, p.nc)
		opened := 0
		p.flood(func(n int) []byte {
			opened = n
			return hostileMsg{0x86, 0, 1000 + uint64(n), "/stream", "more"}.frame()
		})
		cause := target.ended(t)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(cause))
		require.ErrorContains(t, cause, "WithMaxStreams")
		require.Greater(t, opened, limit)
		require.Less(t, opened, 4*hostileBuffer/20)
		require.Empty(t, target.connect(t).answers())
	})
}

// What a stream's handler does not take is bounded, for each stream and for all
// of a connection. The stream is dropped; the connection goes on.
func TestHostileStreamData(t *testing.T) {
	for name, c := range map[string]struct {
		opts []arpc.Option
		size int // of each message
		kept int // messages of 20 that the handler gets
	}{
		"messages":          {[]arpc.Option{arpc.WithStreamQueue(8, 1<<20)}, 10, 8},
		"empty messages":    {[]arpc.Option{arpc.WithStreamQueue(8, 1<<20)}, 0, 8},
		"bytes":             {[]arpc.Option{arpc.WithStreamQueue(1000, 1000)}, 300, 3},
		"one large":         {[]arpc.Option{arpc.WithStreamQueue(1000, 1000)}, 2000, 1},
		"bytes of them all": {[]arpc.Option{arpc.WithMaxInflightBytes(1000)}, 300, 3},
	} {
		t.Run(name, func(t *testing.T) {
			hostileInBubble(t, c.opts, func(t *testing.T, target *hostileTarget) {
				release := make(chan struct{})
				type outcome struct {
					kept int
					err  error
				}
				outcomes := make(chan outcome, 1)
				target.handler.HandleStream("/held", func(st *arpc.Stream) {
					<-release
					o := outcome{}
					for data := []byte(nil); o.err == nil; o.kept++ {
						o.err = st.Recv(&data)
					}
					o.kept--
					outcomes <- o
				})
				p := target.connect(t)
				for range 20 {
					p.send(hostileMsg{0x86, 0, 7, "/held", strings.Repeat("x", c.size)}.frame())
				}
				require.Equal(t, []hostileMsg{{0x46, 0, 7, "/held", ""}}, p.answers())
				close(release)
				o := <-outcomes
				require.Equal(t, c.kept, o.kept)
				require.ErrorIs(t, o.err, arpc.ErrStreamOverrun)
				p.send(hostileMsg{0xc6, 0, 7, "/held", ""}.frame())
				require.Empty(t, p.answers())
				require.EqualValues(t, 20-c.kept-1+1, target.dropped.Load())
			})
		})
	}
}

// Many streams together hold no more than the connection may.
func TestHostileManyStreams(t *testing.T) {
	const limit = 100 << 10
	hostileInBubble(t, []arpc.Option{arpc.WithMaxInflightBytes(limit)}, func(t *testing.T, target *hostileTarget) {
		release := make(chan struct{})
		kept := make(chan int, 1000)
		target.handler.HandleStream("/held", func(st *arpc.Stream) {
			<-release
			n := 0
			for data := []byte(nil); st.Recv(&data) == nil; {
				n += len(data)
			}
			kept <- n
		})
		p := target.connect(t)
		go io.Copy(io.Discard, p.nc)
		for n := range 1000 {
			p.send(hostileMsg{0x86, 0, uint64(n % 50), "/held", strings.Repeat("x", 1000)}.frame())
		}
		for id := range uint64(50) {
			p.send(hostileMsg{0xc6, 0, id, "/held", ""}.frame())
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		total := 0
		for range len(kept) {
			total += <-kept
		}
		require.Greater(t, total, limit/2)
		// One message passes for each stream whose queue is empty.
		require.LessOrEqual(t, total, limit+50*1000)
		require.Empty(t, target.connect(t).answers())
	})
}

// Handlers of streams that were dropped count as long as they run.
func TestHostileOverrunStreams(t *testing.T) {
	const limit = 4
	opts := []arpc.Option{arpc.WithMaxStreams(limit), arpc.WithStreamQueue(2, 1<<20)}
	hostileInBubble(t, opts, func(t *testing.T, target *hostileTarget) {
		release := make(chan struct{})
		var running atomic.Int32
		target.handler.HandleStream("/held", func(*arpc.Stream) {
			running.Add(1)
			defer running.Add(-1)
			<-release
		})
		p := target.connect(t)
		go io.Copy(io.Discard, p.nc)
		for id := range uint64(100) {
			for range 3 {
				p.send(hostileMsg{0x86, 0, id, "/held", "x"}.frame())
			}
			p.send(hostileMsg{0xc6, 0, id, "/held", ""}.frame())
		}
		synctest.Wait()
		most := running.Load()
		close(release)
		require.EqualValues(t, limit, most)
		require.Empty(t, target.connect(t).answers())
	})
}

// A frame that does not come to its end is not waited for for ever, in one
// piece or byte by byte.
func TestHostileSlowFrame(t *testing.T) {
	whole := hostileMsg{1, 0, 7, "/echo", strings.Repeat("x", 1000)}.frame()
	for name, bytes := range map[string]int{"header": 1, "method": 18, "body": 500} {
		for how, pause := range map[string]time.Duration{"silent": time.Hour, "slow": time.Second} {
			t.Run(name+"/"+how, func(t *testing.T) {
				hostileInBubble(t, []arpc.Option{arpc.WithReadTimeout(20 * time.Second), arpc.WithKeepalive(0, 0)}, func(t *testing.T, target *hostileTarget) {
					p := target.connect(t)
					require.Empty(t, p.answers())
					p.nc.SetDeadline(time.Time{})
					start := time.Now()
					p.send(whole[:bytes])
					go func() {
						for _, b := range whole[bytes:] {
							select {
							case <-time.After(pause):
							case <-t.Context().Done():
								return
							}
							p.send([]byte{b})
						}
					}()
					cause := <-target.causes
					require.Equal(t, 20*time.Second, time.Since(start))
					require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(cause))
					require.ErrorContains(t, cause, "WithReadTimeout 20s")
				})
			})
		}
	}
}
