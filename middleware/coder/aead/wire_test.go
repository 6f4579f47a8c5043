package aead_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

const wait = 2 * time.Minute

// recorder keeps what a client writes.
type recorder struct {
	net.Conn
	mu      *sync.Mutex
	written *bytes.Buffer
}

func (r recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written.Write(b)
	return r.Conn.Write(b)
}

// frames splits what was written.
func (r recorder) frames(t *testing.T) (frames [][]byte) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	in := bytes.NewReader(bytes.Clone(r.written.Bytes()))
	for in.Len() > 0 {
		frames = append(frames, readFrame(t, in))
	}
	return frames
}

func readFrame(t *testing.T, r io.Reader) []byte {
	t.Helper()
	m := arpc.Message{Buffer: make([]byte, arpc.HeadLen)}
	_, err := io.ReadFull(r, m.Buffer)
	require.NoError(t, err)
	m.Buffer = append(m.Buffer, make([]byte, m.BodyLen())...)
	_, err = io.ReadFull(r, m.Buffer[arpc.HeadLen:])
	require.NoError(t, err)
	return m.Buffer
}

// recorded is a pair whose client has paid once, and what it has written.
func recorded(t *testing.T, world arpctest.World) (p *arpctest.Pair, paid *atomic.Int64, frames [][]byte) {
	t.Helper()
	paid = new(atomic.Int64)
	p = arpctest.New(t, world, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		s.Handler.UseCoder(newAEAD(t, []aead.Key{key(1)}))
		client.UseCoder(newAEAD(t, []aead.Key{key(1)}))
		s.Handler.Handle("/pay", func(ctx *arpc.Context) { ctx.Write(paid.Add(1)) })
	}))
	r := recorder{mu: new(sync.Mutex), written: new(bytes.Buffer)}
	c, err := arpc.NewClient(func() (net.Conn, error) {
		nc, err := p.Dialer()()
		r.Conn = nc
		return r, err
	}, arpc.WithHandler(p.Client.Handler.Clone()))
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	require.NoError(t, c.Call("/pay", "100 to Mallory", nil, wait))
	require.EqualValues(t, 1, paid.Load())
	return p, paid, r.frames(t)
}

// Who records what a client sends and plays it to the server over a connection of
// their own gets no handler to run.
func TestRecordedMessages(t *testing.T) {
	for _, world := range []arpctest.World{arpctest.TCP(), arpctest.OldClient(arpctest.TCP()), arpctest.OldServer(arpctest.TCP())} {
		t.Run(world.Name, func(t *testing.T) {
			p, paid, frames := recorded(t, world)
			nc, err := p.Dialer()()
			require.NoError(t, err)
			defer nc.Close()
			require.NoError(t, nc.SetDeadline(time.Now().Add(wait)))
			for _, frame := range frames {
				_, err := nc.Write(frame)
				require.NoError(t, err)
			}
			ping := make([]byte, arpc.HeadLen)
			ping[5] = arpc.CmdPing
			_, err = nc.Write(ping)
			require.NoError(t, err)
			for refused := false; ; {
				m := arpc.Message{Buffer: readFrame(t, nc)}
				refused = refused || m.Cmd() == arpc.CmdResponse
				if m.Cmd() == arpc.CmdPong && m.BodyLen() == 0 && refused {
					break // all before the ping was dealt with
				}
			}
			require.EqualValues(t, 1, paid.Load())
			require.NoError(t, p.Client.Call("/pay", "1 to Bob", nil, wait), "the others are not disturbed")
		})
	}
}

// Days later, with a server that was restarted, it is the same.
func TestRecordedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, frames := recorded(t, arpctest.Memory())
		time.Sleep(24 * time.Hour)
		to := newAEAD(t, []aead.Key{key(1)})
		for _, frame := range frames {
			if frame[5] == arpc.CmdRequest {
				_, err := open(to, frame)
				require.ErrorContains(t, err, "aead.WithMaxAge")
			}
		}
	})
}

// An end that cannot read the other gives its callers an error at once, and the
// connection goes on.
func TestEndsThatDoNotMatch(t *testing.T) {
	none := func(*arpc.Handler) {}
	with := func(keys ...aead.Key) func(*arpc.Handler) {
		return func(h *arpc.Handler) { h.UseCoder(newAEAD(t, keys)) }
	}
	for name, c := range map[string]struct{ server, client func(*arpc.Handler) }{
		"the server has another key":       {with(key(2)), with(key(1))},
		"the same id for other secrets":    {with(aead.Key{ID: 1, Secret: make([]byte, 32)}), with(key(1))},
		"another algorithm":                {with(gcm(1)), with(key(1))},
		"the client has none":              {with(key(1)), none},
		"the server has none":              {none, with(key(1))},
		"the server encrypts with another": {with(key(2), key(1)), with(key(1))},
	} {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				conn := p.Client.Conn()
				for range 3 {
					err := p.Client.Call("/echo", "hello", nil, arpc.TimeForever)
					require.Error(t, err)
				}
				require.Error(t, p.Peer().Call("/echo", "hello", nil, arpc.TimeForever))
				require.Equal(t, conn, p.Client.Conn(), "the connection did not survive")
			}, arpctest.Over(arpctest.Memory(), arpctest.OldClient(arpctest.Memory()), arpctest.OldServer(arpctest.Memory())),
				arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
					c.server(s.Handler)
					c.client(client)
					for _, h := range []*arpc.Handler{s.Handler, client} {
						h.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
					}
				}))
		})
	}
}

// Nothing of a payload, a response, an error or metadata can be read on the wire.
func TestNothingToRead(t *testing.T) {
	var mu sync.Mutex
	var wire bytes.Buffer
	tap := func(nc net.Conn) net.Conn { return recorder{nc, &mu, &wire} }
	ln := arpctest.ListenMemory()
	server := arpc.NewServer(arpc.WithHandler(arpc.NewHandler()))
	server.Handler.UseCoder(newAEAD(t, []aead.Key{key(1)}))
	server.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(append([]byte("secret "), ctx.Body()...)) })
	server.Handler.Handle("/fail", func(ctx *arpc.Context) { ctx.Error("secret error") })
	go server.Serve(tapped{ln, tap})
	t.Cleanup(server.Stop)
	h := arpc.NewHandler()
	h.UseCoder(newAEAD(t, []aead.Key{key(1)}))
	client, err := arpc.NewClient(func() (net.Conn, error) {
		nc, err := ln.Dial()
		return tap(nc), err
	}, arpc.WithHandler(h))
	require.NoError(t, err)
	t.Cleanup(client.Stop)

	ctx := arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"secret": "secret"})
	var rsp string
	require.NoError(t, client.CallWith(ctx, "/echo", "secret request", &rsp))
	require.Equal(t, "secret secret request", rsp)
	require.ErrorContains(t, client.CallWith(ctx, "/fail", nil, nil), "secret error")
	require.ErrorIs(t, client.CallWith(ctx, "/none", "secret", nil), arpc.ErrMethodNotFound)
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, wire.String(), "/echo", "the method can be read")
	require.NotContains(t, wire.String(), "secret")
}

// tapped has a tap on what it accepts.
type tapped struct {
	net.Listener
	tap func(net.Conn) net.Conn
}

func (l tapped) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.tap(nc), nil
}

// Keys change on both ends while calls are made, and none fails.
func TestKeysChangeUnderLoad(t *testing.T) {
	server, client := ends(t, key(1))
	p := arpctest.New(t, arpctest.TCP(), arpctest.Setup(func(s *arpc.Server, h *arpc.Handler) {
		s.Handler.UseCoder(server)
		h.UseCoder(client)
		s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	}))
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	stop := make(chan struct{})
	var calls atomic.Int64
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := p.Client.Call("/echo", codertest.Orders(200), nil, wait); err != nil {
					failed.Store(&err)
				}
				calls.Add(1)
			}
		})
	}
	for id := uint32(2); id < 12; id++ {
		for _, keys := range [][]aead.Key{{key(id - 1), key(id)}, {key(id), key(id - 1)}} {
			for _, end := range []*aead.AEAD{server, client} {
				require.NoError(t, end.SetKeys(keys...))
			}
			for at := calls.Load(); calls.Load() < at+20 && failed.Load() == nil; { // nothing of the old key is under way
				require.NoError(t, p.Client.Call("/echo", nil, nil, wait))
			}
		}
	}
	close(stop)
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
}

// Many senders at the same time overtake each other, over several connections of one
// client, and nothing is taken for a replay.
func TestManySenders(t *testing.T) {
	var got atomic.Int64
	all := make(chan struct{})
	const senders, each = 50, 100
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, h *arpc.Handler) {
		s.Handler.UseCoder(newAEAD(t, []aead.Key{key(1)}))
		h.UseCoder(newAEAD(t, []aead.Key{key(1)}))
		s.Handler.Handle("/notify", func(ctx *arpc.Context) {
			if got.Add(1) == 2*senders*each {
				close(all)
			}
		})
	}), arpctest.ClientOptions(arpc.WithSendQueue(4, 1<<20)))
	other := p.Dial()
	var wg sync.WaitGroup
	for range senders {
		for _, c := range []*arpc.Client{p.Client, other} {
			wg.Go(func() {
				for range each {
					if err := c.Notify("/notify", make([]byte, 100), wait); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	select {
	case <-all:
	case <-time.After(wait):
		t.Fatalf("%d of %d have arrived", got.Load(), 2*senders*each)
	}
}
