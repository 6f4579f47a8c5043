package memconn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/memconn"
)

// connect dials and accepts.
func connect(t *testing.T, l *memconn.Listener) (client, server net.Conn) {
	t.Helper()
	client, err := l.Dial()
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	return client, server
}

func TestListener(t *testing.T) {
	l := memconn.Listen()
	client, server := connect(t, l)
	mustWrite(t, client, "ping")
	mustRead(t, server, "ping")
	mustWrite(t, server, "pong")
	mustRead(t, client, "pong")

	require.Equal(t, "mem", l.Addr().Network())
	require.Equal(t, l.Addr(), server.LocalAddr())
	require.Equal(t, l.Addr(), client.RemoteAddr())
	require.Equal(t, client.LocalAddr(), server.RemoteAddr())
	second, _ := connect(t, l)
	require.NotEqual(t, client.LocalAddr().String(), second.LocalAddr().String())
	require.NotEqual(t, l.Addr().String(), memconn.Listen().Addr().String())
}

func TestListenerAcceptsInOrder(t *testing.T) {
	l := memconn.Listen()
	var names []string
	for range 5 {
		c, err := l.Dial()
		require.NoError(t, err)
		names = append(names, c.LocalAddr().String())
	}
	for _, name := range names {
		c, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, name, c.RemoteAddr().String())
	}
}

func TestListenerOptions(t *testing.T) {
	l := memconn.Listen(memconn.WithSplit(2))
	client, server := connect(t, l)
	mustWrite(t, client, "abc")
	mustRead(t, server, "ab")
	server.(*memconn.Conn).Cut()
	_, err := read(client)()
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memconn.Listen()
		client, server := connect(t, l)
		accepting := pending(func() (int, error) {
			_, err := l.Accept()
			return 0, err
		})
		require.NoError(t, l.Close())
		require.ErrorIs(t, (<-accepting).err, net.ErrClosed)

		require.ErrorIs(t, l.Close(), net.ErrClosed)
		_, err := l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = l.Dial()
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		var opErr *net.OpError
		require.ErrorAs(t, err, &opErr)
		require.Equal(t, l.Addr(), opErr.Addr)

		mustWrite(t, client, "still here")
		mustRead(t, server, "still here")
	})
}

func TestListenerCloseCutsTheBacklog(t *testing.T) {
	l := memconn.Listen()
	client, err := l.Dial()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = read(client)()
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestDialContext(t *testing.T) {
	cases := map[string]struct {
		end  func(l *memconn.Listener, cancel func())
		want error
	}{
		"cancelled": {func(l *memconn.Listener, cancel func()) { cancel() }, context.Canceled},
		"deadline":  {func(l *memconn.Listener, cancel func()) { time.Sleep(time.Minute) }, context.DeadlineExceeded},
		"closed":    {func(l *memconn.Listener, cancel func()) { l.Close() }, syscall.ECONNREFUSED},
		"room":      {func(l *memconn.Listener, cancel func()) { l.Accept() }, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := memconn.Listen()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for range 128 {
					_, err := l.DialContext(ctx)
					require.NoError(t, err)
				}
				dialling := pending(func() (int, error) {
					_, err := l.DialContext(ctx)
					return 0, err
				})
				blocked(t, dialling)
				tc.end(l, cancel)
				err := (<-dialling).err
				require.True(t, errors.Is(err, tc.want), "%v", err)
				var netErr net.Error
				if errors.As(err, &netErr) {
					require.Equal(t, tc.want == context.DeadlineExceeded, netErr.Timeout())
				}
			})
		})
	}
}

func TestDialContextThatHasEnded(t *testing.T) {
	l := memconn.Listen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.DialContext(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// TestListenerRaces leaves no client alone: each is served, refused or cut.
func TestListenerRaces(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			l := memconn.Listen()
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for c, err := l.Dial(); err == nil; c, err = l.Dial() {
						io.Copy(io.Discard, onlyReader{c})
					}
				})
			}
			wg.Go(func() {
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					c.Close()
				}
			})
			go l.Close()
			wg.Wait()
		})
	}
}

// TestHTTP has a real user of net.Conn and net.Listener run in a bubble.
func TestHTTP(t *testing.T) {
	for name, opts := range worlds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := memconn.Listen(opts...)
				srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(w, r.Body)
				})}
				go srv.Serve(l)
				transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return l.DialContext(ctx)
				}}
				for range 3 {
					echo(t, transport)
				}
				transport.CloseIdleConnections()
				require.NoError(t, srv.Shutdown(t.Context()))
			})
		})
	}
}

func echo(t *testing.T, transport *http.Transport) {
	t.Helper()
	r, w := io.Pipe()
	go func() {
		w.Write(noise(500))
		w.Close()
	}()
	resp, err := (&http.Client{Transport: transport}).Post("http://mem/", "application/octet-stream", r)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, noise(500), got)
}
