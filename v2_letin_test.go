package arpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Guarded returns a server that lets in who has credentials, and the log of what
// it handles.
func v2Guarded(t *testing.T, opts ...arpc.Option) (*memconn.Listener, *arpc.Server, *v2Log) {
	t.Helper()
	ln, log := memconn.Listen(), new(v2Log)
	s := rowServe(t, ln, opts...)
	s.Handler.HandleAuth(func(ctx context.Context, c *arpc.Client, credentials []byte) error {
		log.add("auth")
		if credentials == nil {
			return errors.New("no credentials")
		}
		return v2Identify(ctx, c, credentials)
	})
	s.Handler.HandleConnected(func(*arpc.Client) { log.add("connected") })
	s.Handler.HandleDisconnected(func(*arpc.Client) { log.add("disconnected") })
	s.Handler.HandleMessageDropped(func(*arpc.Client, *arpc.Message) { log.add("dropped") })
	s.Handler.HandleNotFound(func(*arpc.Context) { log.add("not found") })
	s.Handler.Handle("/do", func(ctx *arpc.Context) {
		log.add("handled " + string(ctx.Body()))
		ctx.Write("done")
	})
	s.Handler.HandleStream("/do", func(*arpc.Stream) { log.add("stream") })
	return ln, s, log
}

func TestV2TLSHandshakeThatNeverEndsIsCutInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ln := memconn.Listen()
		s := arpc.NewServer(arpc.WithVersions(2, 2))
		rowGoServe(t, s, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{{}}}))
		v2Caller(t, ln).ends()
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestV2PeerThatNeverSaysHelloIsCutInTime(t *testing.T) {
	peers := map[string]func(p *v2Peer){
		"silent": func(*v2Peer) {},
		"slow": func(p *v2Peer) {
			frame := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", make([]byte, 1000))
			for i := range frame {
				if _, err := p.nc.Write(frame[i : i+1]); err != nil {
					return
				}
				time.Sleep(time.Second / 10)
			}
		},
	}
	for name, act := range peers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ln, _, log := v2Guarded(t)
				p := v2Caller(t, ln)
				var acting sync.WaitGroup
				acting.Go(func() { act(p) })
				defer acting.Wait()
				p.ends()
				require.Equal(t, 5*time.Second, time.Since(start))
				synctest.Wait()
				require.Empty(t, log.all())
			})
		})
	}
}

// One of version 1 cannot authenticate. It is told if it asks for something.
func TestV2OldPeerIsRefusedWhereAuthenticationIsDemanded(t *testing.T) {
	frames := map[string]wire.Header{
		"request":       {Cmd: wire.CmdRequest, Seq: 7},
		"async request": {Cmd: wire.CmdRequest, Flag: wire.FlagAsync, Seq: 7},
		"notification":  {Cmd: wire.CmdNotify},
		"stream":        {Cmd: wire.CmdStream | wire.StreamOpener, Seq: 1},
		"response":      {Cmd: wire.CmdResponse, Seq: 7},
	}
	for name, h := range frames {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, s, log := v2Guarded(t)
				p := v2Caller(t, ln)
				two := wire.AppendFrame(wire.AppendFrame(nil, h, "/do", "x"), h, "/do", "again")
				_, err := p.nc.Write(two)
				require.NoError(t, err)
				if h.Cmd == wire.CmdRequest {
					f := p.next()
					require.Equal(t, wire.Header{BodyLen: f.BodyLen, Cmd: wire.CmdResponse, Flag: h.Flag | wire.FlagError, MethodLen: 3, Seq: 7}, f.Header)
					require.Contains(t, f.payload, "authentication is required, which version 1 of the wire cannot do")
				}
				p.ends()
				synctest.Wait()
				require.Empty(t, log.all())
				require.Empty(t, s.Clients())
			})
		})
	}
}

func TestV2OldPeerPingIsRefusedWhereAuthenticationIsDemanded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, _, log := v2Guarded(t)
		p := v2Caller(t, ln)
		p.write(wire.Header{Cmd: wire.CmdPing}, "", "")
		p.ends()
		require.Empty(t, log.all())
	})
}

func TestV2OldPeerIsServedIfVersionsLetItIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, s, log := v2Guarded(t, arpc.WithVersions(1, 2))
		p := v2Caller(t, ln)
		p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 7}, "/do", "x")
		require.Equal(t, "done", p.next().payload)
		require.Equal(t, []string{"connected", "handled x"}, log.all())
		require.Nil(t, rowClient(t, s).Identity())

		_, err := arpc.NewClient(ln.Dial) // one of version 2 has to authenticate
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(err))
	})
}

func TestV2FramesBehindARefusedHelloAreNotHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, s, log := v2Guarded(t)
		p := v2Caller(t, ln)
		hello := wire.Hello{Features: v2Features}
		batch := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", hello.Append(nil, true))
		for cmd := range byte(12) {
			batch = wire.AppendFrame(batch, wire.Header{Cmd: cmd, Seq: 1}, "/do", "x")
			batch = wire.AppendFrame(batch, wire.Header{Cmd: cmd | wire.StreamOpener, Seq: 2, Flag: wire.FlagOpen}, "/do", "")
		}
		_, err := p.nc.Write(batch)
		require.NoError(t, err)
		answer := p.hello(wire.CmdPong)
		require.Equal(t, arpc.CodeUnauthenticated, arpc.Code(answer.Code))
		require.Equal(t, "no credentials", answer.Message)
		p.ends()
		synctest.Wait()
		require.Equal(t, []string{"auth"}, log.all())
		require.Empty(t, s.Clients())
	})
}

func TestV2FramesBehindTheHelloWaitUntilThePeerIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, _, log := v2Guarded(t)
		p := v2Caller(t, ln)
		hello := wire.Hello{Features: v2Features, Credentials: []byte("alice")}
		batch := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", hello.Append(nil, true))
		for _, body := range []string{"1", "2", "3"} {
			batch = wire.AppendFrame(batch, wire.Header{Cmd: wire.CmdNotify}, "/do", body)
		}
		batch = wire.AppendFrame(batch, wire.Header{Cmd: wire.CmdRequest, Seq: 9}, "/do", "4")
		_, err := p.nc.Write(batch)
		require.NoError(t, err)
		require.Zero(t, p.hello(wire.CmdPong).Code)
		require.Equal(t, "done", p.next().payload)
		require.Equal(t, []string{"auth", "connected", "handled 1", "handled 2", "handled 3", "handled 4"}, log.all())
	})
}

func TestV2NothingIsSentToAPeerThatIsNotLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		seen, decision := make(chan *arpc.Client), make(chan error)
		s.Handler.HandleAuth(func(_ context.Context, c *arpc.Client, _ []byte) error {
			seen <- c
			return <-decision
		})
		p := v2Caller(t, ln)
		synctest.Wait()
		require.Empty(t, s.Clients())
		require.NoError(t, s.Broadcast("/news", "before the hello"))
		p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features})
		c := <-seen
		require.Empty(t, s.Clients())
		require.NoError(t, s.Broadcast("/news", "before the decision"))
		v2RequireLocked(t, c)
		decision <- errors.New("no")
		require.Equal(t, arpc.CodeUnauthenticated, arpc.Code(p.hello(wire.CmdPong).Code))
		p.ends()
	})
}

// v2RequireLocked requires that nothing can be sent to the client.
func v2RequireLocked(t *testing.T, c *arpc.Client) {
	t.Helper()
	suiteUnsent(t, c.Call("/x", nil, nil, time.Second), arpc.CodeFailedPrecondition)
	suiteUnsent(t, c.CallWith(t.Context(), "/x", nil, nil), arpc.CodeFailedPrecondition)
	suiteUnsent(t, c.CallAsync("/x", nil, func(*arpc.Context) { t.Error("a callback") }, time.Second), arpc.CodeFailedPrecondition)
	suiteUnsent(t, c.Notify("/x", nil, arpc.TimeZero), arpc.CodeFailedPrecondition)
	suiteUnsent(t, c.NotifyWith(t.Context(), "/x", nil), arpc.CodeFailedPrecondition)
	suiteUnsent(t, c.PushMsg(c.NewMessage(arpc.CmdNotify, "/x", "x"), arpc.TimeZero), arpc.CodeFailedPrecondition)
	if st, err := c.OpenStream(t.Context(), "/x"); err == nil {
		suiteUnsent(t, st.Send("x"), arpc.CodeFailedPrecondition)
		require.NoError(t, st.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := c.Ping(ctx)
	require.Error(t, err)
}

// Before its hello a peer may not make the server take in much.
func TestV2LargeFrameBeforeTheHelloIsNotTakenIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, _, log := v2Guarded(t)
		p := v2Caller(t, ln)
		var flood sync.WaitGroup
		flood.Go(func() {
			frame := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdNotify}, "/do", make([]byte, 1<<20))
			for range 64 {
				if _, err := p.nc.Write(frame); err != nil {
					return
				}
			}
		})
		defer flood.Wait()
		start := time.Now()
		p.ends()
		require.Less(t, time.Since(start), 5*time.Second)
		synctest.Wait()
		require.Empty(t, log.all())
	})
}
