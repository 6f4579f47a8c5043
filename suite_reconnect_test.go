package arpc_test

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteQuickly comes back soon, and for ever.
var suiteQuickly = arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)

// suiteLine is a dialer that can be led to another server, or nowhere.
type suiteLine struct {
	mu   sync.Mutex
	dial arpc.DialerFunc // nil: nowhere; guarded by mu
}

var errSuiteNowhere = errors.New("nobody there")

func (l *suiteLine) lead(dial arpc.DialerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dial = dial
}

func (l *suiteLine) Dial() (net.Conn, error) {
	l.mu.Lock()
	dial := l.dial
	l.mu.Unlock()
	if dial == nil {
		return nil, errSuiteNowhere
	}
	return dial()
}

// suiteOnLine returns a client that dials over a line, led to the pair.
func suiteOnLine(t *testing.T, p *arpctest.Pair, opts ...arpc.Option) (*arpc.Client, *suiteLine) {
	t.Helper()
	line := &suiteLine{dial: p.Dialer()}
	c, err := arpc.NewClient(line.Dial, opts...)
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c, line
}

// suiteEvents has the events of a client's life passed on, in order.
func suiteEvents(h *arpc.Handler) <-chan string {
	events := make(chan string, 1000)
	h.HandleConnected(func(*arpc.Client) { events <- "connected" })
	h.HandleDisconnected(func(*arpc.Client) { events <- "disconnected" })
	h.HandleReconnect(func(_ *arpc.Client, attempt int, err error) {
		if err != nil {
			err = errors.Unwrap(err)
		}
		events <- fmt.Sprintf("attempt %d: %v", attempt, err)
	})
	return events
}

// suiteUntil returns the event that is not like skip.
func suiteUntil(t testing.TB, events <-chan string, want string) {
	t.Helper()
	for suiteNext(t, events) != want {
	}
}

// A client whose server is gone tries again and again, and says so; when there is
// a server again it is as good as new.
func TestSuiteReconnect(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		first := arpctest.New(t, world, arpctest.Setup(suiteWithEcho))
		second := arpctest.New(t, world, arpctest.Setup(suiteWithEcho))
		h := arpc.NewHandler(suiteQuickly)
		events := suiteEvents(h)
		c, line := suiteOnLine(t, first, arpc.WithHandler(h))
		c.Set("user", "alice")
		require.Equal(t, "connected", suiteNext(t, events))
		require.Equal(t, arpc.StateConnected, c.State())
		require.NoError(t, c.Err())
		suiteRequireEcho(t, c)

		line.lead(nil)
		first.Server.Stop()
		require.Equal(t, "disconnected", suiteNext(t, events))
		for i := range 5 {
			require.Equal(t, fmt.Sprintf("attempt %d: nobody there", i+1), suiteNext(t, events))
		}
		require.Equal(t, arpc.StateReconnecting, c.State())
		require.Error(t, c.Err())
		err := c.Call("/echo", nil, nil, arpc.TimeForever)
		require.ErrorIs(t, err, arpc.ErrDisconnected)
		suiteUnsent(t, err, arpc.CodeUnavailable)
		require.ErrorIs(t, c.Notify("/echo", nil, arpc.TimeForever), arpc.ErrDisconnected)
		_, err = c.OpenStream(t.Context(), "/echo")
		require.ErrorIs(t, err, arpc.ErrDisconnected)

		line.lead(second.Dialer())
		suiteUntil(t, events, "connected")
		require.Regexp(t, `attempt \d+: <nil>`, suiteNext(t, events))
		require.Equal(t, arpc.StateConnected, c.State())
		suiteRequireEcho(t, c)
		user, _ := c.Get("user")
		require.Equal(t, "alice", user, "values stay with the client")
		require.Empty(t, events)
	})
}

// Each loss starts the count of attempts anew, if the connection was of use.
func TestSuiteReconnectAgainAndAgain(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho))
		h := arpc.NewHandler(suiteQuickly)
		events := suiteEvents(h)
		c, _ := suiteOnLine(t, p, arpc.WithHandler(h))
		require.Equal(t, "connected", suiteNext(t, events))
		for range 10 {
			suiteRequireEcho(t, c)
			p.PeerOf(c).Stop()
			require.Equal(t, "disconnected", suiteNext(t, events))
			require.Equal(t, "connected", suiteNext(t, events))
			require.Equal(t, "attempt 1: <nil>", suiteNext(t, events))
		}
	})
}

// What was in flight when the connection was lost ends with an error, once, and
// the error says that the request may have been handled.
func TestSuiteInFlightAtTheLoss(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(suiteQuickly))
		detached := make(chan *arpc.Context, 10)
		p.Server.Handler.Handle("/later", func(ctx *arpc.Context) { detached <- ctx.Detach() })
		result := make(chan error, 1)
		go func() { result <- p.Client.Call("/later", nil, nil, arpc.TimeForever) }()
		ctx := suiteNext(t, detached)
		outcome := suiteAsync(t, p.Client, "/later", nil)
		suiteNext(t, detached)
		p.Peer().Stop()
		for _, err := range []error{suiteNext(t, result), suiteNext(t, outcome).err} {
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
			require.False(t, arpc.SafeToRetry(err))
			require.False(t, arpc.IsRemote(err))
		}
		require.Error(t, ctx.Write("for a connection that is gone"))
		require.Eventually(t, func() bool { return p.Client.State() == arpc.StateConnected }, suitePatience, suiteTick)
		suiteAlive(t, p)
	})
}

// After so many attempts a client gives up for good, and says why.
func TestSuiteReconnectGivesUp(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world)
		h := arpc.NewHandler(arpc.WithReconnect(time.Millisecond, time.Millisecond, 3))
		events := suiteEvents(h)
		c, line := suiteOnLine(t, p, arpc.WithHandler(h))
		line.lead(nil)
		c.Conn().Close()
		suiteNext(t, c.Done())
		require.Equal(t, arpc.StateClosed, c.State())
		require.ErrorIs(t, c.Err(), errSuiteNowhere)
		require.ErrorIs(t, c.Call("/echo", nil, nil, suitePatience), arpc.ErrClosed)
		require.ErrorIs(t, c.Restart(), arpc.ErrClosed)
		for _, want := range []string{
			"connected", "disconnected",
			"attempt 1: nobody there", "attempt 2: nobody there", "attempt 3: nobody there",
		} {
			require.Equal(t, want, suiteNext(t, events))
		}
		require.Empty(t, events)
	})
}

// With no attempts a lost connection closes the client.
func TestSuiteNoReconnect(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Peer().Stop()
		suiteNext(t, p.Client.Done())
		require.Equal(t, arpc.StateClosed, p.Client.State())
		require.Error(t, p.Client.Err())
		suiteUnsent(t, p.Client.Call("/echo", nil, nil, suitePatience), arpc.CodeUnavailable)
	}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)))
}

// Restart dials at once, however long the back-off is, whether the client is
// connected or not.
func TestSuiteRestart(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho))
		h := arpc.NewHandler(arpc.WithReconnect(time.Hour, time.Hour, arpc.Forever))
		events := suiteEvents(h)
		c, line := suiteOnLine(t, p, arpc.WithHandler(h))
		require.Equal(t, "connected", suiteNext(t, events))
		before := c.Conn()
		require.NoError(t, c.Restart())
		suiteUntil(t, events, "attempt 1: <nil>")
		require.NotSame(t, before, c.Conn())
		suiteRequireEcho(t, c)

		line.lead(nil)
		require.NoError(t, c.Restart())
		suiteUntil(t, events, "attempt 1: nobody there")
		require.NoError(t, c.Restart())
		suiteUntil(t, events, "attempt 2: nobody there")
		line.lead(p.Dialer())
		require.NoError(t, c.Restart())
		suiteUntil(t, events, "attempt 3: <nil>")
		suiteRequireEcho(t, c)
		require.Error(t, p.PeerOf(c).Restart(), "an accepted client cannot dial")
	})
}

// Dialers that fail, panic, or return nothing.
func TestSuiteDialErrors(t *testing.T) {
	dialers := map[string]arpc.DialerFunc{
		"nil":     nil,
		"error":   func() (net.Conn, error) { return nil, errSuiteNowhere },
		"panic":   func() (net.Conn, error) { panic("a test panics") },
		"nothing": func() (net.Conn, error) { return nil, nil },
	}
	for name, dialer := range dialers {
		t.Run(name, func(t *testing.T) {
			c, err := arpc.NewClient(dialer)
			require.Error(t, err)
			require.Nil(t, c)
			require.ErrorAs(t, err, new(*arpc.Error))
			require.Equal(t, name == "error", errors.Is(err, errSuiteNowhere))
		})
	}
}

// Calls of a pool go round, and pass over whom is not connected.
func TestSuitePool(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho))
		pool, err := arpc.NewClientPool(p.Dialer(), 3, arpc.WithReconnect(0, 0, 0))
		require.NoError(t, err)
		t.Cleanup(pool.Stop)
		require.Equal(t, 3, pool.Size())
		require.Same(t, pool.Get(1), pool.Get(4))
		require.Same(t, pool.Get(2), pool.Get(-1))
		require.Same(t, pool.Handler(), pool.Get(0).Handler)
		seen := make(map[*arpc.Client]int)
		for range 6 {
			seen[pool.Next()]++
		}
		require.Len(t, seen, 3)
		for _, n := range seen {
			require.Equal(t, 2, n)
		}

		pool.Get(0).Stop()
		for range 6 {
			require.NotSame(t, pool.Get(0), pool.Next())
			var reply string
			require.NoError(t, pool.Call("/echo", "x", &reply, suitePatience))
			require.NoError(t, pool.CallWith(t.Context(), "/echo", "x", &reply))
			require.NoError(t, pool.Notify("/echo", "x", suitePatience))
			require.NoError(t, pool.NotifyWith(t.Context(), "/echo", "x"))
		}
		done := make(chan error, 1)
		callback := func(ctx *arpc.Context) { done <- ctx.Bind(nil) }
		require.NoError(t, pool.CallAsync("/echo", nil, callback, suitePatience))
		require.NoError(t, suiteNext(t, done))

		require.NoError(t, pool.Shutdown(t.Context()))
		pool.Stop()
		suiteUnsent(t, pool.Call("/echo", nil, nil, suitePatience), arpc.CodeUnavailable)
	})
}

// A pool is there as a whole, or not at all.
func TestSuitePoolErrors(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	nowhere := func() (net.Conn, error) { return nil, errSuiteNowhere }
	_, err := arpc.NewClientPoolFromDialers([]arpc.DialerFunc{p.Dialer(), nowhere, p.Dialer()})
	require.ErrorIs(t, err, errSuiteNowhere)
	require.Eventually(t, func() bool { return len(p.Server.Clients()) == 1 }, suitePatience, suiteTick)
	_, err = arpc.NewClientPool(p.Dialer(), 0)
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	_, err = arpc.NewClientPoolFromDialers(nil)
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
}

// Connections over the limit are refused, and counted; when one is gone there is
// room for another.
func TestSuiteMaxConns(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(arpc.WithMaxConns(2)))
		suiteRequireEcho(t, p.Client)
		second := p.Dial()
		suiteRequireEcho(t, second)
		c, err := arpc.NewClient(p.Dialer(), arpc.WithReconnect(0, 0, 0))
		if err == nil { // it is told at once, or a moment later
			t.Cleanup(c.Stop)
			suiteNext(t, c.Done())
		}
		require.EqualValues(t, 1, p.Server.Refused())
		suiteAlive(t, p)
		second.Stop()
		require.Eventually(t, func() bool { return len(p.Server.Clients()) == 1 }, suitePatience, suiteTick)
		suiteRequireEcho(t, p.Dial())
	})
}
