package arpc_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Credentials has a client authenticate with a text.
func v2Credentials(text string) arpc.Option {
	return arpc.WithCredentials(func(context.Context) ([]byte, error) { return []byte(text), nil })
}

// v2Identify lets everybody in and takes their word for who they are.
func v2Identify(_ context.Context, c *arpc.Client, credentials []byte) error {
	c.SetIdentity(string(credentials))
	return nil
}

func TestV2IdentityIsKnownToHooksAndHandlers(t *testing.T) {
	ended := make(chan any, 10)
	setup := func(s *arpc.Server, client *arpc.Handler) {
		s.Handler.HandleAuth(v2Identify)
		s.Handler.HandleConnected(func(c *arpc.Client) { c.Set("connected", c.Identity()) })
		s.Handler.HandleDisconnected(func(c *arpc.Client) { ended <- c.Identity() })
		s.Handler.Handle("/who", func(ctx *arpc.Context) { ctx.Write(ctx.Client.Identity()) })
		s.Handler.HandleStream("/who", func(st *arpc.Stream) { st.Send(st.Client().Identity()) })
		suiteWithEcho(s, client)
	}
	v2Each(t, func(t *testing.T, p *arpctest.Pair) {
		var who string
		require.NoError(t, p.Client.Call("/who", nil, &who, suitePatience))
		require.Equal(t, "alice", who)
		st, err := p.Client.OpenStream(t.Context(), "/who")
		require.NoError(t, err)
		require.NoError(t, st.Recv(&who))
		require.Equal(t, "alice", who)
		suiteAlive(t, p)
		connected, _ := p.Peer().Get("connected")
		require.Equal(t, "alice", connected)
		require.Len(t, p.Server.Clients(), 1)
		_, verified := arpc.TLSIdentityOf(p.Client.Conn())
		require.Equal(t, verified, p.Client.Identity() != nil, "the certificate of the server")
		p.Client.Stop()
		require.Equal(t, "alice", suiteNext(t, ended))
	}, arpctest.Setup(setup), arpctest.ClientOptions(v2Credentials("alice")))
}

func TestV2RefusalReachesTheDiallerWithCodeAndText(t *testing.T) {
	tests := map[string]struct {
		err  error
		code arpc.Code
		text string
	}{
		"plain":     {errors.New("who are you"), arpc.CodeUnauthenticated, "who are you"},
		"forbidden": {arpc.NewError(arpc.CodePermissionDenied, "not from here"), arpc.CodePermissionDenied, "not from here"},
		"busy":      {arpc.NewError(arpc.CodeUnavailable, "the directory is down"), arpc.CodeUnavailable, "the directory is down"},
		"wrapped":   {arpc.Errorf(arpc.CodeInvalidArgument, "no token: %w", net.ErrClosed), arpc.CodeInvalidArgument, "no token"},
		"context's": {context.DeadlineExceeded, arpc.CodeDeadlineExceeded, "deadline"},
		"OK":        {arpc.NewError(arpc.CodeOK, "an error all the same"), arpc.CodeUnauthenticated, "an error all the same"},
		"long":      {errors.New(strings.Repeat("why ", 20000)), arpc.CodeUnauthenticated, "why why"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				s.Handler.HandleAuth(func(context.Context, *arpc.Client, []byte) error { return test.err })
				s.Handler.HandleConnected(func(*arpc.Client) { t.Error("a refused peer is connected") })
				err := v2Refused(t, ln.Dial)
				require.Equal(t, test.code, arpc.CodeOf(err))
				require.ErrorContains(t, err, test.text)
				require.True(t, arpc.IsRemote(err))
				require.Less(t, len(err.Error()), 2<<10)
			})
		})
	}
}

func TestV2PeerWithoutCredentialsHasNone(t *testing.T) {
	ln := memconn.Listen()
	s := rowServe(t, ln)
	s.Handler.HandleAuth(func(_ context.Context, _ *arpc.Client, credentials []byte) error {
		if credentials != nil {
			return errors.New("there are some")
		}
		return nil
	})
	rowDial(t, ln.Dial)
}

func TestV2CredentialsAreAskedForEachConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		line := &rowLine{net: memconn.Listen()}
		s := rowServe(t, line.net)
		s.Handler.HandleAuth(v2Identify)
		s.Handler.Handle("/who", func(ctx *arpc.Context) { ctx.Write(ctx.Client.Identity()) })
		c := rowDial(t, line.Dial, arpc.WithWaitForReady(true), arpc.WithCredentials(func(context.Context) ([]byte, error) {
			asked++
			return []byte{'0' + byte(asked)}, nil
		}))
		for _, want := range []string{"1", "2", "3"} {
			var who string
			require.NoError(t, c.CallWith(t.Context(), "/who", nil, &who))
			require.Equal(t, want, who)
			line.cut()
			synctest.Wait()
		}
	})
}

func TestV2CredentialsThatFailAreAnErrorToConnect(t *testing.T) {
	errNoKey := errors.New("no key")
	tests := map[string]struct {
		fn   func(context.Context) ([]byte, error)
		code arpc.Code
		text string
	}{
		"error": {func(context.Context) ([]byte, error) { return nil, errNoKey }, arpc.CodeUnauthenticated, "credentials: no key"},
		"coded": {func(context.Context) ([]byte, error) {
			return nil, arpc.NewError(arpc.CodeUnavailable, "no tokens today")
		}, arpc.CodeUnavailable, "no tokens today"},
		"panic":  {func(context.Context) ([]byte, error) { panic("oh") }, arpc.CodeInternal, "credentials function panicked: oh"},
		"goexit": {func(context.Context) ([]byte, error) { runtime.Goexit(); return nil, nil }, arpc.CodeInternal, "ended its goroutine"},
		"long":   {func(context.Context) ([]byte, error) { return make([]byte, 32<<10+1), nil }, arpc.CodeInvalidArgument, "32769 bytes are over the limit of 32768"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := v2Dial(t, arpc.WithCredentials(test.fn))
				(<-d.peers).ends() // without a byte
				err := d.failed()
				require.Equal(t, test.code, arpc.CodeOf(err))
				require.ErrorContains(t, err, test.text)
				require.Equal(t, name == "error", errors.Is(err, errNoKey))
				require.False(t, arpc.IsRemote(err))
			})
		})
	}
}

func TestV2LongestCredentialsPass(t *testing.T) {
	long := strings.Repeat("k", 32<<10)
	p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(v2Credentials(long)), arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		s.Handler.HandleAuth(v2Identify)
		suiteWithEcho(s, client)
	}))
	suiteAlive(t, p)
	require.Equal(t, long, p.Peer().Identity())
}

func TestV2CredentialsThatBlockEndWithTheHelloTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := v2Dial(t, arpc.WithHelloTimeout(2*time.Second), arpc.WithCredentials(func(ctx context.Context) ([]byte, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}))
		(<-d.peers).ends()
		require.ErrorContains(t, d.failed(), "credentials")
		require.Equal(t, 2*time.Second, time.Since(start))
	})
}

// Neither NewClient nor Stop waits for a function that does not care for its context.
func TestV2NobodyWaitsForCredentialsThatNeverCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		release := make(chan struct{})
		defer close(release)
		ln := memconn.Listen()
		rowServe(t, ln)
		credentials := arpc.WithCredentials(func(context.Context) ([]byte, error) {
			if asked.Add(1) != 2 {
				<-release
			}
			return nil, nil
		})
		h := arpc.NewHandler(credentials, v2Slowly)
		start := time.Now()
		_, err := arpc.NewClient(ln.Dial, arpc.WithHandler(h))
		require.ErrorContains(t, err, "credentials")
		require.Equal(t, 5*time.Second, time.Since(start))

		c, err := arpc.NewClient(ln.Dial, arpc.WithHandler(h))
		require.NoError(t, err)
		rowCut(c.Conn())
		time.Sleep(3 * time.Second) // it is asked for the third time
		start = time.Now()
		c.Stop()
		require.Equal(t, start, time.Now())
		require.EqualValues(t, 3, asked.Load())
	})
}

func TestV2AuthHookThatPanicsOrExitsLetsNobodyIn(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("a secret") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				s.Handler.Handle("/echo", rowEcho)
				s.Handler.HandleAuth(func(_ context.Context, _ *arpc.Client, credentials []byte) error {
					if credentials == nil {
						end()
					}
					return nil
				})
				err := v2Refused(t, ln.Dial)
				require.NotContains(t, err.Error(), "secret")
				synctest.Wait()
				require.Empty(t, s.Clients())
				suiteRequireEcho(t, rowDial(t, ln.Dial, v2Credentials("x"))) // others are
			})
		})
	}
}

func TestV2AuthHookThatBlocksIsCutByTheHelloTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ln := memconn.Listen()
		s := rowServe(t, ln, arpc.WithHelloTimeout(2*time.Second))
		cancelled := make(chan time.Duration, 1)
		s.Handler.HandleAuth(func(ctx context.Context, _ *arpc.Client, _ []byte) error {
			<-ctx.Done()
			cancelled <- time.Since(start)
			return nil // too late
		})
		s.Handler.HandleConnected(func(*arpc.Client) { t.Error("it is too late") })
		_, err := arpc.NewClient(ln.Dial, arpc.WithHelloTimeout(time.Hour))
		require.Error(t, err)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, 2*time.Second, <-cancelled)
		synctest.Wait()
		require.Empty(t, s.Clients())
	})
}

func TestV2StopEndsTheContextOfTheAuthHookAndDoesNotWaitForIt(t *testing.T) {
	for name, stop := range map[string]func(*arpc.Server, *arpc.Client){
		"server": func(s *arpc.Server, _ *arpc.Client) { s.Stop() },
		"client": func(_ *arpc.Server, c *arpc.Client) { c.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				seen, release, cause := make(chan *arpc.Client), make(chan struct{}), make(chan error, 1)
				defer close(release)
				s.Handler.HandleAuth(func(ctx context.Context, c *arpc.Client, _ []byte) error {
					seen <- c
					<-ctx.Done()
					cause <- context.Cause(ctx)
					<-release // it takes its time all the same
					return nil
				})
				p := v2Caller(t, ln)
				p.sayHello(wire.CmdPing, wire.Hello{})
				c := <-seen
				rowSoon(t, "Stop does not wait for the hook", func() { stop(s, c) })
				require.ErrorIs(t, <-cause, arpc.ErrClosed)
				p.ends()
			})
		})
	}
}

func TestV2AuthHookMayStopTheClientAndTheServer(t *testing.T) {
	for name, stop := range map[string]func(*arpc.Server, *arpc.Client){
		"server": func(s *arpc.Server, _ *arpc.Client) { s.Stop() },
		"client": func(_ *arpc.Server, c *arpc.Client) { c.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				stopped := make(chan struct{})
				s.Handler.HandleAuth(func(_ context.Context, c *arpc.Client, _ []byte) error {
					defer close(stopped)
					stop(s, c)
					return nil
				})
				p := v2Caller(t, ln)
				p.sayHello(wire.CmdPing, wire.Hello{})
				rowNext(t, "Stop returns", stopped)
				p.ends()
			})
		})
	}
}
