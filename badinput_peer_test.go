package arpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

const badWait = 5 * time.Second

// badWant is what an error must be and say.
type badWant struct {
	code   arpc.Code
	texts  []string
	remote bool // the peer said it
	safe   bool // safe to send again
	is     error
}

func (w badWant) check(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	var e *arpc.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, w.code.String(), arpc.CodeOf(err).String(), "%v", err)
	for _, text := range w.texts {
		require.ErrorContains(t, err, text)
	}
	require.Equal(t, w.remote, arpc.IsRemote(err), "remote: %v", err)
	require.Equal(t, w.safe, arpc.SafeToRetry(err), "safe to retry: %v", err)
	if w.is != nil {
		require.ErrorIs(t, err, w.is)
	}
}

func badServe(t *testing.T, opts ...arpc.Option) (*arpc.Server, string) {
	ln := badListen(t)
	s := arpc.NewServer(opts...)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return s, ln.Addr().String()
}

func badListen(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func badDialer(addr string) arpc.DialerFunc {
	return func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

func badDial(t *testing.T, addr string, opts ...arpc.Option) *arpc.Client {
	c, err := arpc.NewClient(badDialer(addr), opts...)
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c
}

func badTake[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(badWait):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// badScript accepts connections and runs peer on each.
func badScript(t *testing.T, peer func(net.Conn)) string {
	ln := badListen(t)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { nc.Close() })
			go peer(nc)
		}
	}()
	return ln.Addr().String()
}

func TestBadInputDialer(t *testing.T) {
	free := badListen(t)
	free.Close()
	offline := net.Dialer{Resolver: &net.Resolver{
		PreferGo: true,
		Dial:     func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no name server") },
	}}
	dial := func(addr string) arpc.DialerFunc {
		return func() (net.Conn, error) { return offline.Dial("tcp", addr) }
	}
	for name, c := range map[string]struct {
		dialer arpc.DialerFunc
		want   badWant
	}{
		"nil": {nil, badWant{code: arpc.CodeInvalidArgument, texts: []string{"NewClient", "dialer is nil"}}},
		"no connection": {
			func() (net.Conn, error) { return nil, nil },
			badWant{code: arpc.CodeUnavailable, safe: true, texts: []string{"dial", "returned no connection"}},
		},
		"panics": {
			func() (net.Conn, error) { panic("no configuration") },
			badWant{code: arpc.CodeInternal, texts: []string{"dialer panicked", "no configuration"}},
		},
		"fails": {
			func() (net.Conn, error) { return nil, io.ErrNoProgress },
			badWant{code: arpc.CodeUnavailable, safe: true, is: io.ErrNoProgress, texts: []string{"arpc: dial: "}},
		},
		"nobody listens": {
			dial(free.Addr().String()),
			badWant{code: arpc.CodeUnavailable, safe: true, texts: []string{free.Addr().String(), "refused"}},
		},
		"no such host": {
			dial("256.0.0.1:1"),
			badWant{code: arpc.CodeUnavailable, safe: true, texts: []string{"dial", "256.0.0.1"}},
		},
		"no port": {
			dial("127.0.0.1"),
			badWant{code: arpc.CodeUnavailable, safe: true, texts: []string{"missing port"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := arpc.NewClient(c.dialer)
			c.want.check(t, err)
			_, err = arpc.NewClientPool(c.dialer, 2)
			c.want.check(t, err)
		})
	}
}

func TestBadInputRun(t *testing.T) {
	used := badListen(t).Addr().String()
	for name, c := range map[string]struct{ addr, text string }{
		"in use":     {used, "in use"},
		"no port":    {"127.0.0.1", "missing port"},
		"odd port":   {"127.0.0.1:no-such-service", "no-such-service"},
		"large port": {"127.0.0.1:70000", "70000"},
		"not ours":   {"192.0.2.1:0", "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := arpc.NewServer()
			err := s.Run(c.addr)
			badWant{code: arpc.CodeUnavailable, texts: []string{"listen", c.text}}.check(t, err)
			s.Stop()
		})
	}
}

// badVersions runs test with the option for a client that speaks each version of
// the wire.
func badVersions(t *testing.T, test func(t *testing.T, version int, opt arpc.Option)) {
	for version, opt := range map[int]arpc.Option{1: arpc.WithVersions(1, 1), 2: arpc.WithVersions(1, 2)} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) { test(t, version, opt) })
	}
}

// badTold is the code that a peer is told, which in version 1 it is not.
func badTold(version int, code arpc.Code) arpc.Code {
	if version == 1 {
		return arpc.CodeUnknown
	}
	return code
}

// badPeers are servers that a client may find on a port that is not the one it
// was meant to dial.
var badPeers = map[string]struct {
	addr  func(t *testing.T) string
	texts []string
	is    error
}{
	"http": {
		addr:  func(t *testing.T) string { return badHTTP(t, (*httptest.Server).Start) },
		texts: []string{"does not speak arpc", "HTTP/1.1 400"},
	},
	"https": {
		addr: func(t *testing.T) string { return badHTTP(t, (*httptest.Server).StartTLS) },
	},
	"tls alert": {
		addr:  func(t *testing.T) string { return badAnswer(t, "\x15\x03\x01\x00\x02\x02\x46") },
		texts: []string{"does not speak arpc", `\x15\x03\x01`},
	},
	"line protocol": {
		addr:  func(t *testing.T) string { return badAnswer(t, "500 what?\r\n") },
		texts: []string{"does not speak arpc", "500 what?"},
	},
	"unknown command": {
		addr:  func(t *testing.T) string { return badAnswer(t, "\x00\x00\x00\x00\x00\x3f\x00\x00........") },
		texts: []string{"does not speak arpc", "..."},
	},
	"closes": {
		addr:  func(t *testing.T) string { return badAnswer(t, "") },
		texts: []string{"closed the connection"},
		is:    arpc.ErrPeerClosed,
	},
}

func badHTTP(t *testing.T, start func(*httptest.Server)) string {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(s)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// badAnswer reads the first frame, answers with text and closes.
func badAnswer(t *testing.T, text string) string {
	return badScript(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1<<10))
		io.WriteString(nc, text)
		nc.Close()
	})
}

// With version 2 NewClient finds out. With version 1 the first call does, of which
// something was sent then.
func TestBadInputWrongPort(t *testing.T) {
	for name, peer := range badPeers {
		t.Run(name, func(t *testing.T) {
			addr := peer.addr(t)
			_, err := arpc.NewClient(badDialer(addr))
			badWant{code: arpc.CodeUnavailable, safe: true, is: peer.is, texts: append(peer.texts, "arpc: connect: ")}.check(t, err)

			version1 := arpc.WithVersions(1, 1)
			want := badWant{code: arpc.CodeUnavailable, is: peer.is, texts: append(peer.texts, "connection lost")}
			want.check(t, badDial(t, addr, version1).Call("/m", "a line\n", nil, badWait))
			outcome := make(chan error, 1)
			require.NoError(t, badDial(t, addr, version1).CallAsync("/m", "a line\n", func(ctx *arpc.Context) { outcome <- ctx.Bind(nil) }, badWait))
			want.check(t, badTake(t, outcome))
		})
	}
}

func TestBadInputSilentPort(t *testing.T) {
	const wait = 20 * time.Millisecond
	addr := badScript(t, func(net.Conn) {})
	_, err := arpc.NewClient(badDialer(addr), arpc.WithHelloTimeout(wait))
	badWant{code: arpc.CodeUnavailable, safe: true, texts: []string{"did not answer the hello in 20ms", "WithHelloTimeout"}}.check(t, err)

	want := badWant{code: arpc.CodeDeadlineExceeded, is: context.DeadlineExceeded, texts: []string{"deadline"}}
	c := badDial(t, addr, arpc.WithVersions(1, 1))
	want.check(t, c.Call("/m", "a line\n", nil, wait))
	outcome := make(chan error, 1)
	require.NoError(t, c.CallAsync("/m", "a line\n", func(ctx *arpc.Context) { outcome <- ctx.Bind(nil) }, wait))
	want.check(t, badTake(t, outcome))
}

// Who calls when the banner of another protocol has been read already is told
// of it too.
func TestBadInputBanner(t *testing.T) {
	const banner = "SSH-2.0-OpenSSH_9.9\r\n"
	addr := badScript(t, func(nc net.Conn) { io.WriteString(nc, banner) })
	badVersions(t, func(t *testing.T, version int, opt arpc.Option) {
		c, err := arpc.NewClient(badDialer(addr), opt, arpc.WithReconnect(time.Hour, time.Hour, 1))
		if err == nil {
			defer c.Stop()
			require.Equal(t, 1, version)
			require.Eventually(t, func() bool { return c.State() != arpc.StateConnected }, badWait, time.Millisecond)
			err = c.Call("/m", nil, nil, badWait)
		}
		badWant{code: arpc.CodeUnavailable, safe: true, texts: []string{"does not speak arpc", "SSH-2.0-OpenSSH"}}.check(t, err)
	})
}

// A client whose server makes room for something else gives up some time.
func TestBadInputWrongPortGivesUp(t *testing.T) {
	pong := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", "")
	for name, banner := range map[string]string{
		"closes":          "",
		"banner":          "SSH-2.0-OpenSSH_9.9\r\n",
		"unknown command": strings.Repeat("\x00\x00\x00\x00\x00\x3f\x00\x00........", 3),
	} {
		t.Run(name, func(t *testing.T) {
			badVersions(t, func(t *testing.T, version int, opt arpc.Option) {
				var first atomic.Bool
				addr := badScript(t, func(nc net.Conn) {
					if first.CompareAndSwap(false, true) {
						nc.Write(pong)
					} else {
						io.WriteString(nc, banner)
					}
					nc.Close()
				})
				c, err := arpc.NewClient(badDialer(addr), opt, arpc.WithReconnect(time.Millisecond, time.Millisecond, 3))
				if err != nil {
					return // it was closed faster than the hooks
				}
				defer c.Stop()
				badTake(t, c.Done())
				require.ErrorContains(t, c.Err(), "WithReconnect")
				badWant{code: arpc.CodeUnavailable, safe: true, is: arpc.ErrClosed, texts: []string{"gave up after 3"}}.check(t, c.Call("/m", nil, nil, badWait))
			})
		})
	}
}

// What others send to a server of ours ends their connection with a cause that
// shows it.
func TestBadInputWrongPortServer(t *testing.T) {
	for name, c := range map[string]struct {
		come  func(addr string) error
		texts []string
	}{
		"http client": {
			func(addr string) error {
				_, err := http.Get("http://" + addr + "/index.html")
				return err
			},
			[]string{"does not speak arpc", "GET /index.html"},
		},
		"tls client": {
			func(addr string) error {
				_, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
				return err
			},
			[]string{"does not speak arpc", `\x16\x03`},
		},
		"text": {
			func(addr string) error {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					return err
				}
				defer nc.Close()
				io.WriteString(nc, "EHLO mail.example.org\r\n")
				_, err = nc.Read(make([]byte, 1))
				return err
			},
			[]string{"does not speak arpc", "EHLO mail"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			causes := make(chan error, 2)
			s, addr := badServe(t, arpc.WithReadTimeout(50*time.Millisecond))
			s.Handler.HandleDisconnected(func(c *arpc.Client) { causes <- c.Err() })
			require.Error(t, c.come(addr))
			badWant{code: arpc.CodeUnavailable, texts: c.texts}.check(t, badTake(t, causes))
		})
	}
}

// A connection that cannot be read from does not begin: no hook is told of it, and
// the log has the cause.
func TestBadInputReaderWrapper(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) io.Reader{
		"returned nil": func(net.Conn) io.Reader { return nil },
		"panicked":     func(net.Conn) io.Reader { panic("no room") },
	} {
		t.Run(name, func(t *testing.T) {
			causes := make(badLog, 10)
			s, addr := badServe(t, arpc.WithLogger(slog.New(causes)))
			s.Handler.SetReaderWrapper(wrap)
			s.Handler.HandleConnected(func(*arpc.Client) { panic("connected") })
			s.Handler.HandleDisconnected(func(*arpc.Client) { panic("disconnected") })
			nc, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer nc.Close()
			want := badWant{code: arpc.CodeInternal, texts: []string{"reader wrapper", name}}
			want.check(t, badTake(t, causes))

			s, addr = badServe(t)
			h := arpc.NewHandler()
			h.SetReaderWrapper(wrap)
			_, err = arpc.NewClient(badDialer(addr), arpc.WithHandler(h))
			want.safe = true
			want.check(t, err)
			badServed(t, s, badDial(t, addr))
		})
	}
}

// badLog gets the causes that are logged with the ends of connections.
type badLog chan error

func (l badLog) Enabled(context.Context, slog.Level) bool { return true }
func (l badLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l badLog) WithGroup(string) slog.Handler            { return l }

func (l badLog) Handle(_ context.Context, record slog.Record) error {
	if record.Message != "arpc: connection ended" {
		return nil
	}
	record.Attrs(func(a slog.Attr) bool {
		if cause, ok := a.Value.Any().(error); ok {
			l <- cause
		}
		return true
	})
	return nil
}

// badServed requires that c gets an answer.
func badServed(t *testing.T, s *arpc.Server, c *arpc.Client) {
	t.Helper()
	method := fmt.Sprintf("/served/%p", t)
	s.Handler.Handle(method, func(ctx *arpc.Context) { ctx.Write("served") })
	rsp := ""
	require.NoError(t, c.Call(method, nil, &rsp, badWait))
	require.Equal(t, "served", rsp)
}
