package buffstreams_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

func ignore([]byte) error { return nil }

// The callback is called with one message of a connection at a time, and with those
// of several at the same time.
func TestCallbackIsSerialForEachConnection(t *testing.T) {
	const conns, messages = 8, 200
	var running [conns]atomic.Int32
	var seen [conns]int
	var met sync.WaitGroup
	met.Add(conns)
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: func(message []byte) error {
		var id, n int
		fmt.Sscan(string(message), &id, &n)
		if running[id].Add(1) != 1 || seen[id] != n {
			t.Errorf("message %d of %d", n, id)
		}
		if n == 0 {
			met.Done()
			met.Wait() // for all the others
		}
		seen[id]++
		running[id].Add(-1)
		return in.add(message)
	}})
	var all sync.WaitGroup
	for id := range conns {
		c := w.connect(t, buffstreams.ConnConfig{})
		all.Go(func() {
			for n := range messages {
				c.Send(background, fmt.Appendf(nil, "%d %d", id, n))
			}
		})
	}
	all.Wait()
	in.wait(t, conns*messages)
}

func TestHandlerAnswers(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		l := w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
			return c.Send(ctx, append([]byte("re: "), message...))
		}})
		const conns, messages = 3, 500
		var all sync.WaitGroup
		for range conns {
			c := w.connect(t, buffstreams.ConnConfig{})
			all.Go(func() {
				for i := range messages {
					c.Send(background, fmt.Append(nil, i))
				}
			})
			all.Go(func() {
				for i := range messages {
					answer, err := c.Receive(background)
					if err != nil || string(answer) != fmt.Sprint("re: ", i) {
						t.Error(i, string(answer), err)
						return
					}
				}
			})
		}
		all.Wait()
		require.Equal(t, buffstreams.ListenerStats{Accepted: conns, Conns: conns}, l.Stats())
	})
}

// A handler may keep the Conn and answer later. The context ends with it.
func TestConnOutlivesTheHandler(t *testing.T) {
	w := tcp(t)
	conns := make(chan *buffstreams.Conn, 1)
	contexts := make(chan context.Context, 1)
	w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, _ []byte) error {
		conns <- c
		contexts <- ctx
		return nil
	}})
	c := w.connect(t, buffstreams.ConnConfig{})
	sendAll(t, c, []string{"hello"})
	peer, ctx := next(t, "conn", conns), next(t, "context", contexts)
	require.Equal(t, c.LocalAddr().String(), peer.RemoteAddr().String())
	sendAll(t, peer, []string{"late"})
	answer, err := c.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "late", string(answer))
	_, err = peer.Receive(t.Context())
	require.ErrorContains(t, err, "the Listener reads this connection")
	require.NoError(t, ctx.Err())
	require.NoError(t, c.Close())
	next(t, "end of the context", ctx.Done())
	next(t, "end of the Conn", peer.Done())
	err = peer.Send(t.Context(), []byte("too late"))
	require.ErrorIs(t, err, buffstreams.ErrNotConnected)
	require.ErrorIs(t, err, io.EOF)
	require.ErrorContains(t, peer.Reopen(), "closed")
}

// An error, a panic, and the end of the goroutine: other messages and connections go
// on, those of the connection only in the last case not.
func TestCallbackThatFails(t *testing.T) {
	var log logged
	in := newInbox()
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Callback: func(message []byte) error {
			in.add(message)
			switch string(message) {
			case "error":
				return errDown
			case "panic":
				panic("on purpose")
			case "exit":
				runtime.Goexit()
			}
			return nil
		},
	})
	other := w.connect(t, buffstreams.ConnConfig{})
	c := w.connect(t, buffstreams.ConnConfig{})
	want := []string{"a", "error", "b", "panic", "c", "exit"}
	sendAll(t, c, want)
	require.Equal(t, want, in.wait(t, len(want)))
	_, err := c.Receive(t.Context())
	require.Error(t, err, "the connection is closed")
	sendAll(t, other, []string{"other"})
	require.Equal(t, append(want, "other"), in.wait(t, len(want)+1))
	require.Contains(t, log.String(), errDown.Error())
	require.Contains(t, log.String(), "on purpose")
	require.Contains(t, log.String(), "goroutine", "a stack")
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Nothing is logged unless it is asked for, and payloads never are.
func TestLogging(t *testing.T) {
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	old := slog.Default()
	defer slog.SetDefault(old)
	run := func(given, enabled bool) string {
		var log logged
		logger := slog.New(slog.NewTextHandler(&log, debug))
		slog.SetDefault(logger)
		if !given {
			logger = nil
		}
		w := memory()
		in := newInbox()
		l := w.listen(t, buffstreams.ListenerConfig{Logger: logger, EnableLogging: enabled, MaxConns: 1, Callback: func(message []byte) error {
			in.add(message)
			return errDown
		}})
		c := w.connect(t, buffstreams.ConnConfig{Logger: logger, EnableLogging: enabled})
		sendAll(t, c, []string{"the payload"})
		in.wait(t, 1)
		refused := w.connect(t, buffstreams.ConnConfig{})
		_, err := refused.Receive(t.Context())
		require.Error(t, err)
		arpctest.FaultsOf(c.NetConn()).Cut()
		_, err = c.Receive(t.Context())
		require.Error(t, err)
		require.NoError(t, l.Close())
		require.NoError(t, l.Wait())
		return log.String()
	}
	require.Empty(t, run(false, false))
	for name, text := range map[string]string{"EnableLogging": run(false, true), "Logger": run(true, false)} {
		require.Contains(t, text, "buffstreams: callback", name)
		require.Contains(t, text, "MaxConns", name)
		require.Contains(t, text, "connection lost", name)
		require.NotContains(t, text, "the payload", name)
	}
}

func TestMaxConnsRefusesConnections(t *testing.T) {
	for name, w := range map[string]wire{"memory": memory(), "tcp": tcp(t)} {
		in := newInbox()
		l := w.listen(t, buffstreams.ListenerConfig{Callback: in.add, MaxConns: 2})
		a, b := w.connect(t, buffstreams.ConnConfig{}), w.connect(t, buffstreams.ConnConfig{})
		sendAll(t, a, []string{"a"})
		sendAll(t, b, []string{"b"})
		in.wait(t, 2)
		for range 3 {
			c := w.connect(t, buffstreams.ConnConfig{})
			_, err := c.Receive(t.Context())
			require.Error(t, err, name)
		}
		require.Equal(t, buffstreams.ListenerStats{Accepted: 2, Refused: 3, Conns: 2}, l.Stats(), name)
		require.NoError(t, a.Shutdown(t.Context()))
		for n := 3; ; { // the place is free when the listener has noticed
			c := w.connect(t, buffstreams.ConnConfig{})
			if c.Send(t.Context(), []byte("c")) == nil && c.Shutdown(t.Context()) == nil && len(in.all()) == n {
				break
			}
		}
	}
}

func TestIdleTimeoutClosesConnections(t *testing.T) {
	for name, peer := range map[string]func(net.Conn){
		"one that is silent":            func(net.Conn) {},
		"one that sends a byte a time":  func(nc net.Conn) { trickle(nc, time.Second, 1000) },
		"one that stops in the middle":  func(nc net.Conn) { nc.Write([]byte{0x20, 0, 0, 1}) },
		"one that has sent one message": func(nc net.Conn) { nc.Write(frames("a")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := memory()
				w.listen(t, buffstreams.ListenerConfig{Callback: ignore, IdleTimeout: time.Minute})
				nc, err := w.dial()
				require.NoError(t, err)
				start := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { peer(nc) })
				_, err = nc.Read(make([]byte, 1))
				require.Error(t, err)
				require.GreaterOrEqual(t, time.Since(start), time.Minute)
				require.LessOrEqual(t, time.Since(start), time.Minute*9/8)
				nc.Close()
				sending.Wait()
			})
		})
	}
}

// trickle writes a byte now and then of a message that is never complete.
func trickle(nc net.Conn, pause time.Duration, n int) {
	nc.Write([]byte{0xd0, 0x3e, 0}) // 4008 bytes
	for range n {
		time.Sleep(pause)
		if _, err := nc.Write([]byte{1}); err != nil {
			return
		}
	}
}

func TestIdleTimeoutLeavesBusyConnectionsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox()
		w := memory()
		w.listen(t, buffstreams.ListenerConfig{Callback: in.add, IdleTimeout: time.Minute})
		c := w.connect(t, buffstreams.ConnConfig{})
		want := numbered("message", 300)
		for i, message := range want {
			sendAll(t, c, []string{message})
			time.Sleep(time.Duration(i%60) * time.Second)
		}
		require.Equal(t, want, in.all())
		require.NoError(t, c.Err())
	})
}
