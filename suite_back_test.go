package arpc_test

import (
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// Handlers call back over the connection they serve, as deep as they like.
func TestSuiteCallsBackNested(t *testing.T) {
	const depth = 20
	descend := func(ctx *arpc.Context) {
		var left int
		ctx.Bind(&left)
		if left == 0 {
			ctx.Write(0)
			return
		}
		var below int
		if err := ctx.Client.Call("/descend", left-1, &below, suitePatience); err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write(below + 1)
	}
	for name, async := range map[string]bool{"concurrent": true, "ordered": false} {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				levels := depth
				if !async {
					levels = 1 // a deeper call would wait for the handler it comes from
				}
				p.Server.Handler.Handle("/descend", descend, async)
				p.Client.Handler.Handle("/descend", descend, async)
				for range 10 {
					var reached int
					require.NoError(t, p.Client.Call("/descend", levels, &reached, suitePatience))
					require.Equal(t, levels, reached)
				}
			})
		})
	}
}

// All at once, from both ends.
func TestSuiteCallsBackAtTheSameTime(t *testing.T) {
	const callers, calls = 8, 20
	back := func(ctx *arpc.Context) {
		var reply string
		if err := ctx.Client.Call("/echo", string(ctx.Body()), &reply, suitePatience); err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write(reply)
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/back", back)
		p.Client.Handler.Handle("/back", back)
		done := make(chan error, 2*callers)
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			for range callers {
				go func() {
					var err error
					for i := 0; i < calls && err == nil; i++ {
						var reply string
						err = c.Call("/back", "x", &reply, suitePatience)
					}
					done <- err
				}()
			}
		}
		for range cap(done) {
			require.NoError(t, suiteNext(t, done))
		}
	}, arpctest.Setup(suiteWithEcho))
}

// suiteExchange does everything that may wait for the peer, over c.
func suiteExchange(c *arpc.Client) error {
	for range 3 {
		if err := c.Call("/echo", "x", nil, suitePatience); err != nil {
			return err
		}
	}
	answered := make(chan error, 1)
	callback := func(ctx *arpc.Context) { answered <- ctx.Bind(nil) }
	if err := c.CallAsync("/echo", "x", callback, suitePatience); err != nil {
		return err
	}
	if err := <-answered; err != nil {
		return err
	}
	return c.Notify("/echo", "x", suitePatience)
}

// Whatever runs the user's code may use the connection it runs for.
func TestSuiteExchangeFromEverywhere(t *testing.T) {
	places := map[string]func(t *testing.T, p *arpctest.Pair, done chan error){
		"request": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
				done <- suiteExchange(ctx.Client)
				ctx.Write("x")
			})
			require.NoError(t, p.Client.Call("/x", nil, nil, suitePatience))
		},
		"orderedRequest": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
				done <- suiteExchange(ctx.Client)
				ctx.Write("x")
			}, false)
			require.NoError(t, p.Client.Call("/x", nil, nil, suitePatience))
		},
		"notification": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Server.Handler.Handle("/x", func(ctx *arpc.Context) { done <- suiteExchange(ctx.Client) })
			require.NoError(t, p.Client.Notify("/x", nil, suitePatience))
		},
		"broadcast": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Client.Handler.Handle("/x", func(ctx *arpc.Context) { done <- suiteExchange(ctx.Client) })
			p.Peer()
			require.NoError(t, p.Server.Broadcast("/x", nil))
		},
		"middleware": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Server.Handler.Use(func(ctx *arpc.Context) {
				if ctx.Message.Method() == "/x" {
					done <- suiteExchange(ctx.Client)
				}
			})
			p.Server.Handler.Handle("/x", suiteEcho)
			require.NoError(t, p.Client.Call("/x", nil, nil, suitePatience))
		},
		"notFound": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Server.Handler.HandleNotFound(func(ctx *arpc.Context) { done <- suiteExchange(ctx.Client) })
			require.ErrorIs(t, p.Client.Call("/x", nil, nil, suitePatience), arpc.ErrMethodNotFound)
		},
		"callback": func(t *testing.T, p *arpctest.Pair, done chan error) {
			callback := func(ctx *arpc.Context) { done <- suiteExchange(ctx.Client) }
			require.NoError(t, p.Client.CallAsync("/echo", nil, callback, suitePatience))
		},
		"streamHandler": func(t *testing.T, p *arpctest.Pair, done chan error) {
			p.Server.Handler.HandleStream("/x", func(s *arpc.Stream) { done <- suiteExchange(s.Client()) })
			stream, err := p.Client.OpenStream(t.Context(), "/x")
			require.NoError(t, err)
			require.NoError(t, stream.CloseSend())
		},
	}
	for name, use := range places {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				done := make(chan error, 1)
				use(t, p, done)
				require.NoError(t, suiteNext(t, done))
				suiteAlive(t, p)
			}, arpctest.Setup(suiteWithEcho))
		})
	}
}

// A handler may wait for a stream's messages over its own connection.
func TestSuiteHandlerUsesAStream(t *testing.T) {
	for name, async := range map[string]bool{"concurrent": true, "ordered": false} {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				p.Client.Handler.HandleStream("/echo", suiteEchoStream)
				p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
					stream, err := ctx.Client.OpenStream(ctx, "/echo")
					if err != nil {
						ctx.Error(err)
						return
					}
					defer stream.Close()
					var reply string
					stream.Send("over a stream")
					stream.Recv(&reply)
					ctx.Write(reply)
				}, async)
				var reply string
				require.NoError(t, p.Client.Call("/x", nil, &reply, suitePatience))
				require.Equal(t, "over a stream", reply)
			})
		})
	}
}
