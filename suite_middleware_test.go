package arpc_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteTrace notes who ran, in order.
type suiteTrace struct {
	mu    sync.Mutex
	names []string
}

func (tr *suiteTrace) add(name string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.names = append(tr.names, name)
}

func (tr *suiteTrace) all() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return strings.Join(tr.names, " ")
}

// quick notes its name and returns; around does before and after the rest.
func (tr *suiteTrace) quick(name string) arpc.HandlerFunc {
	return func(*arpc.Context) { tr.add(name) }
}

func (tr *suiteTrace) around(name string) arpc.HandlerFunc {
	return func(ctx *arpc.Context) {
		tr.add(name + "(")
		ctx.Next()
		tr.add(")" + name)
	}
}

func (tr *suiteTrace) answering(name string) arpc.HandlerFunc {
	return func(ctx *arpc.Context) {
		tr.add(name)
		ctx.Write(name)
	}
}

// What runs in which order, by what is registered in which order.
func TestSuiteMiddlewareOrder(t *testing.T) {
	tests := map[string]struct {
		register func(h *arpc.Handler, tr *suiteTrace)
		want     string
		reply    string
	}{
		"before": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(tr.quick("a"))
			h.Use(tr.quick("b"))
			h.Handle("/x", tr.answering("handler"))
		}, "a b handler", "handler"},
		"around": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(tr.around("a"))
			h.Use(tr.around("b"))
			h.Handle("/x", tr.answering("handler"))
		}, "a( b( handler )b )a", "handler"},
		"behind": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(tr.quick("a"))
			h.Handle("/x", tr.answering("handler"))
			h.Use(tr.quick("b"))
		}, "a handler b", "handler"},
		"abort": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(tr.around("a"))
			h.Use(func(ctx *arpc.Context) {
				ctx.Write("aborted")
				ctx.Abort()
			})
			h.Use(tr.quick("b"))
			h.Handle("/x", tr.answering("handler"))
		}, "a( )a", "aborted"},
		"answered": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(tr.answering("a"))
			h.Use(tr.quick("b"))
			h.Handle("/x", tr.answering("handler"))
		}, "a", "a"},
		"answeredAndNext": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(func(ctx *arpc.Context) {
				ctx.Write("early")
				ctx.Next()
			})
			h.Handle("/x", tr.answering("handler"))
		}, "handler", "early"},
		"abortByTheHandler": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Handle("/x", func(ctx *arpc.Context) {
				ctx.Write("x")
				ctx.Abort()
			})
			h.Use(tr.quick("b"))
		}, "", "x"},
		"nextTwice": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Use(func(ctx *arpc.Context) {
				ctx.Next()
				ctx.Next()
			})
			h.Handle("/x", tr.answering("handler"))
		}, "handler", "handler"},
		"answersBehind": {func(h *arpc.Handler, tr *suiteTrace) {
			h.Handle("/x", tr.quick("handler"))
			h.Use(tr.answering("b"))
		}, "handler b", "b"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				tr := new(suiteTrace)
				test.register(p.Server.Handler, tr)
				var reply string
				require.NoError(t, p.Client.Call("/x", nil, &reply, suitePatience))
				require.Equal(t, test.reply, reply)
				require.Eventually(t, func() bool { return test.want == tr.all() }, suitePatience, suiteTick, "some run behind the answer")
			})
		})
	}
}

// Middleware is for notifications too, and for what has no route when
// HandleNotFound is used; it may tell what runs behind it.
func TestSuiteMiddlewareReach(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		seen := make(chan string, 10)
		h := p.Server.Handler
		h.Use(func(ctx *arpc.Context) { ctx.Set("method", ctx.Message.Method()) })
		note := func(ctx *arpc.Context) {
			method, _ := ctx.Get("method")
			seen <- method.(string)
			if ctx.Value("method") != method {
				t.Errorf("Value is not what Get returns")
			}
			ctx.Write("x")
		}
		h.Handle("/x", note)
		h.HandleNotFound(note)
		require.NoError(t, p.Client.Notify("/x", nil, suitePatience))
		require.Equal(t, "/x", suiteNext(t, seen))
		require.NoError(t, p.Client.Notify("/nowhere", nil, suitePatience))
		require.Equal(t, "/nowhere", suiteNext(t, seen))
		require.NoError(t, p.Client.Call("/nowhere", nil, nil, suitePatience))
		require.Equal(t, "/nowhere", suiteNext(t, seen))
	})
}

// What HandleNotFound leaves unanswered is not found.
func TestSuiteNotFoundHandler(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		seen := make(chan string, 1)
		p.Server.Handler.HandleNotFound(func(ctx *arpc.Context) { seen <- ctx.Message.Method() })
		for _, method := range []string{"/a", "/b"} {
			err := p.Client.Call(method, nil, nil, suitePatience)
			require.ErrorIs(t, err, arpc.ErrMethodNotFound)
			require.Equal(t, method, suiteNext(t, seen))
		}
		outcome := suiteAsync(t, p.Client, "/c", nil)
		require.ErrorIs(t, suiteNext(t, outcome).err, arpc.ErrMethodNotFound)
	})
}

// Values of a message are not those of the next.
func TestSuiteContextValuesEnd(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	p.Server.Handler.Handle("/x", func(ctx *arpc.Context) {
		_, had := ctx.Get("key")
		ctx.Set("key", "value")
		ctx.Write(had)
	})
	for range 200 {
		had := true
		require.NoError(t, p.Client.Call("/x", nil, &had, suitePatience))
		require.False(t, had)
	}
}

// suiteCoder appends its name to a payload and takes it off again.
type suiteCoder struct {
	name  string
	trace *suiteTrace
}

func (c suiteCoder) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	c.trace.add("+" + c.name)
	m.Buffer = append(m.Buffer, c.name...)
	m.SetBodyLen(len(m.Buffer) - arpc.HeadLen)
	return m
}

func (c suiteCoder) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	c.trace.add("-" + c.name)
	if !strings.HasSuffix(string(m.Data()), c.name) {
		return nil
	}
	m.Buffer = m.Buffer[:len(m.Buffer)-len(c.name)]
	m.SetBodyLen(len(m.Buffer) - arpc.HeadLen)
	return m
}

// suiteCoded has both ends use the coders, and echo.
func suiteCoded(trace *suiteTrace, names ...string) arpctest.Option {
	return arpctest.Setup(func(server *arpc.Server, client *arpc.Handler) {
		for _, h := range []*arpc.Handler{server.Handler, client} {
			for _, name := range names {
				h.UseCoder(suiteCoder{name, trace})
			}
			h.Handle("/echo", suiteEcho)
			h.HandleStream("/echo", suiteEchoStream)
		}
	})
}

// Coders encode in the order of UseCoder, and decode in reverse.
func TestSuiteCoderOrder(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		tr := new(suiteTrace)
		p := arpctest.New(t, world, suiteCoded(tr, "one", "two"))
		suiteRequireEcho(t, p.Client)
		require.Equal(t, "+one +two -two -one +one +two -two -one", tr.all())
		suiteRequireEcho(t, p.Peer())
	})
}

// Everything that carries a method passes the coders.
func TestSuiteCodersForAll(t *testing.T) {
	tr := new(suiteTrace)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := suiteNumbers(p.Server.Handler, "/n")
		require.NoError(t, p.Client.Notify("/n", 1, suitePatience))
		require.Equal(t, 1, suiteNext(t, got))
		require.NoError(t, p.Client.PushMsg(p.Client.NewMessage(arpc.CmdNotify, "/n", 2), suitePatience))
		require.Equal(t, 2, suiteNext(t, got))
		require.Equal(t, "hello", suiteNext(t, suiteAsync(t, p.Client, "/echo", "hello")).text)
		require.ErrorIs(t, p.Client.Call("/nowhere", nil, nil, suitePatience), arpc.ErrMethodNotFound)
		stream, err := p.Client.OpenStream(t.Context(), "/echo")
		require.NoError(t, err)
		suiteEchoed(t, stream, "over a stream")
		require.NoError(t, stream.Close())
		suiteAlive(t, p)
	}, suiteCoded(tr, "one", "two", "three"))
}

// A message for many is coded once for all that have the same coders.
func TestSuiteCodersOfABroadcast(t *testing.T) {
	suiteWorlds(t, func(t *testing.T, world arpctest.World) {
		tr := new(suiteTrace)
		p := arpctest.New(t, world, suiteCoded(tr, "one"))
		_, news := suiteClients(t, p, 4)
		require.NoError(t, p.Server.Broadcast("/news", "for all"))
		for _, got := range news {
			require.Equal(t, "for all", suiteNext(t, got))
		}
		names := strings.Fields(tr.all())
		require.Len(t, names, 5, "one is encoded, four are decoded")
		require.Equal(t, 1, len(slices.DeleteFunc(names, func(name string) bool { return name == "-one" })))
	})
}

// A request that the other end cannot decode ends with an error, and the
// connection goes on.
func TestSuiteCoderRefuses(t *testing.T) {
	tr := new(suiteTrace)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		plain := p.Dial(arpc.WithHandler(arpc.NewHandler()))
		for range 3 {
			err := plain.Call("/echo", "not coded", nil, suitePatience)
			require.ErrorContains(t, err, "decode")
		}
		suiteAlive(t, p)
	}, suiteCoded(tr, "one"))
}
