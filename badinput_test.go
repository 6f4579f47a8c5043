package arpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// badPair is a server and both ends of a connection to it.
type badPair struct {
	server           *arpc.Server
	client, accepted *arpc.Client
}

func badConnect(t *testing.T, serverOpts, clientOpts []arpc.Option) badPair {
	accepted := make(chan *arpc.Client, 1)
	s, addr := badServe(t, serverOpts...)
	s.Handler.HandleConnected(func(c *arpc.Client) { accepted <- c })
	return badPair{s, badDial(t, addr, clientOpts...), badTake(t, accepted)}
}

// badSend is every way to send a value with a method. Each returns its error.
var badSend = map[string]func(p badPair, method string, v any) error{
	"Call": func(p badPair, method string, v any) error { return p.client.Call(method, v, nil, badWait) },
	"CallWith": func(p badPair, method string, v any) error {
		return p.client.CallWith(context.Background(), method, v, nil)
	},
	"CallAsync": func(p badPair, method string, v any) error {
		return p.client.CallAsync(method, v, func(*arpc.Context) { panic("called") }, badWait)
	},
	"Notify": func(p badPair, method string, v any) error { return p.client.Notify(method, v, badWait) },
	"NotifyWith": func(p badPair, method string, v any) error {
		return p.client.NotifyWith(context.Background(), method, v)
	},
	"client NewMessage": func(p badPair, method string, v any) error {
		return p.client.NewMessage(arpc.CmdNotify, method, v).Error()
	},
	"client PushMsg": func(p badPair, method string, v any) error {
		return p.client.PushMsg(p.client.NewMessage(arpc.CmdNotify, method, v), badWait)
	},
	"Stream.Send": func(p badPair, method string, v any) error {
		st, err := p.client.OpenStream(context.Background(), method)
		if err != nil {
			return err
		}
		defer st.Close()
		return st.Send(v)
	},
	"server Call": func(p badPair, method string, v any) error { return p.accepted.Call(method, v, nil, badWait) },
	"server CallAsync": func(p badPair, method string, v any) error {
		return p.accepted.CallAsync(method, v, func(*arpc.Context) { panic("called") }, badWait)
	},
	"server Notify": func(p badPair, method string, v any) error { return p.accepted.Notify(method, v, badWait) },
	"server NewMessage": func(p badPair, method string, v any) error {
		return p.server.NewMessage(arpc.CmdNotify, method, v).Error()
	},
	"server PushMsg": func(p badPair, method string, v any) error {
		return p.accepted.PushMsg(p.server.NewMessage(arpc.CmdNotify, method, v), badWait)
	},
	"Broadcast": func(p badPair, method string, v any) error { return p.server.Broadcast(method, v) },
}

func TestBadInputSending(t *testing.T) {
	cases := map[string]struct {
		method string
		value  any
		want   badWant
	}{
		"empty method": {
			"", nil,
			badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"method name is empty"}},
		},
		"long method": {
			strings.Repeat("m", 128), nil,
			badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"method name", "128", "127", "mmm"}},
		},
		"no encoding": {
			"/m", make(chan int),
			badWant{code: arpc.CodeInternal, safe: true, texts: []string{"encode", "chan int"}},
		},
		"no encoding inside": {
			"/m", struct{ F func() }{func() {}},
			badWant{code: arpc.CodeInternal, safe: true, texts: []string{"encode", "struct"}},
		},
		"large body": {
			"/m", strings.Repeat("x", 999),
			badWant{code: arpc.CodeResourceExhausted, safe: true, texts: []string{"1001 bytes", "limit of 1000", "WithMaxBodyLen"}},
		},
		"very large body": {
			"/m", make([]byte, 1<<20),
			badWant{code: arpc.CodeResourceExhausted, safe: true, texts: []string{"1048578 bytes", "limit of 1000", "WithMaxBodyLen"}},
		},
	}
	limit := []arpc.Option{arpc.WithMaxBodyLen(1000)}
	pair := badConnect(t, limit, limit)
	pair.server.Handler.HandleStream("/m", func(st *arpc.Stream) { st.Recv(nil) })
	nc := pair.client.Conn()
	for name, c := range cases {
		for op, send := range badSend {
			t.Run(name+"/"+op, func(t *testing.T) { c.want.check(t, send(pair, c.method, c.value)) })
		}
	}
	badServed(t, pair.server, pair.client)
	require.Same(t, nc, pair.client.Conn(), "the connection goes on")
}

func TestBadInputAtTheLimit(t *testing.T) {
	limit := []arpc.Option{arpc.WithMaxBodyLen(1000)}
	longest := strings.Repeat("m", arpc.MaxMethodLen)
	badVersions(t, func(t *testing.T, _ int, opt arpc.Option) {
		pair := badConnect(t, limit, append(limit, opt))
		pair.server.Handler.Handle(longest, func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
		rsp := ""
		require.NoError(t, pair.client.Call(longest, strings.Repeat("x", 1000-len(longest)), &rsp, badWait))
		require.Len(t, rsp, 1000-len(longest))
	})
}

// badReceiver is one end of a connection that takes no more than 1000 bytes. The
// other end does not know what that is in version 1.
var badReceiver = map[string]func(t *testing.T, version arpc.Option) (sender *arpc.Client, receiver *arpc.Handler){
	"client to server": func(t *testing.T, version arpc.Option) (*arpc.Client, *arpc.Handler) {
		pair := badConnect(t, []arpc.Option{arpc.WithMaxBodyLen(1000)}, []arpc.Option{version})
		return pair.client, pair.server.Handler
	},
	"server to client": func(t *testing.T, version arpc.Option) (*arpc.Client, *arpc.Handler) {
		pair := badConnect(t, nil, []arpc.Option{arpc.WithMaxBodyLen(1000), version})
		return pair.accepted, pair.client.Handler
	},
}

// badReceive has the receiver handle "/m".
func badReceive(receiver *arpc.Handler) (dropped chan byte) {
	dropped = make(chan byte, 10)
	receiver.HandleMessageDropped(func(_ *arpc.Client, m *arpc.Message) { dropped <- m.Cmd() })
	receiver.Handle("/m", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	receiver.HandleStream("/m", func(st *arpc.Stream) {
		data := ""
		for st.Recv(&data) == nil {
			st.Send(data)
		}
	})
	return dropped
}

// badEchoStream returns a stream that has echoed.
func badEchoStream(t *testing.T, sender *arpc.Client) *arpc.Stream {
	t.Helper()
	st, err := sender.OpenStream(t.Context(), "/m")
	require.NoError(t, err)
	badEchoed(t, st)
	return st
}

func badEchoed(t *testing.T, st *arpc.Stream) {
	t.Helper()
	rsp := ""
	require.NoError(t, st.Send("small"))
	require.NoError(t, st.Recv(&rsp))
	require.Equal(t, "small", rsp)
}

// What only the receiver finds too large is refused by it, and the connection
// goes on.
func TestBadInputReceiving(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	says := []string{"307202 bytes", "limit of 1000", "WithMaxBodyLen"}
	for name, connect := range badReceiver {
		t.Run(name, func(t *testing.T) {
			sender, receiver := connect(t, arpc.WithVersions(1, 1))
			dropped := badReceive(receiver)

			refused := badWant{code: arpc.CodeUnknown, remote: true, texts: says}
			refused.check(t, sender.Call("/m", large, nil, badWait))
			require.Equal(t, arpc.CmdRequest, badTake(t, dropped))
			outcome := make(chan error, 1)
			require.NoError(t, sender.CallAsync("/m", large, func(ctx *arpc.Context) { outcome <- ctx.Bind(nil) }, badWait))
			refused.check(t, badTake(t, outcome))
			require.Equal(t, arpc.CmdRequest, badTake(t, dropped))
			require.NoError(t, sender.Notify("/m", large, badWait))
			require.Equal(t, arpc.CmdNotify, badTake(t, dropped))

			st := badEchoStream(t, sender)
			rsp := ""
			require.NoError(t, st.Send(large))
			require.ErrorIs(t, st.Recv(&rsp), io.EOF)
			require.Equal(t, arpc.CmdStream, badTake(t, dropped))

			nc := sender.Conn()
			require.NoError(t, sender.Call("/m", "small", &rsp, badWait))
			require.Equal(t, "small", rsp)
			require.Same(t, nc, sender.Conn(), "the connection goes on")
		})
	}
}

// In version 2 the sender knows what the receiver takes, and sends no more.
func TestBadInputOverThePeersLimit(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	want := badWant{code: arpc.CodeResourceExhausted, safe: true, texts: []string{"307202 bytes", "the peer's limit of 1000", "WithMaxBodyLen"}}
	for name, connect := range badReceiver {
		t.Run(name, func(t *testing.T) {
			sender, receiver := connect(t, arpc.WithVersions(1, 2))
			dropped := badReceive(receiver)
			st := badEchoStream(t, sender)
			want.check(t, sender.Call("/m", large, nil, badWait))
			want.check(t, sender.CallAsync("/m", large, func(*arpc.Context) { panic("called") }, badWait))
			want.check(t, sender.Notify("/m", large, badWait))
			want.check(t, sender.PushMsg(sender.NewMessage(arpc.CmdNotify, "/m", large), badWait))
			want.check(t, st.Send(large))
			badEchoed(t, st)
			require.NoError(t, sender.Call("/m", "small", nil, badWait))
			require.Empty(t, dropped)
		})
	}
}

func TestBadInputLargeResponse(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	says := []string{"307202 bytes", "limit of 1000", "WithMaxBodyLen"}
	limit := []arpc.Option{arpc.WithMaxBodyLen(1000)}
	for name, c := range map[string]struct {
		serverOpts, clientOpts []arpc.Option
		version                int
		write                  bool // Write returns the error too
		want                   badWant
	}{
		"too large to send": {
			serverOpts: limit, version: 2, write: true,
			want: badWant{code: arpc.CodeResourceExhausted, remote: true, texts: says},
		},
		"too large to send, version 1": {
			serverOpts: limit, version: 1, write: true,
			want: badWant{code: arpc.CodeUnknown, remote: true, texts: says},
		},
		"too large to receive": { // which the server knows
			clientOpts: limit, version: 2, write: true,
			want: badWant{code: arpc.CodeResourceExhausted, remote: true, texts: says},
		},
		"too large to receive, version 1": {
			clientOpts: limit, version: 1,
			want: badWant{code: arpc.CodeResourceExhausted, texts: says},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair := badConnect(t, c.serverOpts, append(c.clientOpts, arpc.WithVersions(1, c.version)))
			wrote := make(chan error, 3)
			pair.server.Handler.Handle("/m", func(ctx *arpc.Context) { wrote <- ctx.Write(large) })
			for range 3 {
				c.want.check(t, pair.client.Call("/m", nil, nil, badWait))
				if err := badTake(t, wrote); c.write {
					badWant{code: arpc.CodeResourceExhausted, texts: says}.check(t, err)
				} else {
					require.NoError(t, err)
				}
			}
			badServed(t, pair.server, pair.client)
		})
	}
}

func TestBadInputTimeouts(t *testing.T) {
	pair := badConnect(t, nil, nil)
	c, never := pair.client, func(*arpc.Context) { panic("called") }
	msg := c.NewMessage(arpc.CmdNotify, "/m", nil)
	for name, send := range map[string]func(time.Duration) error{
		"Call":      func(d time.Duration) error { return c.Call("/m", nil, nil, d) },
		"CallAsync": func(d time.Duration) error { return c.CallAsync("/m", nil, never, d) },
		"Notify":    func(d time.Duration) error { return c.Notify("/m", nil, d) },
		"PushMsg":   func(d time.Duration) error { return c.PushMsg(msg, d) },
	} {
		t.Run(name, func(t *testing.T) {
			want := badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"timeout", "-5s"}}
			want.check(t, send(-5*time.Second))
			if strings.HasPrefix(name, "Call") {
				want.texts = []string{"timeout", "positive"}
				want.check(t, send(0))
				return
			}
			require.NoError(t, send(arpc.TimeZero))
		})
	}
}

func TestBadInputEndedContext(t *testing.T) {
	pair := badConnect(t, nil, nil)
	pair.server.Handler.Handle("/m", func(*arpc.Context) { t.Error("the request was sent") })
	pair.server.Handler.HandleStream("/m", func(*arpc.Stream) { t.Error("the stream was opened") })
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for name, use := range map[string]func(context.Context) error{
		"CallWith":   func(ctx context.Context) error { return pair.client.CallWith(ctx, "/m", nil, nil) },
		"NotifyWith": func(ctx context.Context) error { return pair.client.NotifyWith(ctx, "/m", nil) },
		"OpenStream": func(ctx context.Context) error {
			_, err := pair.client.OpenStream(ctx, "/m")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			badWant{code: arpc.CodeCanceled, safe: true, is: context.Canceled}.check(t, use(cancelled))
			badWant{code: arpc.CodeDeadlineExceeded, safe: true, is: context.DeadlineExceeded}.check(t, use(late))
		})
	}
	badServed(t, pair.server, pair.client)
}

func TestBadInputMessage(t *testing.T) {
	pair := badConnect(t, nil, nil)
	for name, push := range map[string]func(*arpc.Message) error{
		"client": func(m *arpc.Message) error { return pair.client.PushMsg(m, badWait) },
		"server": func(m *arpc.Message) error { return pair.accepted.PushMsg(m, badWait) },
	} {
		t.Run(name, func(t *testing.T) {
			badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"PushMsg", "nil"}}.check(t, push(nil))
			for cmd, text := range map[byte]string{0: "command 0", 7: "command 7", 99: "command 99"} {
				want := badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{text}}
				for _, m := range []*arpc.Message{pair.client.NewMessage(cmd, "/m", nil), pair.server.NewMessage(cmd, "/m", nil)} {
					want.check(t, m.Error())
					want.check(t, push(m))
				}
			}
		})
	}
	require.ErrorContains(t, pair.client.NewMessage(arpc.CmdNotify, "/m", nil).SetFlagBit(8, true), "0 to 7")
	badServed(t, pair.server, pair.client)
}

func TestBadInputDecode(t *testing.T) {
	pair := badConnect(t, nil, nil)
	pair.server.Handler.Handle("/m", func(ctx *arpc.Context) { ctx.Write("no number") })
	for name, c := range map[string]struct {
		rsp  any
		want badWant
	}{
		"other type": {new(int), badWant{code: arpc.CodeInternal, texts: []string{"decode", "*int"}}},
		"struct":     {new(struct{ A int }), badWant{code: arpc.CodeInternal, texts: []string{"decode", "struct"}}},
		"no pointer": {"", badWant{code: arpc.CodeInternal, texts: []string{"decode", "string"}}},
		"nil string": {(*string)(nil), badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"*string", "nil"}}},
		"nil bytes":  {(*[]byte)(nil), badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"*[]uint8", "nil"}}},
		"nil struct": {(*struct{ A int })(nil), badWant{code: arpc.CodeInternal, texts: []string{"decode", "struct"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.check(t, pair.client.Call("/m", nil, c.rsp, badWait))
			c.want.check(t, pair.client.CallWith(t.Context(), "/m", nil, c.rsp))

			bound := c.want
			bound.safe = false // it has been answered by then
			outcome := make(chan error, 1)
			require.NoError(t, pair.client.CallAsync("/m", nil, func(ctx *arpc.Context) { outcome <- ctx.Bind(c.rsp) }, badWait))
			bound.check(t, badTake(t, outcome))
		})
	}
	badServed(t, pair.server, pair.client)
}

func TestBadInputBind(t *testing.T) {
	badVersions(t, func(t *testing.T, version int, opt arpc.Option) {
		pair := badConnect(t, nil, []arpc.Option{opt})
		bound := make(chan error, 1)
		pair.server.Handler.Handle("/m", func(ctx *arpc.Context) {
			err := ctx.Bind(new(int))
			ctx.Error(err)
			bound <- err
		})
		pair.server.Handler.HandleStream("/m", func(st *arpc.Stream) { bound <- st.Recv(new(int)) })
		want := badWant{code: arpc.CodeInternal, texts: []string{"decode", "*int"}}
		err := pair.client.Call("/m", "no number", nil, badWait)
		badWant{code: badTold(version, want.code), remote: true, texts: want.texts}.check(t, err)
		want.check(t, badTake(t, bound))
		st, err := pair.client.OpenStream(t.Context(), "/m")
		require.NoError(t, err)
		require.NoError(t, st.Send("no number"))
		want.check(t, badTake(t, bound))
	})
}

func TestBadInputWrite(t *testing.T) {
	badVersions(t, func(t *testing.T, version int, opt arpc.Option) {
		pair := badConnect(t, nil, []arpc.Option{opt})
		wrote := make(chan error, 1)
		pair.server.Handler.Handle("/m", func(ctx *arpc.Context) { wrote <- ctx.Write(make(chan int)) })
		want := badWant{code: arpc.CodeInternal, texts: []string{"encode", "chan int"}}
		err := pair.client.Call("/m", nil, nil, badWait)
		badWant{code: badTold(version, want.code), remote: true, texts: want.texts}.check(t, err)
		want.check(t, badTake(t, wrote))
	})
}

// Only requests are answered, and once.
func TestBadInputAnswer(t *testing.T) {
	pair := badConnect(t, nil, nil)
	answers := map[string]func(*arpc.Context) error{
		"Write":      func(ctx *arpc.Context) error { return ctx.Write("x") },
		"WriteBytes": func(ctx *arpc.Context) error { return ctx.WriteBytes([]byte("x")) },
		"Error":      func(ctx *arpc.Context) error { return ctx.Error("x") },
		"Error nil":  func(ctx *arpc.Context) error { return ctx.Error(nil) },
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			outcome := make(chan error, 1)
			pair.server.Handler.Handle("/"+name, func(ctx *arpc.Context) {
				answer(ctx) // right for a request
				outcome <- answer(ctx)
			})
			require.NoError(t, pair.client.Notify("/"+name, nil, badWait))
			notRequest := badWant{code: arpc.CodeFailedPrecondition, is: arpc.ErrNotRequest, texts: []string{"only a request"}}
			notRequest.check(t, badTake(t, outcome))

			pair.client.Call("/"+name, nil, nil, badWait)
			badWant{code: arpc.CodeFailedPrecondition, is: arpc.ErrAnswered, texts: []string{"answered already"}}.check(t, badTake(t, outcome))

			inCallback := make(chan error, 1)
			err := pair.client.CallAsync("/"+name, nil, func(ctx *arpc.Context) { inCallback <- answer(ctx) }, badWait)
			require.NoError(t, err)
			notRequest.check(t, badTake(t, inCallback))
		})
	}
}

func TestBadInputRestart(t *testing.T) {
	pair := badConnect(t, nil, nil)
	badWant{code: arpc.CodeFailedPrecondition, texts: []string{"Restart", "accepted"}}.check(t, pair.accepted.Restart())
	badServed(t, pair.server, pair.client)
	pair.client.Stop()
	badWant{code: arpc.CodeUnavailable, is: arpc.ErrClosed}.check(t, pair.client.Restart())
}

func TestBadInputCallback(t *testing.T) {
	pair := badConnect(t, nil, nil)
	want := badWant{code: arpc.CodeInvalidArgument, safe: true, texts: []string{"CallAsync", "callback is nil", "Notify"}}
	want.check(t, pair.client.CallAsync("/m", nil, nil, badWait))
}

func TestBadInputPool(t *testing.T) {
	dialer := func() (net.Conn, error) { return nil, errors.New("not dialled") }
	for name, c := range map[string]struct {
		make func() (*arpc.ClientPool, error)
		text string
	}{
		"no size":       {func() (*arpc.ClientPool, error) { return arpc.NewClientPool(dialer, 0) }, "size"},
		"negative size": {func() (*arpc.ClientPool, error) { return arpc.NewClientPool(dialer, -1) }, "-1"},
		"no dialers":    {func() (*arpc.ClientPool, error) { return arpc.NewClientPoolFromDialers(nil) }, "no dialers"},
		"nil dialer": {
			func() (*arpc.ClientPool, error) { return arpc.NewClientPoolFromDialers([]arpc.DialerFunc{nil}) },
			"dialer is nil",
		},
		"option": {
			func() (*arpc.ClientPool, error) { return arpc.NewClientPool(dialer, 1, arpc.WithMaxStreams(0)) },
			"WithMaxStreams",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.make()
			badWant{code: arpc.CodeInvalidArgument, texts: []string{c.text}}.check(t, err)
		})
	}
}
