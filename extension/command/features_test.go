package command_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// The tests whose names begin with TestC and a number are what users of cmd-stream-go
// know from there; docs/COMMAND.md says what is which. Here are those of the features
// that commands have from the connection.

type calc struct{}

func (calc) add(a, b int) int { return a + b }

func (calc) sub(a, b int) int { return a - b }

type add struct{ A, B int }

func (c add) Exec(_ context.Context, r calc, reply *command.Reply[int]) error {
	return reply.Last(r.add(c.A, c.B))
}

type sub struct{ A, B int }

func (c sub) Exec(_ context.Context, r calc, reply *command.Reply[int]) error {
	return reply.Last(r.sub(c.A, c.B))
}

// Two commands of the same fields are told apart by their types.
func TestC01_CommandsAreRoutedByTheirType(t *testing.T) {
	reg := command.NewRegistry[calc]()
	command.Register[calc, add](reg)
	command.Register[calc, sub](reg)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := reg.Sender(p.Client)
		sum, err := command.Send(patient(t), s, add{8, 3})
		require.NoError(t, err)
		require.Equal(t, 11, sum)
		diff, err := command.Send(patient(t), s, sub{8, 3})
		require.NoError(t, err)
		require.Equal(t, 5, diff)
	}, arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { reg.Handle(s.Handler, calc{}) }))
}

// pings counts what a connection that is idle otherwise sends.
type pings struct {
	net.Conn
	n *atomic.Int64
}

func (c pings) Write(b []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(b)
}

// Idle connections are kept alive, so that a server can end those that are silent.
func TestC07_KeepaliveOfIdleSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := pair(t, arpctest.Memory(), double, arpctest.ServerOptions(arpc.WithIdleTimeout(time.Minute)))
		var writes atomic.Int64
		idle, err := arpc.NewClient(func() (net.Conn, error) {
			nc, err := p.Dialer()()
			return pings{nc, &writes}, err
		}, arpc.WithKeepalive(10*time.Second, 5*time.Second))
		require.NoError(t, err)
		defer idle.Stop()
		before := writes.Load()
		time.Sleep(time.Hour)
		require.GreaterOrEqual(t, writes.Load()-before, int64(60))
		require.NoError(t, idle.Err(), "it was never lost")
		n, err := command.Send(t.Context(), orders().Sender(idle), order{1})
		require.NoError(t, err)
		require.Equal(t, 2, n)
	})
}

// The first error of a dialler is returned; a connection that is lost later comes back.
func TestC08_SendersComeBack(t *testing.T) {
	_, err := arpc.NewClient(func() (net.Conn, error) { return nil, errPlain })
	require.ErrorIs(t, err, errPlain)
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := pair(t, arpctest.Memory(), double)
				for range 5 {
					arpctest.FaultsOf(p.Client.Conn()).Cut()
					synctest.Wait() // it knows
					values, err := send(arpc.ContextWithWaitForReady(t.Context(), true), s, order{2})
					require.NoError(t, err)
					require.Equal(t, []int{4}, values)
				}
			})
		})
	}
}

// inOrder picks the members of a pool in the order in which it gets them.
type inOrder struct{ n atomic.Int64 }

func (p *inOrder) Pick(_ context.Context, method string, members []*arpc.Member) *arpc.Member {
	if method != orderMethod {
		return nil
	}
	return members[int(p.n.Add(1)-1)%len(members)]
}

// All connections of a pool are there from the start, anybody may say which one is used,
// and Done is closed when all are.
func TestC09_PoolOfConnections(t *testing.T) {
	from := make(chan string, 99)
	p, _ := pair(t, arpctest.TCP(), func(_ context.Context, o order, reply *command.Reply[int]) error {
		from <- reply.Client().Conn().RemoteAddr().String()
		return reply.Last(o.N)
	})
	pool, err := arpc.NewClientPool(p.Dialer(), 3)
	require.NoError(t, err)
	defer pool.Stop()
	for i := range 3 {
		p.PeerOf(pool.Get(i)) // it has accepted it
	}
	pool.SetPicker(&inOrder{})
	for _, send := range ways {
		for i := range 3 {
			_, err := send(patient(t), orders().Sender(pool), order{1})
			require.NoError(t, err)
			require.Equal(t, pool.Get(i).Conn().LocalAddr().String(), next(t, "executed", from))
		}
	}
	select {
	case <-pool.Done():
		require.Fail(t, "it is not done")
	default:
	}
	require.NoError(t, pool.Shutdown(patient(t)))
	next(t, "it is done", pool.Done())
}

// Shutdown waits for commands, at either end, over one connection and over a pool.
func TestC10_ShutdownWaitsForCommands(t *testing.T) {
	for name, end := range map[string]func(p *arpctest.Pair, pool *arpc.ClientPool) func(context.Context) error{
		"client": func(p *arpctest.Pair, _ *arpc.ClientPool) func(context.Context) error { return p.Client.Shutdown },
		"pool":   func(_ *arpctest.Pair, pool *arpc.ClientPool) func(context.Context) error { return pool.Shutdown },
		"server": func(p *arpctest.Pair, _ *arpc.ClientPool) func(context.Context) error { return p.Server.Shutdown },
	} {
		t.Run(name, func(t *testing.T) {
			began, release := make(chan struct{}), make(chan struct{})
			p, _ := pair(t, arpctest.Memory(), func(ctx context.Context, o order, reply *command.Reply[int]) error {
				if o.N > 0 {
					began <- struct{}{}
					<-release
				}
				return count(ctx, o, reply)
			})
			pool, err := arpc.NewClientPool(p.Dialer(), 2)
			require.NoError(t, err)
			defer pool.Stop()
			var caller arpc.Caller = p.Client
			if name == "pool" {
				caller = pool
			}
			pending, err := command.Start(t.Context(), orders().Sender(caller), order{5})
			require.NoError(t, err)
			one := make(chan error, 1)
			go func() {
				_, err := command.Send(t.Context(), orders().Sender(caller), order{1})
				one <- err
			}()
			next(t, "Exec begins", began)
			next(t, "Exec begins", began)
			ended := make(chan error, 1)
			go func() { ended <- end(p, pool)(patient(t)) }()
			require.Eventually(t, func() bool {
				_, err := command.Send(patient(t), orders().Sender(caller), order{})
				return arpc.SafeToRetry(err)
			}, guard, time.Millisecond, "nothing new begins")
			close(release)
			var values []int
			for r := range pending.Results() {
				values = append(values, r.Value)
			}
			require.NoError(t, pending.Err())
			require.Equal(t, upTo(5), values)
			require.NoError(t, next(t, "Send returns", one))
			require.NoError(t, next(t, "Shutdown returns", ended))
		})
	}
}

// A server tells of connections that are lost, with the reason, limits them, and another
// one serves at its address when it is closed.
func TestC13_ConnectionsOfAServer(t *testing.T) {
	lost := make(chan error, 9)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serve := func(ln net.Listener) *arpc.Server {
		s := arpc.NewServer(arpc.WithMaxConns(2))
		orders().Handle(s.Handler, &desk{double})
		s.Handler.HandleDisconnected(func(c *arpc.Client) { lost <- c.Err() })
		go s.Serve(ln)
		return s
	}
	s := serve(ln)
	dial := func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
	client, err := arpc.NewClient(dial, arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever))
	require.NoError(t, err)
	defer client.Stop()
	other, err := arpc.NewClient(dial)
	require.NoError(t, err)
	_, err = arpc.NewClient(dial)
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), "one more than the limit")
	other.Stop()
	require.ErrorIs(t, next(t, "a connection is lost", lost), arpc.ErrPeerClosed)
	s.Stop()
	require.ErrorIs(t, next(t, "another one is", lost), arpc.ErrClosed)
	require.Eventually(t, func() bool { return client.State() != arpc.StateConnected }, guard, time.Millisecond, "the client knows")

	again, err := net.Listen("tcp", ln.Addr().String())
	require.NoError(t, err)
	s = serve(again)
	defer s.Stop()
	n, err := command.Send(arpc.ContextWithWaitForReady(patient(t), true), orders().Sender(client), order{3})
	require.NoError(t, err)
	require.Equal(t, 6, n)
}

// A server that nobody comes to may be stopped by whoever minds: that is a timer.
func TestC13_ServerThatNobodyComesTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := arpc.NewServer()
		orders().Handle(s.Handler, &desk{double})
		nobody := time.AfterFunc(time.Minute, s.Stop)
		s.Handler.HandleConnected(func(*arpc.Client) { nobody.Stop() })
		start := time.Now()
		require.ErrorIs(t, s.Serve(arpctest.ListenMemory()), arpc.ErrServerClosed)
		require.Equal(t, time.Minute, time.Since(start))
	})
}
