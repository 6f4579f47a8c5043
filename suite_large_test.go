package arpc_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteBody returns n bytes that are the same each time.
func suiteBody(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// Large bodies arrive whole, both ways at the same time, and small calls between
// them.
func TestSuiteLargeBodies(t *testing.T) {
	for name, size := range map[string]int{"1MiB": 1 << 20, "20MiB": 20 << 20} {
		t.Run(name, func(t *testing.T) {
			body := suiteBody(size)
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				done := make(chan error, 2)
				for _, c := range []*arpc.Client{p.Client, p.Peer()} {
					go func() {
						var reply []byte
						err := c.Call("/echo", body, &reply, suitePatience)
						if err == nil && !bytes.Equal(body, reply) {
							t.Errorf("%d bytes came back as %d others", len(body), len(reply))
						}
						done <- err
					}()
				}
				for range 5 {
					suiteAlive(t, p)
				}
				require.NoError(t, suiteNext(t, done))
				require.NoError(t, suiteNext(t, done))
			}, arpctest.Setup(suiteWithEcho))
		})
	}
}

// Bodies around the sizes of buffers.
func TestSuiteBodySizes(t *testing.T) {
	all := suiteBody(300 << 10)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, around := range []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
			for size := around - 24; size <= around+4; size++ {
				var reply []byte
				require.NoError(t, p.Client.Call("/echo", all[:size], &reply, suitePatience))
				require.True(t, bytes.Equal(all[:size], reply), "%d bytes", size)
			}
		}
	}, arpctest.Setup(suiteWithEcho))
}

// Every way to send something over the sender's own limit fails with an error
// that says so, before anything is sent.
func TestSuiteOverTheSendersLimit(t *testing.T) {
	const limit = 1000
	fits, over := suiteBody(limit-len("/echo")), suiteBody(limit-len("/echo")+1)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		conn := p.Client.Conn()
		s := suiteOpen(t, p.Client, "/echo")
		sends := map[string]func(b []byte) error{
			"call":     func(b []byte) error { return p.Client.Call("/echo", b, nil, suitePatience) },
			"callWith": func(b []byte) error { return p.Client.CallWith(t.Context(), "/echo", b, nil) },
			"async": func(b []byte) error {
				return p.Client.CallAsync("/echo", b, func(*arpc.Context) {}, suitePatience)
			},
			"notify": func(b []byte) error { return p.Client.Notify("/echo", b, suitePatience) },
			"push": func(b []byte) error {
				return p.Client.PushMsg(p.Client.NewMessage(arpc.CmdNotify, "/echo", b), suitePatience)
			},
			"stream": func(b []byte) error { return s.Send(b) },
		}
		for name, send := range sends {
			require.NoError(t, send(fits), name)
			err := send(over)
			require.ErrorContains(t, err, "1001", name)
			require.ErrorContains(t, err, "1000", name)
			require.ErrorContains(t, err, "WithMaxBodyLen", name)
			suiteUnsent(t, err, arpc.CodeResourceExhausted)
		}
		require.NoError(t, s.Recv(new([]byte)), "the stream goes on")
		require.NoError(t, s.Close())
		suiteAlive(t, p)
		require.Same(t, conn, p.Client.Conn())
	}, arpctest.Setup(suiteWithStreams), arpctest.ClientOptions(arpc.WithMaxBodyLen(limit)))
}

// What is over the receiver's limit is refused, whatever it is, and the
// connection goes on: by the sender, which knows the limit, or by the receiver in
// version 1.
func TestSuiteOverTheReceiversLimit(t *testing.T) {
	const limit = 1000
	for name, size := range map[string]int{"a bit": limit + 1, "1MiB": 1 << 20} {
		over := suiteBody(size)
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				dropped := make(chan string, 10)
				p.Server.Handler.HandleMessageDropped(func(_ *arpc.Client, m *arpc.Message) { dropped <- m.Method() })
				conn := p.Client.Conn()
				s := suiteOpen(t, p.Client, "/echo")
				suiteEchoed(t, s, "small")
				if p.Version == 1 {
					suiteRefusedByTheReceiver(t, p, s, over, dropped)
				} else {
					suiteRefusedByTheSender(t, p, s, over)
					require.Empty(t, dropped)
				}
				require.NoError(t, s.Close())
				suiteAlive(t, p)
				require.Same(t, conn, p.Client.Conn())
			}, arpctest.Setup(suiteWithStreams), arpctest.ServerOptions(arpc.WithMaxBodyLen(limit)))
		})
	}
}

func suiteRefusedByTheReceiver(t *testing.T, p *arpctest.Pair, s *arpc.Stream, over []byte, dropped <-chan string) {
	t.Helper()
	suiteRemote(t, p.Client.Call("/echo", over, nil, suitePatience), "WithMaxBodyLen")
	require.Equal(t, "/echo", suiteNext(t, dropped))
	suiteRemote(t, suiteNext(t, suiteAsync(t, p.Client, "/echo", over)).err, "limit of 1000")
	require.Equal(t, "/echo", suiteNext(t, dropped))
	require.NoError(t, p.Client.Notify("/told", over, suitePatience))
	require.Equal(t, "/told", suiteNext(t, dropped))
	require.NoError(t, s.Send(over))
	require.ErrorIs(t, s.Recv(new([]byte)), io.EOF)
}

func suiteRefusedByTheSender(t *testing.T, p *arpctest.Pair, s *arpc.Stream, over []byte) {
	t.Helper()
	for _, err := range []error{
		p.Client.Call("/echo", over, nil, suitePatience),
		p.Client.CallAsync("/echo", over, suiteNever(t), suitePatience),
		p.Client.Notify("/told", over, suitePatience),
		s.Send(over),
	} {
		suiteUnsent(t, err, arpc.CodeResourceExhausted)
		require.ErrorContains(t, err, "peer's limit of 1000 (WithMaxBodyLen)")
	}
	suiteEchoed(t, s, "small again")
}

// An answer over the limit of who sends it, or of who asked for it.
func TestSuiteAnswerOverTheLimit(t *testing.T) {
	const limit = 1000
	over := strings.Repeat("x", limit+1)
	ends := map[string]arpctest.Option{
		"sender":   arpctest.ServerOptions(arpc.WithMaxBodyLen(limit)),
		"receiver": arpctest.ClientOptions(arpc.WithMaxBodyLen(limit)),
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				wrote := make(chan error, 1)
				p.Server.Handler.Handle("/big", func(ctx *arpc.Context) { wrote <- ctx.Write(over) })
				conn := p.Client.Conn()
				known := name == "sender" || p.Version > 1 // to the server
				for _, err := range []error{
					p.Client.Call("/big", nil, nil, suitePatience),
					suiteNext(t, suiteAsync(t, p.Client, "/big", nil)).err,
				} {
					require.ErrorContains(t, err, "WithMaxBodyLen")
					require.Equal(t, known, arpc.IsRemote(err))
					require.False(t, arpc.SafeToRetry(err))
					require.Equal(t, known, suiteNext(t, wrote) != nil)
				}
				suiteAlive(t, p)
				require.Same(t, conn, p.Client.Conn())
			}, arpctest.Setup(suiteWithEcho), end)
		})
	}
}
