//go:build unix

package arpc

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// rests reports whether no reader is left that has anything in its hands.
func (c *conn) rests() bool {
	c.passing.Lock()
	defer c.passing.Unlock()
	return c.reader == nil
}

// askUntilRests asks as the list would, but now.
func askUntilRests(t *testing.T, conns ...*conn) {
	t.Helper()
	for _, c := range conns {
		require.Eventually(t, func() bool { c.askToRest(); return c.rests() }, 20*time.Second, time.Millisecond)
	}
}

// restPair returns both ends of a connection over TCP whose handlers echo.
func restPair(t *testing.T, opts ...Option) (near, far *Client) {
	return engPair(t, engListeners["tcp"], func(h *Handler) {
		for _, opt := range opts {
			opt.apply(h)
		}
		h.Handle("/echo", func(ctx *Context) { ctx.Write(ctx.Body()) })
	})
}

func requireEcho(t *testing.T, c *Client, body []byte) {
	t.Helper()
	var rsp bytes.Buffer
	require.NoError(t, c.Call("/echo", body, &rsp, time.Minute))
	require.Equal(t, body, rsp.Bytes())
}

// By itself, when nothing has come for a while, and again after it has worked.
func TestIdleConnectionsRest(t *testing.T) {
	near, far := restPair(t)
	for range 2 {
		requireEcho(t, near, []byte("hello"))
		for _, c := range []*conn{near.conn.Load(), far.conn.Load()} {
			require.Eventually(t, c.rests, 20*time.Second, 10*time.Millisecond)
			require.False(t, c.restless.Load())
		}
	}
}

// Calls go on while both ends are asked all the time: nothing is lost, nothing waits.
func TestMessagesAtTheMomentOfResting(t *testing.T) {
	for name, callers := range map[string]int{"one caller": 1, "many callers": 8} {
		t.Run(name, func(t *testing.T) {
			near, far := restPair(t)
			var asking sync.WaitGroup
			var over atomic.Bool
			var rested atomic.Int64
			defer asking.Wait()
			defer over.Store(true)
			for _, c := range []*conn{near.conn.Load(), far.conn.Load()} {
				asking.Go(func() {
					for !over.Load() {
						c.askToRest()
						runtime.Gosched()
						if c.rests() {
							rested.Add(1)
						}
					}
				})
			}
			var calling sync.WaitGroup
			for i := range callers {
				calling.Go(func() {
					body := bytes.Repeat([]byte{byte(i)}, 100)
					var rsp bytes.Buffer
					for range 3000 / callers {
						if err := near.Call("/echo", body, &rsp, time.Minute); err != nil || !bytes.Equal(body, rsp.Bytes()) {
							t.Errorf("%v: %q", err, rsp.Bytes())
							return
						}
					}
				})
			}
			calling.Wait()
			require.Positive(t, rested.Load())
		})
	}
}

// A handler that calls back loses the baton, whoever rests.
func TestCallsBackWhileResting(t *testing.T) {
	near, far := engPair(t, engListeners["tcp"], func(h *Handler) {
		h.Handle("/twice", func(ctx *Context) {
			var rsp bytes.Buffer
			err := ctx.Client.Call("/echo", ctx.Body(), &rsp, time.Minute)
			if err != nil {
				ctx.Error(err)
				return
			}
			ctx.Write(rsp.Bytes())
		})
	})
	near.Handler.Handle("/echo", func(ctx *Context) { ctx.Write(ctx.Body()) })
	for range 200 {
		askUntilRests(t, near.conn.Load(), far.conn.Load())
		var rsp bytes.Buffer
		require.NoError(t, near.Call("/twice", []byte("there"), &rsp, time.Minute))
		require.Equal(t, "there", rsp.String())
	}
}

// rawPeer returns a connection to a server, and the server's end of it.
func rawPeer(t *testing.T, opts ...Option) (net.Conn, *conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(opts...)
	s.Handler.Handle("/echo", func(ctx *Context) { ctx.Write(ctx.Body()) })
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	nc, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	require.Eventually(t, func() bool { return len(s.Clients()) == 1 }, 20*time.Second, time.Millisecond)
	return nc, s.Clients()[0].conn.Load()
}

// restRequest is a request of version 1 to /echo.
func restRequest(seq uint64, body string) []byte {
	return wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: seq}, "/echo", body)
}

// A frame of which the start has come is limited by WithReadTimeout, and nothing else
// ends the wait for the rest.
func TestAFrameHalfWayKeepsItsDeadline(t *testing.T) {
	nc, c := rawPeer(t, WithHandler(NewHandler()), WithReadTimeout(time.Second))
	askUntilRests(t, c)
	frame := restRequest(1, "hello")
	for range 3 {
		_, err := nc.Write(frame[:10])
		require.NoError(t, err)
		require.Eventually(t, func() bool { c.askToRest(); return c.received.Load()%uint64(len(frame)) == 10 }, 20*time.Second, time.Millisecond)
		for range 100 {
			c.askToRest()
			require.False(t, c.rests())
		}
		_, err = nc.Write(frame[10:])
		require.NoError(t, err)
		require.Equal(t, "hello", string(readRest(t, nc)))
		askUntilRests(t, c)
	}
	_, err := nc.Write(frame[:10])
	require.NoError(t, err)
	require.Eventually(t, func() bool { c.askToRest(); return c.err() != nil }, 20*time.Second, time.Millisecond)
	require.ErrorContains(t, c.err(), "a frame of which 10 bytes have come is not complete (WithReadTimeout 1s)")
}

// readRest reads a response and returns its payload.
func readRest(t *testing.T, nc net.Conn) []byte {
	t.Helper()
	var head [wire.HeaderLen]byte
	_, err := io.ReadFull(nc, head[:])
	require.NoError(t, err)
	h := wire.ParseHeader(head[:])
	body := make([]byte, h.BodyLen)
	_, err = io.ReadFull(nc, body)
	require.NoError(t, err)
	return body[h.MethodLen:]
}

// The end is seen by a connection that rests as by any other.
func TestRestingConnectionsEnd(t *testing.T) {
	ends := map[string]func(near, far *Client){
		"stopped":                func(_, far *Client) { far.Stop() },
		"stopped by the peer":    func(near, _ *Client) { near.Stop() },
		"closed below":           func(_, far *Client) { far.Conn().Close() },
		"closed below by a peer": func(near, _ *Client) { near.Conn().Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			near, far := restPair(t)
			requireEcho(t, near, []byte("hello"))
			askUntilRests(t, near.conn.Load(), far.conn.Load())
			end(near, far)
			<-far.Done()
			<-near.Done()
			require.Error(t, far.Err())
		})
	}
}

// A hook before reads may count them, and set deadlines.
func TestConnectionsWithReadHooksDoNotRest(t *testing.T) {
	_, far := engPair(t, engListeners["tcp"], func(h *Handler) { h.BeforeRecv(func(net.Conn) error { return nil }) })
	require.False(t, far.conn.Load().mayRest)
}

// A timer of a bubble must not be touched from outside, nor one outside from a bubble.
func TestConnectionsOfABubbleAreNotListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler()
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		require.NoError(t, err)
		defer ln.Close()
		nc, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer nc.Close()
		c := newConn(newClient(h), nc, true)
		require.NotNil(t, c.raw)
		require.False(t, c.mayRest)
	})
}

// The timer stands while nobody is in the list.
func TestTheListOfThoseThatMayRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l restless
		conns := []*conn{{}, {}, {}, {}}
		for _, c := range conns {
			l.add(c)
		}
		l.forget(conns[1]) // it has ended
		conns[0].received.Add(1)
		require.ElementsMatch(t, []*conn{conns[2], conns[3]}, l.idle())
		require.True(t, conns[0].restless.Load())
		require.ElementsMatch(t, []*conn{conns[0]}, l.idle())
		for _, c := range conns {
			require.False(t, c.restless.Load())
		}
		require.False(t, l.timer.Stop())

		l.add(conns[0])
		l.add(conns[1])
		l.forget(conns[0])
		l.forget(conns[0])
		l.forget(conns[1])
		require.False(t, l.timer.Stop())

		l.add(conns[1])
		time.Sleep(restAfter + 1)
		require.False(t, conns[1].restless.Load(), "the timer runs again")
	})
}
