package arpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/stretchr/testify/require"
)

// engListeners are what the storms run over.
var engListeners = map[string]func(t *testing.T) (net.Listener, DialerFunc){
	"memory": func(*testing.T) (net.Listener, DialerFunc) {
		ln := memconn.Listen()
		return ln, ln.Dial
	},
	"tcp": func(t *testing.T) (net.Listener, DialerFunc) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
	},
}

// engPair returns both ends of a connection.
func engPair(t *testing.T, listen func(t *testing.T) (net.Listener, DialerFunc), setup func(*Handler)) (near, far *Client) {
	ln, dial := listen(t)
	accepted := make(chan *Client, 1)
	h := NewHandler()
	setup(h)
	h.HandleConnected(func(c *Client) { accepted <- c })
	s := NewServer(WithHandler(h))
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	near, err := NewClient(dial, WithHandler(NewHandler(WithReconnect(0, 0, 0))))
	require.NoError(t, err)
	t.Cleanup(near.Stop)
	return near, <-accepted
}

// engTables are the tables of a client's connection.
type engTables struct{ *Client }

// String says what is in them, nothing if all is over.
func (e engTables) String() string {
	cn := e.conn.Load()
	cn.mu.Lock()
	calls, waiting, queued := cn.calls.n, cn.calls.turns.len(), cn.out.queued()
	cn.mu.Unlock()
	cn.incoming.mu.Lock()
	requests := len(cn.incoming.requests)
	cn.incoming.mu.Unlock()
	t := cn.streamTable()
	t.mu.Lock()
	streams := []int{len(t.local), len(t.remote), t.busy, len(t.gone)}
	t.mu.Unlock()
	left := fmt.Sprint(calls, waiting, queued, requests, streams, cn.handling.Load(), cn.heldBytes.Load(), cn.streamBytes.Load(), cn.err())
	if left == "0 0 0 0 [0 0 0 0] 0 0 0 <nil>" {
		return ""
	}
	return left
}

func (e engTables) empty() bool { return e.String() == "" }

// engRequireEmpty requires that nothing is left at both ends, soon.
func engRequireEmpty(t *testing.T, clients ...*Client) {
	t.Helper()
	for _, c := range clients {
		tables := engTables{c}
		require.Eventually(t, tables.empty, 20*time.Second, time.Millisecond, "%v", tables)
	}
}

// engStormHandlers answer at once, after a while, when the caller gives up, or
// later from elsewhere; ordered or not.
func engStormHandlers(h *Handler) {
	h.Handle("/0", func(ctx *Context) { ctx.Write(ctx.Body()) })
	h.Handle("/1", func(ctx *Context) { ctx.Write(ctx.Body()) }, false)
	h.Handle("/2", func(ctx *Context) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.IntN(500)) * time.Microsecond):
		}
		ctx.Write(ctx.Body())
	})
	h.Handle("/3", func(ctx *Context) {
		d := ctx.Detach()
		go func() {
			timer := time.NewTimer(time.Duration(rand.IntN(500)) * time.Microsecond)
			defer timer.Stop()
			select {
			case <-d.Done():
			case <-timer.C:
			}
			d.Write(d.Body())
		}()
	})
	h.Handle("/4", func(ctx *Context) { <-ctx.Done(); ctx.Error(context.Cause(ctx)) }) // these are all cancelled
}

// engStormCall makes a call that is cancelled at any time, or never. It says
// whether it was answered.
func engStormCall(c *Client, random *rand.Rand, id uint64) (answered bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	way := random.IntN(5)
	if way == 4 || random.IntN(3) > 0 {
		timer := time.AfterFunc(time.Duration(random.IntN(400))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	var reply []byte
	err = c.CallWith(ctx, fmt.Sprintf("/%d", way), binary.LittleEndian.AppendUint64(nil, id), &reply)
	switch {
	case errors.Is(err, context.Canceled) && !IsRemote(err):
		return false, nil
	case err != nil:
		return false, err
	case len(reply) != 8 || binary.LittleEndian.Uint64(reply) != id:
		return false, fmt.Errorf("the answer to %d is %x", id, reply)
	}
	return true, nil
}

// A hundred thousand calls, most of them cancelled at a moment that nobody chose:
// who is answered has its own answer, and nothing is left.
func TestV2CancelStorm(t *testing.T) {
	const callers, each = 250, 200
	for name, listen := range engListeners {
		t.Run(name, func(t *testing.T) {
			near, far := engPair(t, listen, engStormHandlers)
			var answered atomic.Int64
			var all sync.WaitGroup
			for n := range callers {
				all.Go(func() {
					random := rand.New(rand.NewPCG(uint64(n), 3))
					for i := range each {
						ok, err := engStormCall(near, random, uint64(n)<<32|uint64(i))
						if err != nil {
							t.Error(err)
							return
						}
						if ok {
							answered.Add(1)
						}
					}
				})
			}
			all.Wait()
			require.Greater(t, answered.Load(), int64(callers*each/20))
			require.Less(t, answered.Load(), int64(callers*each*19/20))
			engRequireEmpty(t, near, far)
		})
	}
}

// engStormStream opens a stream and ends it in any way at any time.
func engStormStream(c *Client, random *rand.Rand) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.AfterFunc(time.Duration(random.IntN(100))*time.Microsecond, cancel)
	if random.IntN(2) == 0 {
		timer.Stop()
	}
	defer timer.Stop()
	s, err := c.OpenStream(ctx, "/s")
	if err != nil {
		return engIgnoreCanceled(err)
	}
	for range random.IntN(4) {
		if err = s.Send("x"); err != nil {
			break
		}
	}
	switch random.IntN(4) {
	case 0:
		s.Close()
	case 1:
		s.Fail(NewError(CodeAborted, "no"))
	case 2:
		s.CloseSend()
		for s.Recv(nil) == nil {
		}
	case 3:
		cancel()
	}
	return engIgnoreCanceled(err)
}

func engIgnoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Streams that are opened and ended in any way at any moment leave nothing, and no
// handler behind.
func TestV2StreamStorm(t *testing.T) {
	const openers, each = 50, 200
	for name, listen := range engListeners {
		t.Run(name, func(t *testing.T) {
			var running atomic.Int64
			near, far := engPair(t, listen, func(h *Handler) {
				h.HandleStream("/s", func(s *Stream) {
					running.Add(1)
					defer running.Add(-1)
					for b, err := range s.RecvSeq() {
						if err != nil || s.Send(b) != nil {
							return
						}
					}
				})
			})
			var all sync.WaitGroup
			for n := range openers {
				all.Go(func() {
					random := rand.New(rand.NewPCG(uint64(n), 4))
					for range each {
						if err := engStormStream(near, random); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			engRequireEmpty(t, near, far)
			require.Eventually(t, func() bool { return running.Load() == 0 }, 20*time.Second, time.Millisecond)
		})
	}
}

// engGivesUp is a coder that ends a context while the opening of a stream is on
// its way through.
type engGivesUp struct{ cancel context.CancelFunc }

func (g engGivesUp) Encode(_ *Client, m *Message) *Message {
	if m.Cmd() == CmdStream && !m.IsStreamEnd() {
		g.cancel()
		time.Sleep(time.Second) // for what follows from that
	}
	return m
}

func (engGivesUp) Decode(_ *Client, m *Message) *Message { return m }

// A stream that is given up while it is being opened is not open at the other end
// for ever.
func TestV2StreamGivenUpWhileItIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		near, far := engPair(t, engListeners["memory"], func(h *Handler) {
			h.HandleStream("/s", func(s *Stream) { ended <- s.Recv(nil) })
		})
		ctx, cancel := context.WithCancel(t.Context())
		near.Handler.UseCoder(engGivesUp{cancel})
		_, err := near.OpenStream(ctx, "/s")
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		time.Sleep(time.Minute)
		require.Empty(t, engTables{near}.String())
		require.Empty(t, engTables{far}.String())
	})
}

// A detached request that is answered, and one whose connection ends, are
// forgotten.
func TestV2DetachedRequestsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := engPair(t, engListeners["memory"], engStormHandlers)
		for range 100 {
			require.NoError(t, near.Call("/3", nil, nil, time.Minute))
		}
		synctest.Wait()
		require.Empty(t, engTables{near}.String())
		require.Empty(t, engTables{far}.String())
	})
}
