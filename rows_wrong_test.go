package arpc_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
)

// rowUnencodable is refused by every codec.
type rowUnencodable struct{ F func() }

// A predecessor sent a value that cannot be encoded as an empty one.
func TestRow05_ValueThatCannotBeEncodedIsAnError(t *testing.T) {
	s, c := rowPair(t, memconn.Listen())
	var received atomic.Int64
	count := func(ctx *arpc.Context) { received.Add(1); ctx.Write(nil) }
	s.Handler.Handle("/count", count)
	c.Handler.Handle("/count", count)
	s.Handler.Handle("/bad", func(ctx *arpc.Context) { assert.Error(t, ctx.Write(rowUnencodable{})) })
	s.Handler.Handle("/bad error", func(ctx *arpc.Context) { assert.Error(t, ctx.Error(rowUnencodable{})) })
	s.Handler.HandleStream("/count", func(st *arpc.Stream) {
		for range st.RecvSeq() {
			received.Add(1)
		}
	})
	st, err := c.OpenStream(t.Context(), "/count")
	require.NoError(t, err)

	for name, send := range map[string]func() error{
		"Call":       func() error { return c.Call("/count", rowUnencodable{}, nil, rowPatience) },
		"Notify":     func() error { return c.Notify("/count", rowUnencodable{}, rowPatience) },
		"PushMsg":    func() error { return c.PushMsg(c.NewMessage(arpc.CmdNotify, "/count", rowUnencodable{}), rowPatience) },
		"NewMessage": func() error { return s.NewMessage(arpc.CmdNotify, "/count", rowUnencodable{}).Error() },
		"Broadcast":  func() error { return s.Broadcast("/count", rowUnencodable{}) },
		"Stream":     func() error { return st.Send(rowUnencodable{}) },
		"CallAsync": func() error {
			return c.CallAsync("/count", rowUnencodable{}, func(*arpc.Context) { assert.Fail(t, "a callback beside an error") }, rowPatience)
		},
	} {
		require.Error(t, send(), name)
		require.True(t, arpc.SafeToRetry(send()), name)
	}
	for _, method := range []string{"/bad", "/bad error"} {
		err := c.Call(method, nil, nil, rowPatience)
		require.True(t, arpc.IsRemote(err), "%s: %v", method, err)
		var rsp string
		require.Error(t, c.Call(method, nil, &rsp, rowPatience))
		require.Empty(t, rsp)
	}
	require.NoError(t, c.Call("/count", nil, nil, rowPatience))
	require.EqualValues(t, 1, received.Load())
}

// rowXOR is a coder that rewrites the payload where it lies.
type rowXOR byte

func (x rowXOR) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	for i := range m.Data() {
		m.Data()[i] ^= byte(x)
	}
	return m
}

func (x rowXOR) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message { return x.Encode(c, m) }

// A predecessor coded a broadcast message anew for each receiver, on top of what
// it had made of it for the one before.
func TestRow06_BroadcastMessageIsCodedOnceForEachChain(t *testing.T) {
	const receivers, messages = 7, 20
	servers := map[string]*arpc.Server{}
	got := make(chan int, 2*receivers*messages)
	var clients []*arpc.Client // of the servers
	for name, coders := range map[string][]arpc.MessageCoder{
		"none": nil, "one": {rowXOR(1)}, "two": {rowXOR(3), rowXOR(8)},
	} {
		ln, server, client := memconn.Listen(), arpc.NewHandler(), arpc.NewHandler()
		for _, coder := range coders {
			server.UseCoder(coder)
			client.UseCoder(coder)
		}
		client.Handle("/news", func(ctx *arpc.Context) { got <- rowID(ctx.Body()) })
		servers[name] = rowServe(t, ln, arpc.WithHandler(server))
		for range receivers {
			rowDial(t, ln.Dial, arpc.WithHandler(client))
		}
		rowEventually(t, "all are accepted", func() bool { return len(servers[name].Clients()) == receivers })
		clients = append(clients, servers[name].Clients()...)
	}

	expect := func(n int) {
		t.Helper()
		for range n {
			require.Equal(t, 42, rowNext(t, "the message arrives", got))
		}
		require.Empty(t, got)
	}
	for name, s := range servers {
		require.NoError(t, s.Broadcast("/news", rowBytes(42, 100)), name)
		expect(receivers)
	}
	msg := servers["none"].NewMessage(arpc.CmdNotify, "/news", rowBytes(42, 100))
	before := string(msg.Buffer)
	var pushers sync.WaitGroup
	for _, c := range clients {
		for range 2 {
			pushers.Go(func() { assert.NoError(t, c.PushMsg(msg, rowPatience)) })
		}
	}
	pushers.Wait()
	expect(2 * len(clients))
	require.Equal(t, before, string(msg.Buffer))
}

// A predecessor gave the buffer of a message that was fanned out back to the
// pool while some receivers had yet to be sent it.
func TestRow07_FanOutSendsTheRightBytesToSlowReceivers(t *testing.T) {
	const receivers, messages = 6, 150
	rowEach(t, func(t *testing.T, ln rowNet) {
		s := rowServe(t, ln)
		s.Handler.Handle("/echo", rowEcho)
		next := make([]int, receivers)
		var all sync.WaitGroup
		for i := range receivers {
			all.Add(messages)
			c := rowDial(t, func() (net.Conn, error) {
				nc, err := ln.Dial()
				if m, ok := nc.(*memconn.Conn); ok && i%2 == 0 {
					m.ShortWrites(1000)
				}
				return nc, err
			})
			c.Handler.Handle("/news", func(ctx *arpc.Context) {
				assert.Equal(t, next[i], rowID(ctx.Body()))
				next[i]++
				if i%2 == 0 && next[i]%16 == 0 {
					time.Sleep(2 * time.Millisecond) // a slow receiver
				}
				all.Done()
			})
		}
		rowEventually(t, "all are accepted", func() bool { return len(s.Clients()) == receivers })
		other := rowDial(t, ln.Dial)
		for id := range messages {
			buf := rowBytes(id, []int{10, 100, 3000, 20 << 10, 100 << 10}[id%5])
			require.NoError(t, s.Broadcast("/news", buf, func(c *arpc.Client) bool { return true }))
			clear(buf) // the value is ours again
			var echo []byte
			require.NoError(t, other.Call("/echo", rowBytes(-id, 3000), &echo, rowPatience)) // uses the pools
		}
		rowSoon(t, "all messages arrive", all.Wait)
	})
}

// A predecessor dropped stream messages without bytes.
func TestRow08_EmptyStreamMessagesArrive(t *testing.T) {
	rowEach(t, func(t *testing.T, ln rowNet) {
		sent := []string{"", "a", "", "", "b", ""}
		s, c := rowPair(t, ln)
		got := make(chan []string, 1)
		s.Handler.HandleStream("/both", func(st *arpc.Stream) {
			for _, v := range sent {
				assert.NoError(t, st.Send(v))
			}
			assert.NoError(t, st.CloseSend())
			got <- rowReceiveAll(t, st)
		})
		st, err := c.OpenStream(t.Context(), "/both")
		require.NoError(t, err)
		for _, v := range sent {
			require.NoError(t, st.Send(v))
		}
		require.NoError(t, st.CloseSend())
		require.Equal(t, sent, rowReceiveAll(t, st))
		require.Equal(t, sent, rowNext(t, "the server has all", got))

		var null []byte
		st, err = c.OpenStream(t.Context(), "/both")
		require.NoError(t, err)
		require.NoError(t, st.Send(null))
		require.NoError(t, st.Send(nil))
		require.NoError(t, st.CloseSend())
		require.Equal(t, []string{"", ""}, rowNext(t, "the server has all", got))
	})
}

func rowReceiveAll(t *testing.T, st *arpc.Stream) (list []string) {
	for b, err := range st.RecvSeq() {
		if !assert.NoError(t, err) {
			break
		}
		list = append(list, string(b))
	}
	return list
}

// At a predecessor notifications overtook each other.
func TestRow09_NotificationsAreHandledInTheOrderTheyAreSent(t *testing.T) {
	const n = 1500
	type handler func(ctx *arpc.Context, id int)
	for name, handle := range map[string]handler{
		"quick": func(*arpc.Context, int) {},
		"slow at times": func(_ *arpc.Context, id int) {
			if id%100 == 0 {
				time.Sleep(4 * time.Millisecond)
			}
		},
		"slow always at first": func(_ *arpc.Context, id int) {
			if id < 20 {
				time.Sleep(2 * time.Millisecond)
			}
		},
		"calls back": func(ctx *arpc.Context, id int) {
			if id%50 == 0 {
				assert.NoError(t, ctx.Client.Call("/echo", "x", nil, rowPatience))
			}
		},
		"panics": func(_ *arpc.Context, id int) {
			if id%50 == 0 {
				panic("on purpose")
			}
		},
		"ends its goroutine": func(_ *arpc.Context, id int) {
			if id%50 == 0 {
				runtime.Goexit()
			}
		},
		"slow, and ends its goroutine": func(_ *arpc.Context, id int) {
			if id%100 == 0 {
				time.Sleep(4 * time.Millisecond)
				runtime.Goexit()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			rowEach(t, func(t *testing.T, ln rowNet) {
				s, c := rowPair(t, ln)
				c.Handler.Handle("/echo", rowEcho)
				s.Handler.Handle("/echo", rowEcho)
				last := make(chan struct{})
				var got []int
				for _, method := range []string{"/a", "/b"} { // their order among each other counts too
					s.Handler.Handle(method, func(ctx *arpc.Context) {
						id := rowID(ctx.Body())
						got = append(got, id)
						if id == n-1 {
							close(last)
							return
						}
						handle(ctx, id)
					})
				}
				rowUnderLoad(t, c, func() {
					for id := range n {
						size := 10
						if id%200 == 7 {
							size = 40 << 10
						}
						require.NoError(t, c.Notify([]string{"/a", "/b"}[id%2], rowBytes(id, size), rowPatience))
					}
					rowNext(t, "the last notification", last)
				})
				require.Len(t, got, n)
				require.IsIncreasing(t, got)
			})
		})
	}
}

// rowUnderLoad runs f while others call over the same connection.
func rowUnderLoad(t *testing.T, c *arpc.Client, f func()) {
	stop := make(chan struct{})
	var callers sync.WaitGroup
	defer callers.Wait()
	defer close(stop)
	for range 4 {
		callers.Go(func() {
			for !rowIsClosed(stop) {
				assert.NoError(t, c.Call("/echo", "x", nil, rowPatience))
			}
		})
	}
	f()
}

// A predecessor lost messages when several goroutines wrote at the same time.
func TestRow10_ConcurrentSendersLoseNothing(t *testing.T) {
	const senders, rounds = 50, 20
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		var got rowTally
		record := func(kind string, b []byte) { got.add(fmt.Sprint(kind, rowID(b))) }
		s.Handler.Handle("/call", func(ctx *arpc.Context) { record("call", ctx.Body()); rowEcho(ctx) })
		s.Handler.Handle("/async", func(ctx *arpc.Context) { record("async", ctx.Body()); rowEcho(ctx) })
		s.Handler.Handle("/notify", func(ctx *arpc.Context) { record("notify", ctx.Body()) })
		s.Handler.HandleStream("/stream", func(st *arpc.Stream) {
			for b, err := range st.RecvSeq() {
				if assert.NoError(t, err) {
					record("stream", b)
					st.Send(b)
				}
			}
		})
		st, err := c.OpenStream(t.Context(), "/stream")
		require.NoError(t, err)
		answered := make(chan int, senders*rounds)
		var all sync.WaitGroup
		for sender := range senders {
			all.Go(func() {
				for round := range rounds {
					id := sender*rounds + round
					b := rowBytes(id, []int{10, 10, 500, 17 << 10}[rand.N(4)])
					assert.NoError(t, c.Notify("/notify", b, rowPatience))
					assert.NoError(t, st.Send(b))
					assert.NoError(t, c.CallAsync("/async", b, func(ctx *arpc.Context) { answered <- rowID(ctx.Body()) }, rowPatience))
					var rsp []byte
					assert.NoError(t, c.Call("/call", b, &rsp, rowPatience))
					assert.Equal(t, id, rowID(rsp))
				}
			})
		}
		var echoed, async rowTally
		rowSoon(t, "all messages arrive", func() {
			for range senders * rounds {
				var b []byte
				if !assert.NoError(t, st.Recv(&b)) {
					return
				}
				echoed.add(strconv.Itoa(rowID(b)))
				async.add(strconv.Itoa(<-answered))
			}
			all.Wait()
			assert.NoError(t, st.CloseSend())
			assert.ErrorIs(t, st.Recv(nil), io.EOF)
		})
		rowEventually(t, "all are recorded", func() bool { return got.total() >= 4*senders*rounds })
		for id := range senders * rounds {
			for _, kind := range []string{"call", "async", "notify", "stream"} {
				require.Equal(t, 1, got.of(fmt.Sprint(kind, id)), "%s %d", kind, id)
			}
			require.Equal(t, 1, echoed.of(strconv.Itoa(id)))
			require.Equal(t, 1, async.of(strconv.Itoa(id)))
		}
	})
}

// At a predecessor a handler that answered later, from another goroutine,
// answered somebody else's request.
func TestRow13_LateAnswerNeverReachesAnotherRequest(t *testing.T) {
	const callers, rounds = 16, 150
	rowEach(t, func(t *testing.T, ln rowNet) {
		s, c := rowPair(t, ln)
		kept := make(chan *arpc.Context, callers*rounds)
		late := make(chan *arpc.Context, callers*rounds)
		var writers sync.WaitGroup
		s.Handler.Handle("/echo", rowEcho)
		s.Handler.Handle("/keep", func(ctx *arpc.Context) { kept <- ctx }) // and returns without an answer
		s.Handler.Handle("/race", func(ctx *arpc.Context) {
			own := append([]byte(nil), ctx.Body()...)
			writers.Go(func() {
				if err := ctx.Write(own); err != nil {
					assert.ErrorIs(t, err, arpc.ErrHandlerReturned)
				}
				late <- ctx
			})
		})
		s.Handler.Handle("/detach", func(ctx *arpc.Context) {
			own, d := append([]byte(nil), ctx.Body()...), ctx.Detach()
			writers.Go(func() {
				assert.NoError(t, d.Write(own))
				assert.ErrorIs(t, d.Write("again"), arpc.ErrAnswered)
				late <- ctx
			})
		})
		stop := make(chan struct{})
		var ghosts sync.WaitGroup
		for range 4 {
			ghosts.Go(func() { rowAnswerLate(t, kept, late, stop) })
		}
		var all sync.WaitGroup
		for caller := range callers {
			all.Go(func() {
				for round := range rounds {
					rowCallsForThemselves(t, c, caller*rounds+round)
				}
			})
		}
		rowSoon(t, "all calls end", all.Wait)
		writers.Wait()
		close(stop)
		ghosts.Wait()
		require.Zero(t, len(kept))
	})
}

// rowAnswerLate answers by contexts whose handlers have returned.
func rowAnswerLate(t *testing.T, kept, late <-chan *arpc.Context, stop <-chan struct{}) {
	for {
		select {
		case ctx := <-kept:
			if err := ctx.Write("not yours"); err != nil {
				assert.ErrorIs(t, err, arpc.ErrHandlerReturned)
			}
			assert.Error(t, ctx.Error("not yours"))
			assert.Error(t, ctx.Write("not yours"))
		case ctx := <-late:
			assert.Error(t, ctx.Write("not yours"))
		case <-stop:
			return
		}
	}
}

// rowCallsForThemselves makes calls whose answers must be their own.
func rowCallsForThemselves(t *testing.T, c *arpc.Client, id int) {
	for _, method := range []string{"/echo", "/race", "/detach", "/keep"} {
		var rsp []byte
		err := c.Call(method, rowBytes(id, 20), &rsp, rowPatience)
		switch {
		case err == nil && string(rsp) == "not yours":
			assert.Equal(t, "/keep", method, "a call got another's answer")
		case err == nil:
			assert.Equal(t, id, rowID(rsp), method)
		default:
			assert.True(t, arpc.IsRemote(err), "%v", err)
			assert.Contains(t, []string{"/keep", "/race"}, method)
		}
	}
}

// The methods of a context that was kept say that its handler has returned.
func TestRow13_KeptContextSaysThatItsHandlerHasReturned(t *testing.T) {
	s, c := rowPair(t, memconn.Listen())
	kept := make(chan *arpc.Context, 1)
	s.Handler.Handle("/keep", func(ctx *arpc.Context) {
		ctx.Write("own")
		kept <- ctx
	})
	s.Handler.Handle("/echo", rowEcho)
	var rsp string
	require.NoError(t, c.Call("/keep", "x", &rsp, rowPatience))
	require.Equal(t, "own", rsp)
	require.NoError(t, c.Call("/echo", "y", nil, rowPatience))
	ctx := rowNext(t, "the context", kept)
	rowEventually(t, "the handler has returned", func() bool { return ctx.Err() != nil })
	for name, err := range map[string]error{
		"Write":      ctx.Write("late"),
		"WriteBytes": ctx.WriteBytes([]byte("late")),
		"Error":      ctx.Error("late"),
		"Bind":       ctx.Bind(&rsp),
		"Detach":     ctx.Detach().Write("late"),
	} {
		require.ErrorIs(t, err, arpc.ErrHandlerReturned, name)
	}
	require.Nil(t, ctx.Body())
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}
