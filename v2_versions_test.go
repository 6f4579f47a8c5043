package arpc_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

func TestV2VersionsThatBothEndsSpeak(t *testing.T) {
	one, both, two := arpc.WithVersions(1, 1), arpc.WithVersions(1, 2), arpc.WithVersions(2, 2)
	tests := map[string]struct {
		client, server arpc.Option
		want           int
	}{
		"1 and 1":   {one, one, 1},
		"1 and 1-2": {one, both, 1},
		"1-2 and 1": {both, one, 1},
		"both":      {both, both, 2},
		"1-2 and 2": {both, two, 2},
		"2 and 1-2": {two, both, 2},
		"2 and 2":   {two, two, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v2Each(t, func(t *testing.T, p *arpctest.Pair) {
				suiteAlive(t, p)
				require.Equal(t, test.want, p.Client.Peer().Version)
				require.Equal(t, test.want, p.Peer().Peer().Version)
				require.Equal(t, test.want == 1, p.Peer().Session() == "")
			}, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(test.client), arpctest.ServerOptions(test.server))
		})
	}
}

func TestV2ClientThatAsksForVersion2RefusesAnOldServer(t *testing.T) {
	ln := memconn.Listen()
	rowServe(t, ln, arpc.WithVersions(1, 1))
	err := v2Refused(t, ln.Dial, arpc.WithVersions(2, 2))
	require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err))
	require.False(t, arpc.IsRemote(err))
	require.ErrorContains(t, err, "WithVersions")
}

func TestV2ServerThatAsksForVersion2AnswersAnOldClientWithTheReason(t *testing.T) {
	ln := memconn.Listen()
	s := rowServe(t, ln, arpc.WithVersions(2, 2))
	s.Handler.Handle("/echo", rowEcho)
	c := rowDial(t, ln.Dial, arpc.WithVersions(1, 1), suiteNoReconnect)
	err := c.Call("/echo", "x", nil, rowPatience)
	suiteRemote(t, err, "version 2 of the wire is required (WithVersions)")
	<-c.Done()
}

// An old client that says nothing is not kept for ever.
func TestV2ServerThatAsksForVersion2CutsASilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ln := memconn.Listen()
		s := rowServe(t, ln, arpc.WithVersions(2, 2), arpc.WithHelloTimeout(3*time.Second))
		causes := make(chan error, 1)
		s.Handler.HandleDisconnected(func(c *arpc.Client) { causes <- c.Err() })
		v2Caller(t, ln).ends()
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Empty(t, causes, "it was never connected")
	})
}

func TestV2RecordsOfLaterVersionsAreUnderstood(t *testing.T) {
	record := func(withLineEnd bool) string {
		b := (&wire.Hello{Features: v2Features | 1<<40, Name: "from the future"}).Append(nil, withLineEnd)
		b[4] = 7
		b = append(b, 99, 3, 'a', 'b', 'c')
		return string(append(b, 0x80, 0x80, 0x01, 0)) // a tag of three bytes, empty
	}
	t.Run("answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := v2Dial(t)
			p := <-d.peers
			p.hello(wire.CmdPing)
			p.write(wire.Header{Cmd: wire.CmdPong}, "", record(false))
			require.Equal(t, arpc.PeerInfo{Version: 2, Name: "from the future"}, d.connected().Peer())
		})
	})
	t.Run("hello", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ln := memconn.Listen()
			s := rowServe(t, ln)
			p := v2Caller(t, ln)
			p.write(wire.Header{Cmd: wire.CmdPing}, "", record(true))
			require.Zero(t, p.hello(wire.CmdPong).Code)
			require.Equal(t, arpc.PeerInfo{Version: 2, Name: "from the future"}, rowClient(t, s).Peer())
		})
	})
}

// What is no hello of version 2 or later is a ping or a pong of version 1.
func TestV2OtherPingBodiesMeanVersion1(t *testing.T) {
	for name, body := range map[string]string{"empty": "", "text": "hello", "version 1": "ARPC\x01", "no version": "ARPC"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := v2Dial(t)
				p := <-d.peers
				p.hello(wire.CmdPing)
				p.write(wire.Header{Cmd: wire.CmdPong}, "", body)
				require.Equal(t, arpc.PeerInfo{Version: 1}, d.connected().Peer())

				ln := memconn.Listen()
				s := rowServe(t, ln)
				p = v2Caller(t, ln)
				p.write(wire.Header{Cmd: wire.CmdPing}, "", body)
				require.Equal(t, rowFrame{Header: wire.Header{Cmd: wire.CmdPong}}, p.next())
				require.Equal(t, arpc.PeerInfo{Version: 1}, rowClient(t, s).Peer())
			})
		})
	}
}

// A hello counts as the first frame alone: later ones are pings.
func TestV2SecondHelloIsAPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		p := v2Caller(t, ln)
		p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features, Name: "first"})
		p.hello(wire.CmdPong)
		p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features, Name: "second"})
		require.Equal(t, rowFrame{Header: wire.Header{Cmd: wire.CmdPong}}, p.next())
		require.Equal(t, "first", rowClient(t, s).Peer().Name)

		old := v2Caller(t, ln)
		old.write(wire.Header{Cmd: wire.CmdRequest, Seq: 1}, "/none", "")
		require.Equal(t, "method not found", old.next().payload)
		old.sayHello(wire.CmdPing, wire.Hello{Features: v2Features})
		require.Equal(t, rowFrame{Header: wire.Header{Cmd: wire.CmdPong}}, old.next())
	})
}

// The limit for messages is not one for the hello.
func TestV2SmallBodyLimitLetsTheHelloPass(t *testing.T) {
	small := arpc.WithMaxBodyLen(16)
	for name, option := range map[string]arpctest.Option{"client's": arpctest.ClientOptions(small), "server's": arpctest.ServerOptions(small)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := arpctest.New(t, arpctest.Memory(), option, arpctest.Setup(suiteWithEcho))
				var reply string
				require.NoError(t, p.Client.Call("/echo", "0123456789", &reply, time.Minute))
				require.NoError(t, p.Peer().Call("/echo", "0123456789", &reply, time.Minute))
				require.Equal(t, 2, p.Client.Peer().Version)
			})
		})
	}
}

func TestV2VersionsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, versions := range [][2]int{{0, 1}, {0, 0}, {2, 1}, {1, 3}, {3, 3}, {-1, 2}} {
		_, err := arpc.NewClient(memconn.Listen().Dial, arpc.WithVersions(versions[0], versions[1]))
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
		require.ErrorContains(t, err, "WithVersions")
	}
}
