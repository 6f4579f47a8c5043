package arpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

var engPairs = arpc.Metadata{"a": "1", "user-id_2.x": "\x00\xff any bytes", "empty": "", "long": strings.Repeat("v", 10000)}

// engWithMirror registers /mirror at both ends, which answers with the metadata it
// got, and /told and the stream /told, which pass on theirs.
func engWithMirror(got chan<- arpc.Metadata) arpctest.Option {
	return arpctest.Setup(func(server *arpc.Server, client *arpc.Handler) {
		for _, h := range []*arpc.Handler{server.Handler, client} {
			h.Handle("/mirror", func(ctx *arpc.Context) {
				for key, value := range ctx.Metadata() {
					if err := ctx.SetMetadata(key, value); err != nil {
						ctx.Error(err)
					}
				}
				ctx.Write(ctx.Body())
			})
			h.Handle("/told", func(ctx *arpc.Context) { got <- ctx.Metadata() })
			h.HandleStream("/told", func(s *arpc.Stream) { got <- s.Metadata() })
		}
	})
}

func TestV2MetadataBothWays(t *testing.T) {
	got := make(chan arpc.Metadata, 1)
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			ctx := arpc.ContextWithMetadata(t.Context(), engPairs)
			var back arpc.Metadata
			var body string
			require.NoError(t, c.CallWith(arpc.ContextWithResponseMetadata(ctx, &back), "/mirror", "body", &body))
			require.Equal(t, "body", body)
			require.Equal(t, engPairs, back)
			require.NoError(t, c.NotifyWith(ctx, "/told", nil))
			require.Equal(t, engPairs, suiteNext(t, got))
			s, err := c.OpenStream(ctx, "/told")
			require.NoError(t, err)
			require.Equal(t, engPairs, suiteNext(t, got))
			require.NoError(t, s.Close())
			require.NoError(t, c.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &back), "/mirror", nil, nil))
			require.Nil(t, back, "none came")
		}
	}, engWithMirror(got))
}

// Metadata adds up from context to context; the innermost value of a key wins.
func TestV2MetadataOfNestedContexts(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		outer := arpc.Metadata{"a": "1", "b": "1"}
		ctx := arpc.ContextWithMetadata(t.Context(), outer)
		inner := arpc.ContextWithMetadata(ctx, arpc.Metadata{"b": "2", "c": "2"})
		var back arpc.Metadata
		require.NoError(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(inner, &back), "/mirror", nil, nil))
		require.Equal(t, arpc.Metadata{"a": "1", "b": "2", "c": "2"}, back)
		require.NoError(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(ctx, &back), "/mirror", nil, nil))
		require.Equal(t, arpc.Metadata{"a": "1", "b": "1"}, back)
		require.Len(t, outer, 2)
	}, engWithMirror(nil))
}

// What a request brought does not go on to what its handler calls.
func TestV2MetadataStaysWithItsRequest(t *testing.T) {
	got := make(chan arpc.Metadata, 1)
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			ctx.Write(ctx.Client.NotifyWith(ctx, "/told", nil))
		})
		require.NoError(t, p.Client.CallWith(arpc.ContextWithMetadata(t.Context(), engPairs), "/x", nil, nil))
		require.Nil(t, suiteNext(t, got))
	}, engWithMirror(got))
}

func TestV2MetadataWithAnError(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			require.NoError(t, ctx.SetMetadata("a", "1"))
			ctx.Error(arpc.NewError(arpc.CodeNotFound, "not here"))
		})
		var back arpc.Metadata
		err := p.Client.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &back), "/x", nil, nil)
		require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
		require.EqualError(t, err, "not here")
		require.Equal(t, arpc.Metadata{"a": "1"}, back)
	})
}

func TestV2MetadataInACallback(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			require.NoError(t, ctx.SetMetadata("a", "1"))
			ctx.Write("body")
		})
		got := make(chan arpc.Metadata, 1)
		require.NoError(t, p.Client.CallAsync("/x", nil, func(ctx *arpc.Context) {
			require.Equal(t, "body", string(ctx.Body()))
			require.ErrorIs(t, ctx.SetMetadata("b", "2"), arpc.ErrNotRequest)
			got <- ctx.Metadata()
		}, time.Minute))
		require.Equal(t, arpc.Metadata{"a": "1"}, suiteNext(t, got))
	})
}

func TestV2MetadataOfADetachedRequest(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			require.NoError(t, ctx.SetMetadata("a", "1"))
			d := ctx.Detach()
			go func() {
				time.Sleep(time.Second)
				err := d.SetMetadata("b", d.Metadata()["b"])
				d.Write(err)
			}()
		})
		var back arpc.Metadata
		ctx := arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"b": "2"})
		require.NoError(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(ctx, &back), "/x", nil, nil))
		require.Equal(t, arpc.Metadata{"a": "1", "b": "2"}, back)
	})
}

// engRefused are metadata that do not travel.
func engRefused() map[string]struct {
	md   arpc.Metadata
	code arpc.Code
	text string
} {
	many := arpc.Metadata{}
	for i := range 129 {
		many[fmt.Sprint(i)] = ""
	}
	return map[string]struct {
		md   arpc.Metadata
		code arpc.Code
		text string
	}{
		"bytes":      {arpc.Metadata{"a": strings.Repeat("v", 2000)}, arpc.CodeResourceExhausted, "limit of 1000 (WithMaxMetadata)"},
		"pairs":      {many, arpc.CodeInvalidArgument, "128"},
		"upper case": {arpc.Metadata{"Accept": "1"}, arpc.CodeInvalidArgument, `"Accept"`},
		"empty key":  {arpc.Metadata{"": "1"}, arpc.CodeInvalidArgument, "the key is empty"},
		"long key":   {arpc.Metadata{strings.Repeat("k", 257): "1"}, arpc.CodeInvalidArgument, "256"},
		"space":      {arpc.Metadata{"a b": "1"}, arpc.CodeInvalidArgument, `"a b"`},
		"beyond":     {arpc.Metadata{"schl\xc3\xbcssel": "1"}, arpc.CodeInvalidArgument, "a-z"},
	}
}

// What is over the receiver's limits is an error to the sender, and nothing leaves.
func TestV2MetadataOverTheLimits(t *testing.T) {
	small := arpc.WithMaxMetadata(1000)
	for name, bad := range engRefused() {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				ctx := arpc.ContextWithMetadata(t.Context(), bad.md)
				_, opened := p.Client.OpenStream(ctx, "/told")
				for what, err := range map[string]error{
					"call":   p.Client.CallWith(ctx, "/mirror", nil, nil),
					"notify": p.Client.NotifyWith(ctx, "/told", nil),
					"stream": opened,
				} {
					suiteUnsent(t, err, bad.code)
					require.ErrorContains(t, err, bad.text, what)
				}
				p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
					var err error
					for key, value := range bad.md {
						if err == nil {
							err = ctx.SetMetadata(key, value)
						}
					}
					ctx.Write(err.Error())
				})
				var text string
				require.NoError(t, p.Client.Call("/x", nil, &text, time.Minute))
				require.Contains(t, text, strings.Replace(bad.text, "limit of 1000", "limit of 993", 1))
			}, engWithMirror(nil), arpctest.ServerOptions(small), arpctest.ClientOptions(small))
		})
	}
}

// Around the limit metadata passes, or its sender is told: never does the other
// end refuse it, whatever else travels beside it.
func TestV2MetadataAroundTheLimit(t *testing.T) {
	const limit = 1000
	small := arpc.WithMaxMetadata(limit)
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
			value := strings.Repeat("v", len(ctx.Body()))
			if err := ctx.SetMetadata("v", value); err != nil {
				require.Greater(t, len(value), limit-20)
				require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			}
			ctx.Error(arpc.NewError(arpc.CodeNotFound, "as ever"))
		})
		timed, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for n := limit - 50; n <= limit+10; n++ {
			for _, ctx := range []context.Context{t.Context(), timed} {
				ctx := arpc.ContextWithMetadata(ctx, arpc.Metadata{"v": strings.Repeat("v", n)})
				if err := p.Client.CallWith(ctx, "/echo", nil, nil); err != nil {
					require.Greater(t, n, limit-20)
					suiteUnsent(t, err, arpc.CodeResourceExhausted)
				}
				err := p.Client.CallWith(t.Context(), "/x", make([]byte, n), nil)
				require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
			}
		}
	}, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(small), arpctest.ClientOptions(small))
}

// A section that makes no sense is the sender's error, and the connection goes on.
func TestV2MalformedSection(t *testing.T) {
	pair := func(key string) []byte { return wire.AppendPair(nil, key, "v") }
	many := []byte{}
	for range 129 {
		many = append(many, pair("a")...)
	}
	sections := map[string][]byte{
		"field is cut":     {1, 5, 1},
		"field without":    {1},
		"endless uvarint":  {1, 11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"code too large":   {2, 5, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"upper case":       pair("A"),
		"empty key":        pair(""),
		"too many pairs":   many,
		"pair is cut":      {4, 2, 9, 'a'},
		"detail is cut":    {3, 1, 1},
		"longer than told": nil,
	}
	for name, section := range sections {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := engCaller(t)
				for _, method := range []string{"/x", "/nowhere"} {
					s.Handler.Handle("/x"+method, engMustNotRun)
					p.write(engBad(wire.Header{Cmd: wire.CmdRequest, Seq: 3}, method, section))
					f := p.next()
					require.Equal(t, wire.Header{BodyLen: f.BodyLen, Cmd: wire.CmdResponse, Flag: wire.FlagError | wire.FlagMeta, MethodLen: byte(len(method)), Seq: 3}, f.Header)
					require.Equal(t, arpc.CodeInvalidArgument, arpc.Code(f.meta.Code), f.payload)
				}
				for _, cmd := range []byte{wire.CmdNotify, wire.CmdResponse, wire.CmdCancel, wire.CmdGoAway, wire.CmdStream} {
					method := map[bool]string{true: "", false: "/x"}[cmd > wire.CmdStream]
					p.write(engBad(wire.Header{Cmd: cmd, Seq: 3}, method, section))
				}
				p.requireAlive()
			})
		})
	}
}

// engBad is a frame with a section, or with the length of one that does not fit for
// nil.
func engBad(h wire.Header, method string, section []byte) []byte {
	if section != nil {
		return wire.AppendFrameMeta(nil, h, method, section, "")
	}
	h.Flag |= wire.FlagMeta
	return wire.AppendFrame(nil, h, method, "\x20a")
}

func TestV2MalformedSectionOfAResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := engScripted(t, engAllFeatures)
		for _, flag := range []byte{0, wire.FlagError} {
			failed := make(chan error, 1)
			go func() { failed <- c.Call("/x", nil, nil, time.Minute) }()
			f := p.next()
			p.write(wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdResponse, Flag: flag, Seq: f.Seq}, "/x", []byte{1}, ""))
			err := suiteNext(t, failed)
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
			require.ErrorContains(t, err, "malformed")
			require.False(t, arpc.SafeToRetry(err))
		}
	})
}

var engTrace = arpc.Trace{Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", State: "vendor=1"}

// The trace of a request goes on to what its handler calls, without its doing.
func TestV2TraceFlowsThroughHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(chan arpc.Trace, 2)
		c := engChain(t, 3, 0, func(ctx *arpc.Context) {
			trace, ok := arpc.TraceOf(ctx)
			require.Equal(t, ok, trace.Parent != "")
			seen <- trace
			ctx.Write(nil)
		})
		require.NoError(t, c.CallWith(arpc.ContextWithTrace(t.Context(), engTrace), "/x", nil, nil))
		require.Equal(t, engTrace, suiteNext(t, seen))
		require.NoError(t, c.CallWith(t.Context(), "/x", nil, nil))
		require.Zero(t, suiteNext(t, seen))
		_, ok := arpc.TraceOf(t.Context())
		require.False(t, ok)
	})
}

func TestV2TraceOfANotificationAndAStream(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		seen := make(chan arpc.Trace, 1)
		tell := func(ctx context.Context) { trace, _ := arpc.TraceOf(ctx); seen <- trace }
		p.Server.Handler.Handle("/x", func(ctx *arpc.Context) { tell(ctx) })
		p.Server.Handler.HandleStream("/x", func(s *arpc.Stream) { tell(s.Context()) })
		ctx := arpc.ContextWithTrace(t.Context(), engTrace)
		require.NoError(t, p.Client.NotifyWith(ctx, "/x", nil))
		require.Equal(t, engTrace, suiteNext(t, seen))
		s, err := p.Client.OpenStream(ctx, "/x")
		require.NoError(t, err)
		require.Equal(t, engTrace, suiteNext(t, seen))
		require.NoError(t, s.Close())
	})
}

// A peer of version 1 gets nothing of it, and the frames are those of version 1.
func TestV2MetadataStaysHereWithVersion1(t *testing.T) {
	for name, opt := range map[string]arpctest.Option{"client": arpctest.ClientOptions(engOld), "server": arpctest.ServerOptions(engOld)} {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
					require.Nil(t, ctx.Metadata())
					require.NoError(t, ctx.SetMetadata("a", "1"))
					require.Zero(t, ctx.Message.Buffer[6]&wire.FlagMeta)
					ctx.Write(ctx.Body())
				})
				ctx := arpc.ContextWithTrace(arpc.ContextWithMetadata(t.Context(), engPairs), engTrace)
				var back arpc.Metadata
				var body string
				require.NoError(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(ctx, &back), "/x", "body", &body))
				require.Equal(t, "body", body)
				require.Nil(t, back)
			}, opt)
		})
	}
}
