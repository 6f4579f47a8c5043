package arpc_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Far is a world in which a message takes 30 ms.
func v2Far() arpctest.World {
	return arpctest.Memory(func(f arpctest.Faults) { f.Delay(30 * time.Millisecond) })
}

func TestV2RoundTripTimeIsMeasured(t *testing.T) {
	const near, far = 60 * time.Millisecond, 140 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, v2Far())
		require.Equal(t, near, p.Client.RTT(), "by the hello")
		require.Zero(t, p.Peer().RTT(), "it has not asked")
		rtt, err := p.Peer().Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, near, rtt)
		require.Equal(t, near, p.Peer().RTT())

		arpctest.FaultsOf(p.Client.Conn()).Delay(110 * time.Millisecond)
		rtt, err = p.Client.Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, far, rtt)
		require.Equal(t, (7*near+far)/8, p.Client.RTT(), "smoothed")
		for range 50 {
			p.Client.Ping(t.Context())
		}
		require.InDelta(t, far, p.Client.RTT(), float64(time.Millisecond))
	})
}

func TestV2RoundTripTimeToAnOldPeerIsMeasuredByPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, v2Far(), arpctest.ClientOptions(arpc.WithVersions(1, 1), arpc.WithKeepalive(time.Minute, time.Second)))
		require.Zero(t, p.Client.RTT())
		time.Sleep(2 * time.Minute)
		require.Equal(t, 60*time.Millisecond, p.Client.RTT(), "by keepalive")
	})
}

func TestV2RoundTripTimeBeginsAnewWithEachConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, v2Far())
		first := p.Client.Conn()
		arpctest.FaultsOf(first).Cut()
		time.Sleep(time.Second)
		require.NotSame(t, first, p.Client.Conn())
		require.Equal(t, 60*time.Millisecond, p.Client.RTT())
	})
}

func TestV2PingsAtTheSameTimeMeasureTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, v2Far())
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				rtt, err := p.Client.Ping(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, 60*time.Millisecond, rtt)
			})
		}
		all.Wait()
	})
}

func TestV2PingEndsWithItsContextAndTheConnectionGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(suiteWithEcho))
		arpctest.FaultsOf(p.Peer().Conn()).Stall()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := p.Client.Ping(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		arpctest.FaultsOf(p.Peer().Conn()).Resume()
		rtt, err := p.Client.Ping(t.Context())
		require.NoError(t, err)
		require.Zero(t, rtt, "and not that of the ping before")
		suiteAlive(t, p)
	})
}

func TestV2PingEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory())
		suiteSilence(p)
		time.AfterFunc(time.Second, p.Client.Stop)
		_, err := p.Client.Ping(t.Context())
		require.ErrorIs(t, err, arpc.ErrClosed)
		_, err = p.Client.Ping(t.Context())
		require.ErrorIs(t, err, arpc.ErrClosed)
		require.True(t, arpc.SafeToRetry(err))
	})
}

func TestV2PingsThatWaitAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(suiteWithEcho))
		peer := arpctest.FaultsOf(p.Peer().Conn())
		peer.Stall()
		var waiting sync.WaitGroup
		for range 1024 {
			waiting.Go(func() {
				_, err := p.Client.Ping(t.Context())
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		_, err := p.Client.Ping(t.Context())
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.ErrorContains(t, err, "1024 pings wait")
		peer.Resume()
		waiting.Wait()
		_, err = p.Client.Ping(t.Context())
		require.NoError(t, err)
		suiteAlive(t, p)
	})
}

func TestV2PingMayBeCalledByHandlersAndHooks(t *testing.T) {
	v2Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, method := range []string{"/ping", "/ordered"} {
			require.NoError(t, p.Client.Call(method, nil, nil, suitePatience))
			require.NoError(t, p.Peer().Call(method, nil, nil, suitePatience))
		}
	}, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		ping := func(ctx *arpc.Context) {
			_, err := ctx.Client.Ping(ctx)
			ctx.Write(err)
		}
		for _, h := range []*arpc.Handler{s.Handler, client} {
			h.Handle("/ping", ping)
			h.Handle("/ordered", ping, false)
		}
		client.HandleConnected(func(c *arpc.Client) {
			_, err := c.Ping(context.Background())
			assert.NoError(t, err)
		})
	}))
}

// A pong that nobody waits for is a sign of life and no more.
func TestV2PongUnaskedIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{}, suiteNoKeepalive)
		for range 2000 {
			p.write(wire.Header{Cmd: wire.CmdPong}, "", "")
		}
		synctest.Wait()
		go func() {
			p.next()
			time.Sleep(time.Second)
			p.write(wire.Header{Cmd: wire.CmdPong}, "", "")
		}()
		rtt, err := c.Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Second, rtt)
	})
}

func TestV2PeerThatDiesIsFoundWhilePingsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(suiteNoReconnect, arpc.WithKeepalive(10*time.Second, 3*time.Second)))
		suiteSilence(p)
		start := time.Now()
		_, err := p.Client.Ping(t.Context())
		require.ErrorIs(t, err, arpc.ErrKeepalive)
		require.Equal(t, 13*time.Second, time.Since(start))
	})
}

func TestV2ConnectionThatIsIdleForTooLongIsEnded(t *testing.T) {
	const limit = 80 * time.Second
	sides := map[string]struct {
		opt arpctest.Option
		who func(*arpctest.Pair) *arpc.Client
	}{
		"accepting": {arpctest.ServerOptions(arpc.WithIdleTimeout(limit)), (*arpctest.Pair).Peer},
		"dialling":  {arpctest.ClientOptions(arpc.WithIdleTimeout(limit)), func(p *arpctest.Pair) *arpc.Client { return p.Client }},
	}
	for name, side := range sides {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := arpctest.New(t, arpctest.Memory(), side.opt, arpctest.ClientOptions(suiteNoKeepalive, suiteNoReconnect), arpctest.Setup(suiteWithEcho))
				c := side.who(p)
				for range 5 {
					time.Sleep(limit - time.Second)
					suiteAlive(t, p)
				}
				start := time.Now()
				<-c.Done()
				require.ErrorIs(t, c.Err(), arpc.ErrIdle)
				require.GreaterOrEqual(t, time.Since(start), limit)
				require.LessOrEqual(t, time.Since(start), limit*9/8)
			})
		})
	}
}

func TestV2ConnectionOfAPeerThatPingsIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ServerOptions(arpc.WithIdleTimeout(time.Minute)),
			arpctest.ClientOptions(suiteNoReconnect), arpctest.Setup(suiteWithEcho))
		time.Sleep(24 * time.Hour)
		suiteAlive(t, p)
	})
}

func TestV2ConnectionsAreNeverIdleByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(suiteNoKeepalive, suiteNoReconnect), arpctest.Setup(suiteWithEcho))
		time.Sleep(1000 * time.Hour)
		suiteAlive(t, p)
	})
}

// Who does not read because of its own limits cannot tell whether something came.
func TestV2ConnectionThatIsNotReadIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := []arpc.Option{arpc.WithIdleTimeout(10 * time.Second), arpc.WithKeepalive(10*time.Second, 3*time.Second), arpc.WithMaxInflight(1)}
		p := arpctest.New(t, arpctest.Memory(), arpctest.ServerOptions(limits...), arpctest.ClientOptions(suiteNoReconnect), arpctest.Setup(suiteWithEcho))
		var handled sync.WaitGroup
		defer handled.Wait()
		p.Server.Handler.Handle("/slow", func(ctx *arpc.Context) { time.Sleep(3100 * time.Millisecond); handled.Done() })
		for range 60 {
			handled.Add(1)
			require.NoError(t, p.Client.Notify("/slow", nil, arpc.TimeZero))
		}
		start := time.Now()
		require.NoError(t, p.Client.Call("/echo", "x", nil, 24*time.Hour))
		require.Greater(t, time.Since(start), time.Minute)
	})
}

func TestV2ShortestTimersEndTheConnection(t *testing.T) {
	tests := map[string]struct {
		opt  arpc.Option
		want error
	}{
		"idle":      {arpc.WithIdleTimeout(time.Microsecond), arpc.ErrIdle},
		"keepalive": {arpc.WithKeepalive(1, 1), arpc.ErrKeepalive},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, _, _ := v2Connect(t, wire.Hello{}, test.opt, suiteNoReconnect)
				<-c.Done()
				require.ErrorIs(t, c.Err(), test.want)
			})
		})
	}
}
