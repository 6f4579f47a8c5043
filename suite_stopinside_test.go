package arpc_test

import (
	"context"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suitePlaces are where the user's code runs: setup has it run at one end, reach
// makes the other end, or the network, cause it.
var suitePlaces = map[string]struct {
	setup func(h *arpc.Handler, code func(*arpc.Client))
	reach func(t *testing.T, from *arpc.Client)
}{
	"request": {
		func(h *arpc.Handler, code func(*arpc.Client)) {
			h.Handle("/x", func(ctx *arpc.Context) { code(ctx.Client) })
		},
		func(_ *testing.T, from *arpc.Client) { from.Call("/x", nil, nil, suitePatience) },
	},
	"orderedRequest": {
		func(h *arpc.Handler, code func(*arpc.Client)) {
			h.Handle("/x", func(ctx *arpc.Context) { code(ctx.Client) }, false)
		},
		func(_ *testing.T, from *arpc.Client) { from.Call("/x", nil, nil, suitePatience) },
	},
	"notification": {
		func(h *arpc.Handler, code func(*arpc.Client)) {
			h.Handle("/x", func(ctx *arpc.Context) { code(ctx.Client) })
		},
		func(_ *testing.T, from *arpc.Client) { from.Notify("/x", nil, suitePatience) },
	},
	"stream": {
		func(h *arpc.Handler, code func(*arpc.Client)) {
			h.HandleStream("/x", func(s *arpc.Stream) { code(s.Client()) })
		},
		func(t *testing.T, from *arpc.Client) { suiteOpen(t, from, "/x").CloseSend() },
	},
	"callback": {
		func(h *arpc.Handler, code func(*arpc.Client)) {
			h.Handle("/x", func(ctx *arpc.Context) {
				ctx.Client.CallAsync("/echo", nil, func(ctx *arpc.Context) { code(ctx.Client) }, suitePatience)
			})
		},
		func(_ *testing.T, from *arpc.Client) { from.Notify("/x", nil, suitePatience) },
	},
	"messageDropped": {
		func(h *arpc.Handler, code func(*arpc.Client)) {
			h.HandleMessageDropped(func(c *arpc.Client, _ *arpc.Message) { code(c) })
		},
		func(_ *testing.T, from *arpc.Client) { from.Notify("/nowhere", nil, suitePatience) },
	},
	"disconnected": {
		func(h *arpc.Handler, code func(*arpc.Client)) { h.HandleDisconnected(code) },
		func(_ *testing.T, from *arpc.Client) { from.Conn().Close() },
	},
}

// suiteInside runs code at the place, at either end, over every world.
func suiteInside(t *testing.T, place string, code func(p *arpctest.Pair, c *arpc.Client), check func(t *testing.T, p *arpctest.Pair)) {
	t.Helper()
	where := suitePlaces[place]
	for end, handlerOf := range suiteEnds {
		t.Run(place+"/"+end, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				var p *arpctest.Pair
				done := make(chan struct{}, 10)
				p = suiteSetup(t, world, func(server *arpc.Server, client *arpc.Handler) {
					where.setup(handlerOf(server, client), func(c *arpc.Client) {
						code(p, c)
						done <- struct{}{}
					})
				}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
				from := p.Client
				if end == "client" {
					from = p.Peer()
				}
				suiteAlive(t, p)
				where.reach(t, from)
				suiteNext(t, done)
				check(t, p)
			})
		})
	}
}

// Client.Stop and Server.Stop return wherever the user's code calls them.
func TestSuiteStopInside(t *testing.T) {
	for place := range suitePlaces {
		suiteInside(t, place, func(_ *arpctest.Pair, c *arpc.Client) {
			c.Stop()
			c.Stop()
		}, func(t *testing.T, p *arpctest.Pair) {
			suiteNext(t, p.Client.Done())
			require.Eventually(t, func() bool { return len(p.Server.Clients()) == 0 }, suitePatience, suiteTick)
		})
	}
}

func TestSuiteServerStopInside(t *testing.T) {
	for place := range suitePlaces {
		suiteInside(t, place, func(p *arpctest.Pair, _ *arpc.Client) {
			p.Server.Stop()
			p.Server.Stop()
		}, func(t *testing.T, p *arpctest.Pair) {
			suiteNext(t, p.Client.Done())
			require.Eventually(t, func() bool { return len(p.Server.Clients()) == 0 }, suitePatience, suiteTick)
		})
	}
}

// Shutdown from the inside waits for the code that calls it, so at most until
// its context ends, and then ends everything.
func TestSuiteShutdownInside(t *testing.T) {
	for place := range suitePlaces {
		suiteInside(t, place, func(p *arpctest.Pair, c *arpc.Client) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			c.Shutdown(ctx)
			c.Shutdown(ctx)
			p.Server.Shutdown(ctx)
		}, func(t *testing.T, p *arpctest.Pair) {
			suiteNext(t, p.Client.Done())
			require.Eventually(t, func() bool { return len(p.Server.Clients()) == 0 }, suitePatience, suiteTick)
		})
	}
}

// Stop in the connected hook of the dialling side: NewClient says so.
func TestSuiteStopInsideConnected(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world)
		h := arpc.NewHandler()
		h.HandleConnected((*arpc.Client).Stop)
		c, err := arpc.NewClient(p.Dialer(), arpc.WithHandler(h))
		require.ErrorIs(t, err, arpc.ErrClosed)
		require.Nil(t, c)
	})
}

// Stop in the connected hook of the accepting side: the connection ends.
func TestSuiteStopInsideAccepted(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		stopped := make(chan struct{}, 10)
		ln, dial := world.Listen(t)
		s := arpc.NewServer()
		s.Handler.HandleConnected(func(c *arpc.Client) {
			c.Stop()
			s.Stop()
			stopped <- struct{}{}
		})
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		c, err := arpc.NewClient(dial, arpc.WithReconnect(0, 0, 0))
		if err == nil {
			defer c.Stop()
			suiteNext(t, c.Done())
		}
		suiteNext(t, stopped)
		require.ErrorIs(t, suiteNext(t, served), arpc.ErrServerClosed)
	})
}

// Stop in the hooks of a client that comes back.
func TestSuiteStopInsideReconnect(t *testing.T) {
	hooks := map[string]func(h *arpc.Handler, line *suiteLine, stop func(*arpc.Client)){
		"attemptFailed": func(h *arpc.Handler, line *suiteLine, stop func(*arpc.Client)) {
			line.lead(nil)
			h.HandleReconnect(func(c *arpc.Client, _ int, err error) { stop(c) })
		},
		"attemptSucceeded": func(h *arpc.Handler, _ *suiteLine, stop func(*arpc.Client)) {
			h.HandleReconnect(func(c *arpc.Client, _ int, err error) { stop(c) })
		},
		"connectedAgain": func(h *arpc.Handler, _ *suiteLine, stop func(*arpc.Client)) { h.HandleConnected(stop) },
	}
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			suiteWorlds(t, func(t *testing.T, world arpctest.World) {
				p := arpctest.New(t, world)
				h := arpc.NewHandler(suiteQuickly)
				c, line := suiteOnLine(t, p, arpc.WithHandler(h))
				stopped := make(chan struct{}, 10)
				hook(h, line, func(c *arpc.Client) {
					c.Stop()
					stopped <- struct{}{}
				})
				c.Conn().Close()
				suiteNext(t, stopped)
				suiteNext(t, c.Done())
				require.ErrorIs(t, c.Err(), arpc.ErrClosed)
			})
		})
	}
}

// Restart from the inside returns, and the client comes back.
func TestSuiteRestartInside(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		again := make(chan error, 1)
		p := suiteSetup(t, world, func(_ *arpc.Server, client *arpc.Handler) {
			client.Handle("/restart", func(ctx *arpc.Context) { ctx.Client.Restart() })
			client.HandleReconnect(func(_ *arpc.Client, _ int, err error) { again <- err })
		}, arpctest.ClientOptions(arpc.WithReconnect(time.Hour, time.Hour, arpc.Forever)))
		for range 3 {
			require.NoError(t, p.Peer().Notify("/restart", nil, suitePatience))
			require.NoError(t, suiteNext(t, again))
			suiteAlive(t, p)
		}
	})
}
