package interop

import (
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// quickly has our clients come back without much of a wait.
var quickly = []arpc.Option{arpc.WithReconnect(time.Millisecond, 5*time.Millisecond, arpc.Forever)}

// onReconnect tells when a client of ours is connected again.
func onReconnect(back chan error) func(routes) {
	return func(r routes) {
		if ours, ok := r.(ourRoutes); ok {
			ours.HandleReconnect(func(_ *arpc.Client, _ int, err error) {
				if err == nil {
					back <- nil
				}
			})
		}
	}
}

// waiting are routes of servers whose /wait keeps its caller waiting.
func waiting(name string, entered chan<- struct{}, leave <-chan struct{}) setup {
	return setup{routes: func(r routes) {
		r.handle("/name", func(r request, _ end) { r.Write(name) })
		r.handle("/wait", func(r request, _ end) {
			entered <- struct{}{}
			<-leave
			r.Write("at last")
		})
	}}
}

// Our client and an old server that goes away and comes back.
func TestOurClientReconnects(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	first := serveOld(t, waiting("first", entered, leave))
	second := serveOld(t, waiting("second", entered, leave))
	back := make(chan error, 1)
	var where address
	where.set(first.listener)
	client := dialOurs(t, where.dial, setup{routes: onReconnect(back), ours: quickly})
	requireReply(t, ourEnd{client}, "/name", nil, "first")

	lost := make(chan error, 1)
	go func() { lost <- client.Call("/wait", nil, nil, patience) }()
	receive(t, entered)
	where.addr.Store(nil)
	first.hangUp()
	err := receive(t, lost)
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
	require.False(t, arpc.SafeToRetry(err), "the request was sent")
	first.stop()
	close(leave)

	err = client.Call("/name", nil, nil, patience)
	require.ErrorIs(t, err, arpc.ErrDisconnected)
	require.True(t, arpc.SafeToRetry(err))
	require.Equal(t, arpc.StateReconnecting, client.State())

	where.set(second.listener)
	require.NoError(t, receive(t, back))
	requireReply(t, ourEnd{client}, "/name", nil, "second")
}

// An old client and a server of ours that goes away and comes back. The client
// waits for a second after its first attempt, which fails.
func TestOldClientReconnects(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	first := serveOurs(t, waiting("first", entered, leave))
	second := serveOurs(t, waiting("second", entered, leave))
	connected := make(chan *old.Client, 10)
	var where address
	where.addr.Store(first.addr.Load())
	client := dialOld(t, where.dial, setup{old: func(h old.Handler) {
		h.HandleConnected(func(c *old.Client) { connected <- c })
	}})
	receive(t, connected)
	requireReply(t, oldEnd{client.Client}, "/name", nil, "first")

	lost := make(chan error, 1)
	go func() { lost <- client.Call("/wait", nil, nil, patience) }()
	receive(t, entered)
	where.addr.Store(nil)
	first.Stop()
	require.Equal(t, old.ErrClientReconnecting, receive(t, lost))
	close(leave)

	where.addr.Store(second.addr.Load())
	receive(t, connected)
	requireReply(t, oldEnd{client.Client}, "/name", nil, "second")
}

// A server of ours that shuts down answers what an old client has asked before.
func TestShutdownAnswersOldClient(t *testing.T) {
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	first := serveOurs(t, waiting("first", entered, leave))
	second := serveOurs(t, waiting("second", entered, leave))
	connected := make(chan *old.Client, 10)
	var where address
	where.addr.Store(first.addr.Load())
	client := dialOld(t, where.dial, setup{old: func(h old.Handler) {
		h.HandleConnected(func(c *old.Client) { connected <- c })
	}})
	receive(t, connected)

	replies := make(chan string, 1)
	go func() {
		var reply string
		client.Call("/wait", nil, &reply, patience)
		replies <- reply
	}()
	receive(t, entered)
	where.addr.Store(second.addr.Load())
	down := make(chan error, 1)
	go func() { down <- first.Shutdown(t.Context()) }()
	close(leave)
	require.Equal(t, "at last", receive(t, replies))
	require.NoError(t, receive(t, down))
	receive(t, connected)
	requireReply(t, oldEnd{client.Client}, "/name", nil, "second")
}

// A handler of an old client answers a call of the connection before on the new
// one. It is nobody's answer, whatever has the same place now.
func TestStaleAnswerOfOldClient(t *testing.T) {
	outcomes := make(chan string, 4)
	first, second := serveOurs(t, setup{}), serveOurs(t, setup{})
	second.Handler.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) { outcomes <- "missed " + string(m.Data()) })
	call := func(c *arpc.Client) {
		var reply string
		c.Call("/wait", nil, &reply, patience)
		outcomes <- "got " + reply
	}
	asked := make(chan chan string, 2)
	connected := make(chan *old.Client, 10)
	var where address
	where.addr.Store(first.addr.Load())
	dialOld(t, where.dial, setup{
		routes: func(r routes) {
			r.handle("/wait", func(r request, _ end) {
				answer := make(chan string)
				asked <- answer
				r.Write(<-answer)
			})
		},
		old: func(h old.Handler) { h.HandleConnected(func(c *old.Client) { connected <- c }) },
	})

	receive(t, connected)
	go call(receive(t, first.accepted))
	stale := receive(t, asked)
	where.addr.Store(second.addr.Load())
	first.Stop()
	require.Equal(t, "got ", receive(t, outcomes))

	receive(t, connected)
	go call(receive(t, second.accepted))
	fresh := receive(t, asked)
	stale <- "stale"
	require.Equal(t, "missed stale", receive(t, outcomes))
	fresh <- "fresh"
	require.Equal(t, "got fresh", receive(t, outcomes))
}
