package arpc_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

func TestV2HelloTellsEachEndOfTheOther(t *testing.T) {
	limits := func(name string, n int) []arpc.Option {
		return []arpc.Option{
			arpc.WithPeerName(name), arpc.WithCompat("shop/3"),
			arpc.WithMaxBodyLen(1000 + n), arpc.WithMaxInflight(100 + n), arpc.WithMaxStreams(10 + n),
		}
	}
	want := func(name string, n int) arpc.PeerInfo {
		return arpc.PeerInfo{
			Version: 2, Name: name, Software: "arpc-go", Compat: "shop/3", Codec: "json",
			MaxBodyLen: 1000 + n, MaxInflight: 100 + n, MaxStreams: 10 + n,
		}
	}
	v2Each(t, func(t *testing.T, p *arpctest.Pair) {
		suiteAlive(t, p)
		require.Equal(t, want("the server", 1), p.Client.Peer())
		require.Equal(t, want("the client", 2), p.Peer().Peer())
	}, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(limits("the server", 1)...), arpctest.ClientOptions(limits("the client", 2)...))
}

func TestV2SessionIsTheSameAtBothEndsAndOverReconnects(t *testing.T) {
	v2Worlds(t, func(t *testing.T, world arpctest.World) {
		connected := make(chan error, 10)
		p := arpctest.New(t, world, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)))
		p.Client.Handler.HandleReconnect(func(_ *arpc.Client, _ int, err error) { connected <- err })
		session := p.Client.Session()
		require.NotEmpty(t, session)
		for range 3 {
			suiteAlive(t, p)
			require.Equal(t, session, p.Client.Session())
			require.Equal(t, session, p.Peer().Session())
			p.Peer().Stop()
			require.NoError(t, suiteNext(t, connected))
		}
		require.NotEqual(t, session, p.Dial().Session())
	})
}

// v2AtOnce are options with which a test hangs if what is to happen at once
// happens at a timeout.
func v2AtOnce() []arpc.Option {
	return []arpc.Option{arpc.WithHelloTimeout(time.Hour), arpc.WithReadTimeout(time.Hour)}
}

// v2Refused dials what is no peer and returns the error, which has to come at
// once, of the one and only attempt.
func v2Refused(t *testing.T, dialer arpc.DialerFunc, opts ...arpc.Option) (err error) {
	t.Helper()
	dials := 0
	counted := func() (net.Conn, error) {
		dials++
		return dialer()
	}
	rowSoon(t, "NewClient returns", func() {
		var c *arpc.Client
		c, err = arpc.NewClient(counted, append(v2AtOnce(), opts...)...)
		if c != nil {
			c.Stop()
		}
	})
	require.Error(t, err)
	require.Equal(t, 1, dials)
	require.True(t, arpc.SafeToRetry(err))
	return err
}

func TestV2DiallingAWebServerFailsAtOnceAndSaysWhatCame(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	err := v2Refused(t, func() (net.Conn, error) { return net.Dial("tcp", web.Listener.Addr().String()) })
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
	require.ErrorContains(t, err, "does not speak arpc")
	require.ErrorContains(t, err, "HTTP/1.1 400 Bad Request")
}

func TestV2DiallingATLSServerWithoutTLSFailsAtOnce(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	err := v2Refused(t, func() (net.Conn, error) { return net.Dial("tcp", web.Listener.Addr().String()) })
	require.ErrorContains(t, err, "arpc: connect: ")
}

func TestV2BannerOfAnotherProtocolIsAnErrorAtOnce(t *testing.T) {
	banners := map[string]string{
		"ssh":   "SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13\r\n",
		"smtp":  "220 mail.example.org ESMTP Postfix\r\n",
		"imap":  "* OK Dovecot ready.\r\n",
		"redis": "-ERR unknown command\r\n",
		"mysql": "J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xf7",
		"amqp":  "AMQP\x00\x00\x09\x01AMQP\x00\x00\x09\x01",
		"zeros": string(make([]byte, 32)),
	}
	for name, banner := range banners {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := v2Refused(t, func() (net.Conn, error) {
					near, far := arpctest.Pipe()
					t.Cleanup(func() { far.Close() })
					_, err := far.Write([]byte(banner))
					return near, err
				})
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
				require.ErrorContains(t, err, "does not speak arpc")
				require.ErrorContains(t, err, strings.Trim(strconv.Quote(banner[:5]), `"`))
			})
		})
	}
}

func TestV2PeerThatClosesInsteadOfAnsweringIsAnErrorAtOnce(t *testing.T) {
	for name, last := range map[string]string{"without a word": "", "after a few bytes": "\x15\x03\x01\x00\x02\x02\x46"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := v2Refused(t, func() (net.Conn, error) {
					near, far := arpctest.Pipe()
					far.Write([]byte(last))
					return near, far.Close()
				})
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
				require.False(t, arpc.IsRemote(err))
			})
		})
	}
}

func TestV2SilentPeerIsGivenUpAfterTheHelloTimeout(t *testing.T) {
	tests := map[string]struct {
		wrap func(net.Conn) net.Conn
		opts []arpc.Option
		want time.Duration
	}{
		"by default":    {want: 5 * time.Second},
		"as set":        {opts: []arpc.Option{arpc.WithHelloTimeout(time.Minute)}, want: time.Minute},
		"TLS handshake": {wrap: v2TLSClient, want: 5 * time.Second},
		"TLS as set":    {wrap: v2TLSClient, opts: []arpc.Option{arpc.WithHelloTimeout(time.Second)}, want: time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := arpctest.Pipe()
				defer far.Close()
				if test.wrap != nil {
					near = test.wrap(near)
				}
				start := time.Now()
				_, err := arpc.NewClient(func() (net.Conn, error) { return near, nil }, test.opts...)
				require.Equal(t, test.want, time.Since(start))
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
				require.ErrorContains(t, err, "WithHelloTimeout")
				require.ErrorContains(t, err, test.want.String())
			})
		})
	}
}

func v2TLSClient(nc net.Conn) net.Conn {
	return tls.Client(nc, &tls.Config{ServerName: "example.org"})
}

func TestV2MalformedAnswerToTheHelloIsAnError(t *testing.T) {
	good := (&wire.Hello{Features: v2Features}).Append(nil, false)
	answers := map[string][]byte{
		"cut short":    good[:len(good)-1],
		"bad number":   append(bytes.Clone(good), 2, 2, 0xff, 0xff),
		"long session": (&wire.Hello{Session: make([]byte, 65)}).Append(nil, false),
		"too long":     append(bytes.Clone(good), make([]byte, wire.HelloMax)...),
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				d := v2Dial(t)
				p := <-d.peers
				p.hello(wire.CmdPing)
				p.nc.Write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", answer)) // it may not be taken to its end
				err := d.failed()
				require.Regexp(t, "malformed hello|does not speak arpc", err.Error())
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
				require.False(t, arpc.IsRemote(err))
				require.Equal(t, start, time.Now())
				p.ends()
			})
		})
	}
}

func TestV2MalformedHelloIsRefusedWithAReason(t *testing.T) {
	good := (&wire.Hello{Features: v2Features}).Append(nil, true)
	hellos := map[string][]byte{
		"cut short": good[:len(good)-1],
		"too long":  append(bytes.Clone(good), make([]byte, wire.HelloMax)...),
	}
	servers := map[string][]arpc.Option{"open": nil, "demanding": {arpc.WithVersions(2, 2)}}
	for name, hello := range hellos {
		for kind, opts := range servers {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					ln := memconn.Listen()
					rowServe(t, ln, opts...)
					p := v2Caller(t, ln)
					p.write(wire.Header{Cmd: wire.CmdPing}, "", string(hello))
					answer := p.hello(wire.CmdPong)
					require.Equal(t, arpc.CodeInvalidArgument, arpc.Code(answer.Code))
					require.Contains(t, answer.Message, "malformed hello")
					p.ends()
					require.Less(t, time.Since(start), time.Second)
				})
			})
		}
	}
}

// v2Codec is JSON under another name.
type v2Codec struct {
	codec.JSON
	name string
}

func (c v2Codec) Name() string { return c.name }

func TestV2UnlikePeersAreRefusedForGoodAndBothLearnWhy(t *testing.T) {
	compat := func(s string) []arpc.Option { return []arpc.Option{arpc.WithCompat(s)} }
	named := func(s string) []arpc.Option { return []arpc.Option{arpc.WithCodec(v2Codec{name: s})} }
	tests := map[string]struct {
		client, server []arpc.Option
		remote         bool
		text           string
	}{
		"codecs":        {named("one"), named("other"), true, `the codecs (WithCodec) differ: "one" on the dialling side, "other" on the accepting side`},
		"compat":        {compat("one"), compat("other"), true, `the compatibility strings (WithCompat) differ: "one" on the dialling side, "other" on the accepting side`},
		"server's only": {nil, compat("other"), true, `"" on the dialling side, "other" on the accepting side`},
		"client's only": {compat("one"), nil, false, `"one" on the dialling side, "" on the accepting side`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ln := memconn.Listen()
			rowServe(t, ln, test.server...)
			err := v2Refused(t, ln.Dial, test.client...)
			require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err))
			require.Equal(t, test.remote, arpc.IsRemote(err))
			require.ErrorContains(t, err, test.text)
		})
	}
}

func TestV2PeersThatSayNothingOfTheirCodecFit(t *testing.T) {
	for _, names := range [][2]string{{"", "b"}, {"a", ""}, {"", ""}, {"a", "a"}} {
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(suiteWithEcho),
			arpctest.ClientOptions(arpc.WithCodec(v2Codec{name: names[0]})), arpctest.ServerOptions(arpc.WithCodec(v2Codec{name: names[1]})))
		suiteAlive(t, p)
		require.Equal(t, names[1], p.Client.Peer().Codec)
	}
}

func TestV2RefusedPeerRunsNoHooks(t *testing.T) {
	ln := memconn.Listen()
	s := rowServe(t, ln, arpc.WithCompat("a"))
	var hooks v2Log
	s.Handler.HandleConnected(func(*arpc.Client) { hooks.add("connected") })
	s.Handler.HandleDisconnected(func(*arpc.Client) { hooks.add("disconnected") })
	v2Refused(t, ln.Dial, arpc.WithCompat("b"))
	rowEventually(t, "the connection is gone", func() bool { return len(s.Clients()) == 0 })
	rowSoon(t, "the server stops", s.Stop)
	require.Empty(t, hooks.all())
}

// v2Invert is a coder that leaves nothing of a frame readable but its length.
type v2Invert struct{}

func (v2Invert) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message { return v2Inverted(m) }
func (v2Invert) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message { return v2Inverted(m) }

func v2Inverted(m *arpc.Message) *arpc.Message {
	for i := 5; i < len(m.Buffer); i++ {
		m.Buffer[i] ^= 0xff
	}
	return m
}

// The hello passes no coder, the refusal of what is behind it does.
func TestV2HelloIsNotCoded(t *testing.T) {
	v2Each(t, func(t *testing.T, p *arpctest.Pair) {
		require.Equal(t, 2, p.Client.Peer().Version)
		var md arpc.Metadata
		ctx := arpc.ContextWithResponseMetadata(arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"a": "b"}), &md)
		require.NoError(t, p.Client.CallWith(ctx, "/meta", "x", nil))
		require.Equal(t, arpc.Metadata{"a": "b"}, md)
		suiteAlive(t, p)
	}, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		suiteWithEcho(s, client)
		s.Handler.UseCoder(v2Invert{})
		client.UseCoder(v2Invert{})
		s.Handler.Handle("/meta", func(ctx *arpc.Context) {
			ctx.SetMetadata("a", ctx.Metadata()["a"])
			ctx.Write("x")
		})
	}))
}

// The hello arrives in as many pieces as it likes.
func TestV2HelloInPieces(t *testing.T) {
	pieces := arpctest.Memory(func(f arpctest.Faults) { f.Split(1); f.ShortWrites(1) })
	p := arpctest.New(t, pieces, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithPeerName("slowly")))
	suiteAlive(t, p)
	require.Equal(t, "slowly", p.Peer().Peer().Name)
}
