package arpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteSetup is arpctest.New with a hook for setting up.
func suiteSetup(t *testing.T, world arpctest.World, setup func(server *arpc.Server, client *arpc.Handler), opts ...arpctest.Option) *arpctest.Pair {
	t.Helper()
	return arpctest.New(t, world, append(opts, arpctest.Setup(suiteWithStreams), arpctest.Setup(setup))...)
}

// suiteEnds sets a hook up at one end or the other.
var suiteEnds = map[string]func(server *arpc.Server, client *arpc.Handler) *arpc.Handler{
	"server": func(server *arpc.Server, _ *arpc.Handler) *arpc.Handler { return server.Handler },
	"client": func(_ *arpc.Server, client *arpc.Handler) *arpc.Handler { return client },
}

// The connected hook runs before the first message of its connection is handled,
// and what it stores is there for the handlers.
func TestSuiteConnectedBeforeTheFirstMessage(t *testing.T) {
	for name, end := range suiteEnds {
		t.Run(name, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				users := make(chan any, 100)
				p := suiteSetup(t, world, func(server *arpc.Server, client *arpc.Handler) {
					for _, h := range []*arpc.Handler{server.Handler, client} {
						h.HandleConnected(func(c *arpc.Client) { c.Notify("/greet", nil, suitePatience) })
					}
					h := end(server, client)
					h.HandleConnected(func(c *arpc.Client) {
						c.Call("/echo", "it takes a while", nil, suitePatience)
						c.Set("user", "alice")
					})
					h.Handle("/greet", func(ctx *arpc.Context) {
						user, _ := ctx.Client.Get("user")
						users <- user
					})
				})
				for range 5 {
					p.Dial()
				}
				for range 6 {
					require.Equal(t, "alice", suiteNext(t, users))
				}
			})
		})
	}
}

// The connected hook of the dialling side has returned when NewClient does.
func TestSuiteConnectedBeforeNewClientReturns(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := suiteSetup(t, world, func(_ *arpc.Server, client *arpc.Handler) {
			client.HandleConnected(func(c *arpc.Client) {
				c.Call("/echo", "it takes a while", nil, suitePatience)
				c.Set("hook", "returned")
			})
		})
		for _, c := range []*arpc.Client{p.Client, p.Dial()} {
			hook, _ := c.Get("hook")
			require.Equal(t, "returned", hook)
		}
	})
}

// A connected hook may do everything that waits for the peer.
func TestSuiteConnectedHookExchange(t *testing.T) {
	for name, end := range suiteEnds {
		t.Run(name, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				done := make(chan error, 1)
				p := suiteSetup(t, world, func(server *arpc.Server, client *arpc.Handler) {
					end(server, client).HandleConnected(func(c *arpc.Client) {
						done <- errors.Join(suiteExchange(c), suiteTalk(c, "x"))
					})
				})
				require.NoError(t, suiteNext(t, done))
				suiteAlive(t, p)
			})
		})
	}
}

// A slow connected hook delays its own connection, and no other.
func TestSuiteConnectedHookBlocksNobodyElse(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		began, release := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		p := suiteSetup(t, world, func(server *arpc.Server, _ *arpc.Handler) {
			server.Handler.HandleConnected(func(c *arpc.Client) {
				if first.CompareAndSwap(false, true) {
					close(began)
					<-release
				}
			})
		})
		suiteNext(t, began)
		delayed := suiteAsync(t, p.Client, "/echo", "delayed")
		for range 3 {
			suiteRequireEcho(t, p.Dial())
		}
		require.Empty(t, delayed)
		close(release)
		require.Equal(t, suiteOutcome{text: "delayed"}, suiteNext(t, delayed))
	})
}

// Hooks that panic or end their goroutine harm nobody.
func TestSuiteHooksFail(t *testing.T) {
	hooks := map[string]func(h *arpc.Handler, fail func()){
		"connected":    func(h *arpc.Handler, fail func()) { h.HandleConnected(func(*arpc.Client) { fail() }) },
		"disconnected": func(h *arpc.Handler, fail func()) { h.HandleDisconnected(func(*arpc.Client) { fail() }) },
		"reconnect":    func(h *arpc.Handler, fail func()) { h.HandleReconnect(func(*arpc.Client, int, error) { fail() }) },
		"dropped": func(h *arpc.Handler, fail func()) {
			h.HandleMessageDropped(func(*arpc.Client, *arpc.Message) { fail() })
		},
		"sessionMiss": func(h *arpc.Handler, fail func()) { h.HandleSessionMiss(func(*arpc.Client, *arpc.Message) { fail() }) },
	}
	for name, hook := range hooks {
		for how, fail := range suiteFailures {
			t.Run(name+"/"+how, func(t *testing.T) {
				suiteWorlds(t, func(t *testing.T, world arpctest.World) {
					connected := make(chan struct{}, 10)
					p := suiteSetup(t, world, func(server *arpc.Server, client *arpc.Handler) {
						client.HandleConnected(func(*arpc.Client) { connected <- struct{}{} })
						hook(server.Handler, fail)
						hook(client, fail)
					})
					gate := newSuiteGate()
					p.Server.Handler.Handle("/wait", gate.handle)
					suiteNext(t, connected)
					for range 3 {
						suiteMissAndDrop(t, p, gate)
						suiteAlive(t, p)
					}
					p.Client.Conn().Close()
					suiteNext(t, connected)
					suiteAlive(t, p)
				})
			})
		}
	}
}

// suiteMissAndDrop has the client get an answer that nobody waits for, and each
// end a notification that nobody handles. The server has suiteGate at "/wait".
func suiteMissAndDrop(t testing.TB, p *arpctest.Pair, gate *suiteGate) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- p.Client.CallWith(ctx, "/wait", nil, nil) }()
	suiteNext(t, gate.began)
	cancel()
	require.ErrorIs(t, suiteNext(t, result), context.Canceled)
	gate.release <- struct{}{}
	for _, c := range []*arpc.Client{p.Client, p.Peer()} {
		require.NoError(t, c.Notify("/nowhere", nil, suitePatience))
	}
}

// Each end is told once of each connection that has ended, with the cause, when
// its ordered messages are handled.
func TestSuiteDisconnectedOnce(t *testing.T) {
	ends := map[string]struct {
		end            func(p *arpctest.Pair)
		client, server error // the causes
	}{
		"clientStops":  {func(p *arpctest.Pair) { p.Client.Stop() }, arpc.ErrClosed, nil},
		"serverStops":  {func(p *arpctest.Pair) { p.Server.Stop() }, nil, arpc.ErrClosed},
		"peerStops":    {func(p *arpctest.Pair) { p.Peer().Stop() }, nil, arpc.ErrClosed},
		"clientCloses": {func(p *arpctest.Pair) { p.Client.Conn().Close() }, nil, nil},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				atServer, atClient, own := make(chan error, 10), make(chan error, 10), make(chan error, 10)
				p := suiteSetup(t, world, func(server *arpc.Server, client *arpc.Handler) {
					server.Handler.HandleDisconnected(func(c *arpc.Client) { atServer <- c.Err() })
					client.HandleDisconnected(func(c *arpc.Client) { atClient <- c.Err() })
				}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
				p.Client.OnDisconnected(func(c *arpc.Client) { own <- c.Err() })
				suiteAlive(t, p)
				peer := p.Peer()
				test.end(p)
				for at, cause := range map[<-chan error]error{atServer: test.server, atClient: test.client, own: test.client} {
					err := suiteNext(t, at)
					require.Error(t, err)
					if cause != nil {
						require.ErrorIs(t, err, cause)
					}
				}
				suiteNext(t, p.Client.Done())
				suiteNext(t, peer.Done())
				require.Error(t, p.Client.Err())
				require.Error(t, peer.Err())
				p.Client.Stop()
				p.Server.Stop()
				require.Empty(t, atServer)
				require.Empty(t, atClient)
				require.Empty(t, own)
			})
		})
	}
}

// Ordered messages that have arrived are handled before the hook runs.
func TestSuiteDisconnectedAfterTheLastMessage(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		events := make(chan int, 1000)
		began, release := make(chan struct{}), make(chan struct{})
		p := suiteSetup(t, world, func(server *arpc.Server, _ *arpc.Handler) {
			server.Handler.Handle("/n", func(ctx *arpc.Context) {
				var i int
				ctx.Bind(&i)
				if i == 0 {
					close(began)
					<-release
				}
				events <- i
			})
			server.Handler.HandleDisconnected(func(*arpc.Client) { events <- -1 })
		}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		peer := p.Peer()
		for i := range 100 {
			require.NoError(t, p.Client.Notify("/n", i, suitePatience))
		}
		suiteNext(t, began)
		suiteRequireEcho(t, p.Client) // all have arrived
		p.Client.Stop()
		suiteNext(t, peer.Done())
		close(release)
		for i := range 100 {
			require.Equal(t, i, suiteNext(t, events))
		}
		require.Equal(t, -1, suiteNext(t, events))
	})
}

// In the disconnected hook nothing can be sent, and nothing waits.
func TestSuiteDisconnectedHookCannotSend(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		errs := make(chan error, 10)
		p := suiteSetup(t, world, func(server *arpc.Server, client *arpc.Handler) {
			try := func(c *arpc.Client) {
				errs <- c.Call("/echo", nil, nil, arpc.TimeForever)
				errs <- c.Notify("/echo", nil, arpc.TimeForever)
				_, err := c.OpenStream(t.Context(), "/echo")
				errs <- err
			}
			server.Handler.HandleDisconnected(try)
			client.HandleDisconnected(try)
		}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		p.Peer()
		p.Client.Conn().Close()
		for range 6 {
			suiteUnsent(t, suiteNext(t, errs), arpc.CodeUnavailable)
		}
	})
}

// What nobody handles is told, and counted by nobody else.
func TestSuiteMessageDropped(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		dropped := make(chan string, 10)
		p.Server.Handler.HandleMessageDropped(func(_ *arpc.Client, m *arpc.Message) {
			dropped <- m.Method() + " " + string(m.Data())
		})
		c := p.Dial()
		require.NoError(t, c.Notify("/nowhere", "lost", suitePatience))
		require.Equal(t, "/nowhere lost", suiteNext(t, dropped))
		require.ErrorIs(t, c.Call("/nowhere", nil, nil, suitePatience), arpc.ErrMethodNotFound)
		require.Empty(t, dropped, "a request is answered")
	})
}

// The hooks around reads and writes see the connection, and may end it.
func TestSuiteBeforeRecvAndSend(t *testing.T) {
	for _, hook := range []string{"BeforeRecv", "BeforeSend"} {
		t.Run(hook, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				var ran atomic.Int32
				var refuse atomic.Bool
				check := func(nc net.Conn) error {
					ran.Add(1)
					if nc == nil || refuse.Load() {
						return errors.New("refused by a test")
					}
					return nil
				}
				p := suiteSetup(t, world, func(_ *arpc.Server, client *arpc.Handler) {
					if hook == "BeforeRecv" {
						client.BeforeRecv(check)
					} else {
						client.BeforeSend(check)
					}
				}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
				suiteAlive(t, p)
				require.Positive(t, ran.Load())
				refuse.Store(true)
				p.Client.Call("/echo", nil, nil, suitePatience)
				p.Client.Call("/echo", nil, nil, suitePatience)
				suiteNext(t, p.Client.Done())
				require.ErrorContains(t, p.Client.Err(), "refused by a test")
			})
		})
	}
}

// A reader wrapper sees all bytes that are received.
func TestSuiteReaderWrapper(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		var read atomic.Int64
		p := suiteSetup(t, world, func(_ *arpc.Server, client *arpc.Handler) {
			client.SetReaderWrapper(func(nc net.Conn) io.Reader { return suiteCountingReader{nc, &read} })
		})
		hello := read.Load()
		body := suiteBody(100 << 10)
		var reply []byte
		require.NoError(t, p.Client.Call("/echo", body, &reply, suitePatience))
		require.True(t, bytes.Equal(body, reply))
		require.EqualValues(t, arpc.HeadLen+len("/echo")+len(body), read.Load()-hello)
	})
}

type suiteCountingReader struct {
	io.Reader
	n *atomic.Int64
}

func (r suiteCountingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}
