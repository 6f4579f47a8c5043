package arpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteEndings are sequences of the calls that end a client or a server.
var suiteEndings = []string{
	"stop", "shutdown", "stop stop", "shutdown shutdown", "stop shutdown", "shutdown stop", "shutdown stop shutdown stop",
}

type suiteEnder interface {
	Stop()
	Shutdown(context.Context) error
}

func suiteEndBy(t testing.TB, who suiteEnder, calls string) {
	t.Helper()
	for call := range strings.FieldsSeq(calls) {
		suiteReturns(t, func() {
			if call == "stop" {
				who.Stop()
			} else if err := who.Shutdown(t.Context()); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		})
	}
}

func TestSuiteEndingsOfAClient(t *testing.T) {
	for _, calls := range suiteEndings {
		t.Run(calls, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				suiteAlive(t, p)
				peer := p.Peer()
				suiteEndBy(t, p.Client, calls)
				require.Equal(t, arpc.StateClosed, p.Client.State())
				require.ErrorIs(t, p.Client.Err(), arpc.ErrClosed)
				suiteNext(t, p.Client.Done())
				suiteNext(t, peer.Done())
				require.ErrorIs(t, p.Client.Call("/echo", nil, nil, suitePatience), arpc.ErrClosed)
				suiteRequireEcho(t, p.Dial())
			}, arpctest.Setup(suiteWithEcho))
		})
	}
}

func TestSuiteEndingsOfAServer(t *testing.T) {
	for _, calls := range suiteEndings {
		t.Run(calls, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				suiteAlive(t, p)
				peer := p.Peer()
				suiteEndBy(t, p.Server, calls)
				require.Empty(t, p.Server.Clients())
				require.Equal(t, arpc.StateClosed, peer.State())
				suiteNext(t, p.Client.Done())
				_, err := p.Dialer()()
				require.Error(t, err, "the listener is closed")
			}, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		})
	}
}

// A server that was ended before it serves does not serve.
func TestSuiteEndingsBeforeServe(t *testing.T) {
	for _, calls := range suiteEndings {
		t.Run(calls, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				ln, dial := world.Listen(t)
				s := arpc.NewServer()
				suiteEndBy(t, s, calls)
				require.ErrorIs(t, s.Serve(ln), arpc.ErrServerClosed)
				require.ErrorIs(t, s.Run("127.0.0.1:0"), arpc.ErrServerClosed)
				_, err := dial()
				require.Error(t, err, "the listener is closed")
			})
		})
	}
}

// suiteBrokenListener fails for good.
type suiteBrokenListener struct{ net.Listener }

func (suiteBrokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken by a test") }

func TestSuiteServeErrors(t *testing.T) {
	s := arpc.NewServer()
	require.ErrorContains(t, s.Run("nonsense"), "nonsense")
	ln := arpctest.ListenMemory()
	require.ErrorContains(t, s.Serve(suiteBrokenListener{ln}), "broken by a test")
	require.ErrorIs(t, ln.Close(), net.ErrClosed, "Serve closes it")
}

// A server serves several listeners at the same time, and Stop ends all.
func TestSuiteServesMany(t *testing.T) {
	s := arpc.NewServer()
	s.Handler.Handle("/echo", suiteEcho)
	served := make(chan error, 10)
	for _, world := range arpctest.Worlds() {
		ln, dial := world.Listen(t)
		go func() { served <- s.Serve(ln) }()
		c, err := arpc.NewClient(dial)
		require.NoError(t, err)
		t.Cleanup(c.Stop)
		suiteRequireEcho(t, c)
	}
	s.Stop()
	for range arpctest.Worlds() {
		require.ErrorIs(t, suiteNext(t, served), arpc.ErrServerClosed)
	}
}

// Stop ends what is in flight now, whatever handlers do.
func TestSuiteStopEndsCallsAtOnce(t *testing.T) {
	stops := map[string]func(p *arpctest.Pair){
		"client": func(p *arpctest.Pair) { p.Client.Stop() },
		"server": func(p *arpctest.Pair) { p.Server.Stop() },
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				gate := newSuiteGate()
				defer close(gate.release)
				p.Server.Handler.Handle("/wait", gate.handle)
				p.Server.Handler.Handle("/waitInOrder", gate.handle, false)
				results := make(chan error, 2)
				for _, method := range []string{"/wait", "/waitInOrder"} {
					go func() { results <- p.Client.Call(method, nil, nil, arpc.TimeForever) }()
					suiteNext(t, gate.began)
				}
				s := suiteOpen(t, p.Client, "/echo")
				suiteEchoed(t, s, "x")
				suiteReturns(t, func() { stop(p) })
				for range 2 {
					require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(suiteNext(t, results)))
				}
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(s.Recv(new(string))))
			}, arpctest.Setup(suiteWithStreams), arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		})
	}
}

// Shutdown lets what is under way be answered, and refuses what comes meanwhile,
// or has the peer not begin it.
func TestSuiteShutdownWaits(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		gate := newSuiteGate()
		p.Server.Handler.Handle("/wait", gate.handle)
		detached := make(chan *arpc.Context, 1)
		p.Server.Handler.Handle("/later", func(ctx *arpc.Context) { detached <- ctx.Detach() })
		waiting := suiteAsync(t, p.Client, "/wait", "waited for")
		suiteNext(t, gate.began)
		later := suiteAsync(t, p.Client, "/later", nil)
		ctx := suiteNext(t, detached)

		down := make(chan error, 1)
		go func() { down <- p.Server.Shutdown(t.Context()) }()
		require.Eventually(t, func() bool {
			return arpc.CodeOf(p.Client.Call("/echo", nil, nil, suitePatience)) != arpc.CodeOK
		}, suitePatience, suiteTick)
		err := p.Client.Call("/echo", nil, nil, suitePatience)
		if p.Version == 1 {
			suiteRemote(t, err, "shutting down")
		} else {
			require.ErrorIs(t, err, arpc.ErrGoingAway)
			suiteUnsent(t, err, arpc.CodeUnavailable)
		}
		_, err = p.Dialer()()
		require.Error(t, err, "the listener is closed")

		close(gate.release)
		require.Equal(t, suiteOutcome{text: "waited for"}, suiteNext(t, waiting))
		require.Empty(t, down)
		require.NoError(t, ctx.Write("in the end"))
		require.Equal(t, suiteOutcome{text: "in the end"}, suiteNext(t, later))
		require.NoError(t, suiteNext(t, down))
		suiteNext(t, p.Client.Done())
	}, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
}

// Shutdown of a client waits for its calls, and takes no new ones.
func TestSuiteShutdownOfAClientWaits(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		gate := newSuiteGate()
		p.Server.Handler.Handle("/wait", gate.handle)
		result := make(chan error, 1)
		go func() { result <- p.Client.Call("/wait", nil, nil, suitePatience) }()
		suiteNext(t, gate.began)
		down := make(chan error, 1)
		go func() { down <- p.Client.Shutdown(t.Context()) }()
		require.Eventually(t, func() bool {
			return errors.Is(p.Client.Notify("/echo", nil, suitePatience), arpc.ErrClosed)
		}, suitePatience, suiteTick)
		require.Empty(t, result)
		require.Empty(t, down)
		close(gate.release)
		require.NoError(t, suiteNext(t, result))
		require.NoError(t, suiteNext(t, down))
	}, arpctest.Setup(suiteWithEcho))
}

// Everything that was sent before Shutdown arrives.
func TestSuiteShutdownLosesNothing(t *testing.T) {
	const count = 2000
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := suiteNumbers(p.Server.Handler, "/n")
		for i := range count {
			require.NoError(t, p.Client.Notify("/n", i, suitePatience))
		}
		require.NoError(t, p.Client.Shutdown(t.Context()))
		for i := range count {
			require.Equal(t, i, suiteNext(t, got))
		}
	})
}

// When its context ends Shutdown ends like Stop, and says so.
func TestSuiteShutdownGivesUp(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		t.Run(who, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				gate := newSuiteGate()
				defer close(gate.release)
				p.Server.Handler.Handle("/wait", gate.handle)
				outcome := suiteAsync(t, p.Client, "/wait", nil)
				suiteNext(t, gate.began)
				var ender suiteEnder = p.Client
				if who == "server" {
					ender = p.Server
				}
				ctx, cancel := context.WithCancel(t.Context())
				down := make(chan error, 1)
				go func() { down <- ender.Shutdown(ctx) }()
				cancel()
				require.ErrorIs(t, suiteNext(t, down), context.Canceled)
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(suiteNext(t, outcome).err))
				suiteNext(t, p.Client.Done())
			}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		})
	}
}

// Shutdown waits for streams, at either end, until they have ended.
func TestSuiteShutdownWaitsForStreams(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		t.Run(who, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				s := suiteOpen(t, p.Client, "/echo")
				suiteEchoed(t, s, "before")
				var ender suiteEnder = p.Client
				if who == "server" {
					ender = p.Server
				}
				down := make(chan error, 1)
				go func() { down <- ender.Shutdown(t.Context()) }()
				require.Eventually(t, func() bool {
					return p.Client.Call("/echo", nil, nil, suitePatience) != nil
				}, suitePatience, suiteTick)
				for range 3 {
					suiteEchoed(t, s, "meanwhile")
				}
				require.Empty(t, down)
				require.NoError(t, s.CloseSend())
				require.ErrorIs(t, s.Recv(new(string)), io.EOF)
				require.NoError(t, suiteNext(t, down))
			}, arpctest.Setup(suiteWithStreams), arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
		})
	}
}

// Shutdown while there is no connection has nothing to wait for.
func TestSuiteShutdownWhileReconnecting(t *testing.T) {
	for _, calls := range suiteEndings {
		t.Run(calls, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				p := arpctest.New(t, world)
				c, line := suiteOnLine(t, p, suiteQuickly)
				line.lead(nil)
				c.Conn().Close()
				require.Eventually(t, func() bool { return c.State() == arpc.StateReconnecting }, suitePatience, suiteTick)
				suiteEndBy(t, c, calls)
				require.Equal(t, arpc.StateClosed, c.State())
				require.ErrorIs(t, c.Err(), arpc.ErrClosed)
			})
		})
	}
}
