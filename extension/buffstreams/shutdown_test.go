package buffstreams_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

func TestStartErrorsAreReal(t *testing.T) {
	taken := tcp(t).ln
	defer taken.Close()
	_, err := buffstreams.ListenTCP(buffstreams.TCPListenerConfig{Address: taken.Addr().String(), Callback: ignore})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	_, err = buffstreams.ListenTCP(buffstreams.TCPListenerConfig{Address: "nonsense"})
	require.Error(t, err)

	for name, cfg := range map[string]buffstreams.ListenerConfig{
		"no callback": {},
		"two":         {Callback: ignore, Handler: func(context.Context, *buffstreams.Conn, []byte) error { return nil }},
	} {
		l, err := buffstreams.NewListener(arpctest.ListenMemory(), cfg)
		require.NoError(t, err)
		require.ErrorContains(t, l.StartListening(), "either a Callback or a Handler", name)
		require.ErrorContains(t, l.StartListeningAsync(), "either a Callback or a Handler", name)
		require.NoError(t, l.Close())
	}

	l, err := buffstreams.NewListener(arpctest.ListenMemory(), buffstreams.ListenerConfig{Callback: ignore})
	require.NoError(t, err)
	require.NoError(t, l.StartListeningAsync())
	require.ErrorContains(t, l.StartListeningAsync(), "started before")
	require.ErrorContains(t, l.StartListening(), "started before")
	require.NoError(t, l.Close())
	require.NoError(t, l.Wait())

	l, err = buffstreams.NewListener(arpctest.ListenMemory(), buffstreams.ListenerConfig{Callback: ignore})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.StartListeningAsync(), buffstreams.ErrClosed)
	require.ErrorIs(t, l.StartListening(), buffstreams.ErrClosed)
	require.ErrorIs(t, l.Wait(), buffstreams.ErrClosed)
}

func TestServeEndsWithItsContext(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{Callback: ignore})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- l.Serve(ctx) }()
		c := w.connect(t, buffstreams.ConnConfig{})
		sendAll(t, c, []string{"a"})
		cancel()
		require.ErrorIs(t, next(t, "Serve", served), context.Canceled)
		require.ErrorIs(t, l.Wait(), context.Canceled)
		_, err = c.Receive(t.Context())
		require.Error(t, err)
	})
}

// Serve returns after the last callback, Close does not wait for it.
func TestServeReturnsAfterTheLastCallback(t *testing.T) {
	w := tcp(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var left atomic.Bool
	l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{Handler: func(ctx context.Context, _ *buffstreams.Conn, _ []byte) error {
		close(entered)
		<-ctx.Done() // Close ends it
		<-release
		left.Store(true)
		return nil
	}})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- l.StartListening() }()
	sendAll(t, w.connect(t, buffstreams.ConnConfig{}), []string{"a"})
	next(t, "callback", entered)
	require.NoError(t, l.Close())
	require.False(t, left.Load())
	close(release)
	require.NoError(t, next(t, "Serve", served))
	require.True(t, left.Load())
}

func TestCloseMayBeCalledInCallbacks(t *testing.T) {
	w := tcp(t)
	closed := make(chan error, 1)
	var l *buffstreams.Listener
	l, err := buffstreams.NewListener(w.ln, buffstreams.ListenerConfig{Handler: func(_ context.Context, c *buffstreams.Conn, _ []byte) error {
		err := c.Close()
		closed <- errors.Join(err, l.Close())
		return nil
	}})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- l.StartListening() }()
	sendAll(t, w.connect(t, buffstreams.ConnConfig{}), []string{"a"})
	require.NoError(t, next(t, "Close", closed))
	require.NoError(t, next(t, "Serve", served))
}

// Messages behind the one whose callback closes the connection are not handled.
func TestCloseInACallbackIsTheEnd(t *testing.T) {
	in := newInbox()
	w := memory()
	w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
		in.add(message)
		return errors.Join(c.Send(ctx, []byte("go away")), c.Close())
	}})
	nc, err := w.dial()
	require.NoError(t, err)
	_, err = nc.Write(frames("a", "b", "c"))
	require.NoError(t, err)
	require.Equal(t, []string{"go away"}, receiveAll(t, nc))
	require.Equal(t, []string{"a"}, in.all())
}

// A restart under load: with Shutdown at the server a Conn that only sends loses
// nothing, and sends nothing twice.
func TestRestartLosesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sockets cannot be looked at there without reading them")
	}
	in := newInbox()
	server := newRestarted(t, in)
	c, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{
		Address: server.address,
		Retry:   buffstreams.Retry{Attempts: buffstreams.Forever, Base: time.Millisecond, Max: 10 * time.Millisecond},
	})
	require.NoError(t, err)
	closeLater(t, c)
	failed := newInbox()
	stop := keepSending(c, failed)
	for range 5 {
		in.wait(t, len(in.all())+1000)
		require.NoError(t, server.l.Shutdown(t.Context()))
		require.NoError(t, server.l.Wait())
		server.start(t)
	}
	in.wait(t, len(in.all())+1000)
	total := stop()
	require.NoError(t, c.Shutdown(t.Context()))
	require.NoError(t, server.l.Shutdown(t.Context()))
	require.NoError(t, server.l.Wait())

	require.Empty(t, failed.all())
	require.Len(t, in.all(), total)
	requireOrder(t, in.all())
}

// Questions that have arrived are answered, and their answers arrive.
func TestShutdownAnswersWhatHasArrived(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		entered, release := make(chan struct{}), make(chan struct{})
		l := w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
			if string(message) == "message 0" {
				close(entered)
				<-release
			}
			return c.Send(ctx, message)
		}})
		c := w.connect(t, buffstreams.ConnConfig{})
		want := numbered("message", 500)
		sendAll(t, c, want)
		require.NoError(t, c.Flush(t.Context()))
		next(t, "callback", entered)
		ended := make(chan error, 1)
		go func() { ended <- l.Shutdown(background) }()
		close(release)
		var got []string
		for message, err := range c.Messages(t.Context()) {
			require.NoError(t, err)
			got = append(got, string(message))
		}
		require.Equal(t, want, got)
		require.NoError(t, next(t, "Shutdown", ended))
		require.NoError(t, l.Wait())
	})
}

// A peer that never stops sending and never closes holds a Shutdown up until its
// context ends.
func TestListenerShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := memory()
		l := w.listen(t, buffstreams.ListenerConfig{Callback: ignore})
		nc, err := w.dial()
		require.NoError(t, err)
		var peer sync.WaitGroup
		peer.Go(func() {
			for err := error(nil); err == nil; time.Sleep(100 * time.Millisecond) {
				_, err = nc.Write(frames("a"))
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, l.Shutdown(ctx), context.DeadlineExceeded)
		require.NoError(t, l.Wait())
		peer.Wait()
		nc.Close()
	})
}

// Idle connections hold a Shutdown up for a moment only.
func TestShutdownClosesIdleConnections(t *testing.T) {
	for name, cfg := range map[string]buffstreams.ListenerConfig{
		"Callback": {Callback: ignore},
		"Handler":  {Handler: func(context.Context, *buffstreams.Conn, []byte) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := memory()
				l := w.listen(t, cfg)
				for range 20 {
					nc, err := w.dial()
					require.NoError(t, err)
					defer nc.Close()
				}
				synctest.Wait()
				start := time.Now()
				require.NoError(t, l.Shutdown(t.Context()))
				require.LessOrEqual(t, time.Since(start), 400*time.Millisecond)
				require.NoError(t, l.Wait())
			})
		})
	}
}
