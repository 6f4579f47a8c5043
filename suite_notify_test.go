package arpc_test

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteNumbers registers a notification that passes its numbers on.
func suiteNumbers(h *arpc.Handler, method string) <-chan int {
	got := make(chan int, 10000)
	h.Handle(method, func(ctx *arpc.Context) {
		var i int
		ctx.Bind(&i)
		got <- i
	})
	return got
}

// Notifications are handled in the order they were sent, both ways at the same
// time.
func TestSuiteNotifyOrder(t *testing.T) {
	const count = 1000
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		atServer, atClient := suiteNumbers(p.Server.Handler, "/n"), suiteNumbers(p.Client.Handler, "/n")
		var sending sync.WaitGroup
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			sending.Go(func() {
				for i := range count {
					if err := c.Notify("/n", i, suitePatience); err != nil {
						t.Errorf("notify: %v", err)
						return
					}
				}
			})
		}
		sending.Wait()
		for i := range count {
			require.Equal(t, i, suiteNext(t, atServer))
			require.Equal(t, i, suiteNext(t, atClient))
		}
	})
}

// All kinds of notifications are in one order.
func TestSuiteNotifyKinds(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := suiteNumbers(p.Server.Handler, "/n")
		for i := 0; i < 40; i += 4 {
			require.NoError(t, p.Client.Notify("/n", i, suitePatience))
			require.NoError(t, p.Client.Notify("/n", i+1, arpc.TimeZero))
			require.NoError(t, p.Client.NotifyWith(t.Context(), "/n", i+2))
			require.NoError(t, p.Client.PushMsg(p.Client.NewMessage(arpc.CmdNotify, "/n", i+3), arpc.TimeForever))
		}
		for i := range 40 {
			require.Equal(t, i, suiteNext(t, got))
		}
	})
}

// The value may be changed as soon as Notify has returned.
func TestSuiteNotifyKeepsNothing(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := make(chan []byte, 10)
		p.Server.Handler.Handle("/big", func(ctx *arpc.Context) { got <- bytes.Clone(ctx.Body()) })
		body := make([]byte, 100<<10)
		for i := range byte(cap(got)) {
			for at := range body {
				body[at] = i
			}
			require.NoError(t, p.Client.Notify("/big", body, suitePatience))
		}
		for i := range byte(cap(got)) {
			require.True(t, bytes.Equal(bytes.Repeat([]byte{i}, len(body)), suiteNext(t, got)), "message %d", i)
		}
	})
}

// suiteDeaf returns a client whose peer, of version 1, does not read until listen
// is called, and then reads everything.
func suiteDeaf(t *testing.T, world arpctest.World, opts ...arpc.Option) (c *arpc.Client, listen func()) {
	t.Helper()
	ln, dial := world.Listen(t)
	listens := make(chan struct{})
	listen = sync.OnceFunc(func() { close(listens) })
	var peer sync.WaitGroup
	peer.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		if hs, ok := nc.(interface{ HandshakeContext(context.Context) error }); ok {
			hs.HandshakeContext(context.Background())
		}
		nc.Write(oldPong)
		<-listens
		io.Copy(io.Discard, nc)
	})
	c, err := arpc.NewClient(dial, append([]arpc.Option{arpc.WithReconnect(0, 0, 0)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		listen()
		c.Stop()
		ln.Close()
		peer.Wait()
	})
	return c, listen
}

// When the peer does not read, TimeZero fails instead of waiting and the hook
// tells. Others wait until there is room.
func TestSuiteOverstock(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		c, listen := suiteDeaf(t, world, arpc.WithSendQueue(8, 1<<20), arpc.WithWriteTimeout(0))
		var told atomic.Int32
		c.Handler.HandleOverstock(func(*arpc.Client) { told.Add(1) })
		body := make([]byte, 64<<10)
		var err error
		for i := 0; err == nil && i < 10000; i++ {
			err = c.Notify("/n", body, arpc.TimeZero)
		}
		require.ErrorIs(t, err, arpc.ErrOverstock)
		suiteUnsent(t, err, arpc.CodeResourceExhausted)
		require.EqualValues(t, 1, told.Load())
		msg := c.NewMessage(arpc.CmdNotify, "/n", body)
		for err = nil; err == nil; {
			err = c.PushMsg(msg, arpc.TimeZero)
		}
		require.ErrorIs(t, err, arpc.ErrOverstock)
		require.EqualValues(t, 2, told.Load())
		require.ErrorIs(t, c.TryPush(msg), arpc.ErrOverstock)
		require.EqualValues(t, 2, told.Load(), "TryPush runs no hook")

		waiting := make(chan error, 1)
		go func() { waiting <- c.Notify("/n", body, suitePatience) }()
		listen()
		require.NoError(t, suiteNext(t, waiting))
		require.EqualValues(t, 2, told.Load())
	})
}

// Who waits for room in the send queue learns that there is never going to be.
func TestSuiteStopWakesSenders(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		c, _ := suiteDeaf(t, world, arpc.WithSendQueue(8, 1<<20), arpc.WithWriteTimeout(0))
		body := make([]byte, 64<<10)
		for c.Notify("/n", body, arpc.TimeZero) == nil {
		}
		errs := make(chan error, 20) // more than find room when the socket takes the last it has room for
		for range cap(errs) {
			go func() { errs <- c.NotifyWith(t.Context(), "/n", body) }()
		}
		c.Stop()
		woken := 0
		for range cap(errs) {
			if err := suiteNext(t, errs); err != nil {
				suiteUnsent(t, err, arpc.CodeUnavailable)
				woken++
			}
		}
		require.Positive(t, woken)
	})
}

// suiteClients returns the pair's client and n-1 further ones, and where their
// "/news" come, in the order sent.
func suiteClients(t *testing.T, p *arpctest.Pair, n int) (clients []*arpc.Client, news []chan string) {
	t.Helper()
	for i := range n {
		clients = append(clients, p.Client)
		if i > 0 {
			clients[i] = p.Dial()
		}
		p.PeerOf(clients[i]).Set("number", i)
	}
	for _, c := range clients {
		got := make(chan string, 1000)
		c.Handler.Handle("/news", func(ctx *arpc.Context) { got <- string(ctx.Body()) })
		news = append(news, got)
	}
	return clients, news
}

func TestSuiteBroadcast(t *testing.T) {
	odd := func(c *arpc.Client) bool {
		number, _ := c.Get("number")
		return number.(int)%2 == 1
	}
	large := func(c *arpc.Client) bool {
		number, _ := c.Get("number")
		return number.(int) >= 2
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		_, news := suiteClients(t, p, 5)
		require.NoError(t, p.Server.Broadcast("/news", "for the odd", odd))
		require.NoError(t, p.Server.Broadcast("/news", "for the large and odd", odd, nil, large))
		require.NoError(t, p.Server.Broadcast("/news", "for all"))
		for i, got := range news {
			if i%2 == 1 {
				require.Equal(t, "for the odd", suiteNext(t, got))
			}
			if i%2 == 1 && i >= 2 {
				require.Equal(t, "for the large and odd", suiteNext(t, got))
			}
			require.Equal(t, "for all", suiteNext(t, got))
			require.Empty(t, got)
		}
	})
}

// Broadcasts keep their place among what else is sent, also behind a peer that reads
// slowly, and what they were made of may change at once.
func TestSuiteBroadcastsKeepTheirPlace(t *testing.T) {
	const times = 2000
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		clients, _ := suiteClients(t, p, 3)
		got := make([]chan int, len(clients))
		for i, c := range clients {
			got[i] = make(chan int, 2*times)
			c.Handler.Handle("/count", func(ctx *arpc.Context) {
				n, err := strconv.Atoi(string(bytes.TrimRight(ctx.Body(), ".")))
				if err != nil {
					n = -1
				}
				got[i] <- n
			}, false)
		}
		for n := range times {
			body := append([]byte(strconv.Itoa(2*n)), strings.Repeat(".", n%300)...)
			require.NoError(t, p.Server.Broadcast("/count", body))
			clear(body)
			for _, peer := range p.Server.Clients() {
				require.NoError(t, peer.Notify("/count", strconv.Itoa(2*n+1), suitePatience))
			}
		}
		for i := range clients {
			for n := range 2 * times {
				require.Equal(t, n, suiteNext(t, got[i]))
			}
		}
	})
}

// Broadcast waits for nobody: a peer that does not read is left out.
func TestSuiteBroadcastLeavesOutWhoIsFull(t *testing.T) {
	overstocked := make(chan *arpc.Client, 1000)
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world,
			arpctest.ServerOptions(arpc.WithSendQueue(4, 1<<20), arpc.WithWriteTimeout(0)),
			arpctest.Setup(func(server *arpc.Server, _ *arpc.Handler) {
				server.Handler.HandleOverstock(func(c *arpc.Client) { overstocked <- c })
			}))
		_, news := suiteClients(t, p, 1)
		deaf, err := p.Dialer()()
		require.NoError(t, err)
		defer deaf.Close()
		require.Eventually(t, func() bool { return len(p.Server.Clients()) == 2 }, suitePatience, suiteTick)
		body := string(make([]byte, 256<<10))
		for len(overstocked) == 0 {
			require.NoError(t, p.Server.Broadcast("/news", body))
			require.Equal(t, body, suiteNext(t, news[0]))
		}
		require.Equal(t, deaf.LocalAddr().String(), suiteNext(t, overstocked).Conn().RemoteAddr().String())
	})
}

// One message may be pushed to any number of clients, any number of times, at
// the same time.
func TestSuitePushShared(t *testing.T) {
	const clients, pushers, times = 4, 4, 25
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		_, news := suiteClients(t, p, clients)
		msg := p.Server.NewMessage(arpc.CmdNotify, "/news", "the same for all")
		before := bytes.Clone(msg.Buffer)
		var pushing sync.WaitGroup
		for range pushers {
			pushing.Go(func() {
				for range times {
					for _, peer := range p.Server.Clients() {
						if err := peer.PushMsg(msg, suitePatience); err != nil {
							t.Errorf("push: %v", err)
						}
					}
				}
			})
		}
		pushing.Wait()
		for _, got := range news {
			for range pushers * times {
				require.Equal(t, "the same for all", suiteNext(t, got))
			}
		}
		require.Equal(t, before, msg.Buffer)
	})
}

// What a client was told to keep is kept with it.
func TestSuiteClientValues(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			_, ok := c.Get("user")
			require.False(t, ok)
			c.Set("user", "alice")
			user, ok := c.Get("user")
			require.True(t, ok)
			require.Equal(t, "alice", user)
			c.Delete("user")
			_, ok = c.Get("user")
			require.False(t, ok)
		}
		p.Peer().Set("user", "bob")
		p.Server.Handler.Handle("/whoami", func(ctx *arpc.Context) {
			user, _ := ctx.Client.Get("user")
			ctx.Write(user)
		})
		var user string
		require.NoError(t, p.Client.Call("/whoami", nil, &user, suitePatience))
		require.Equal(t, "bob", user)
	})
}
