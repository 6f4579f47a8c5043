package arpc_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

type suiteBook struct {
	Title string
	Pages int
}

// Every kind of value passes both ways, in both directions.
func TestSuiteCallValues(t *testing.T) {
	text, raw := "by pointer", []byte("by pointer")
	tests := map[string]struct {
		req, rsp, want any
	}{
		"string":           {"hello", new(string), "hello"},
		"bytes":            {[]byte{0, 1, 2}, new([]byte), []byte{0, 1, 2}},
		"struct":           {suiteBook{"Emma", 474}, new(suiteBook), suiteBook{"Emma", 474}},
		"pointer":          {&suiteBook{"Emma", 474}, new(suiteBook), suiteBook{"Emma", 474}},
		"pointerToString":  {&text, new(string), text},
		"pointerToBytes":   {&raw, new([]byte), raw},
		"nilPointers":      {(*string)(nil), new(string), ""},
		"buffer":           {bytes.NewBufferString("held"), bytes.NewBufferString("what it held before"), "held"},
		"nilBuffer":        {(*bytes.Buffer)(nil), bytes.NewBufferString("what it held before"), ""},
		"nil":              {nil, new([]byte), []byte{}},
		"error":            {errors.New("a text"), new(string), "a text"},
		"number":           {42, new(int), 42},
		"slice":            {[]int{1, 2}, new([]int), []int{1, 2}},
		"map":              {map[string]int{"a": 1}, new(map[string]int), map[string]int{"a": 1}},
		"stringThatIsJSON": {`"quoted"`, new(string), `"quoted"`},
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, test := range tests {
			for _, c := range []*arpc.Client{p.Client, p.Peer()} {
				require.NoError(t, c.Call("/echo", test.req, test.rsp, suitePatience), name)
				require.EqualValues(t, test.want, suiteDeref(test.rsp), name)
				require.NoError(t, c.Call("/echo", test.req, nil, suitePatience), name)
			}
		}
	}, arpctest.Setup(suiteWithEcho))
}

func suiteDeref(p any) any {
	switch p := p.(type) {
	case *string:
		return *p
	case *[]byte:
		return *p
	case *bytes.Buffer:
		return p.String()
	case *suiteBook:
		return *p
	case *int:
		return *p
	case *[]int:
		return *p
	case *map[string]int:
		return *p
	}
	return p
}

// What a handler binds and writes.
func TestSuiteBind(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/next", func(ctx *arpc.Context) {
			var book suiteBook
			if err := ctx.Bind(&book); err != nil {
				ctx.Error(err)
				return
			}
			book.Pages++
			ctx.Write(&book)
		})
		var next suiteBook
		require.NoError(t, p.Client.Call("/next", suiteBook{"Emma", 1}, &next, suitePatience))
		require.Equal(t, suiteBook{"Emma", 2}, next)
		suiteRemote(t, p.Client.Call("/next", "{not json", &next, suitePatience), "decode")
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// What Bind gave may be kept when the handler has returned.
func TestSuiteBindCopies(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		kept := make(chan []byte, 100)
		p.Server.Handler.Handle("/keep", func(ctx *arpc.Context) {
			var b []byte
			ctx.Bind(&b)
			kept <- b
		})
		for i := range cap(kept) {
			require.NoError(t, p.Client.Notify("/keep", []byte{byte(i), byte(i), byte(i)}, suitePatience))
		}
		suiteAlive(t, p)
		for i := range cap(kept) {
			require.Equal(t, []byte{byte(i), byte(i), byte(i)}, suiteNext(t, kept))
		}
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteErrorAnswers(t *testing.T) {
	answers := map[string]arpc.HandlerFunc{
		"anError":         func(ctx *arpc.Context) { ctx.Error(errors.New("no luck today")) },
		"aText":           func(ctx *arpc.Context) { ctx.Error("no luck today") },
		"anErrorWithCode": func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeNotFound, "no luck today")) },
		"anErrorWritten":  func(ctx *arpc.Context) { ctx.Write(errors.New("no luck today")) },
		"aWrappedError": func(ctx *arpc.Context) {
			ctx.Error(arpc.Errorf(arpc.CodeAborted, "no luck today: %w", context.Canceled))
		},
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, answer := range answers {
			p.Server.Handler.Handle(name, answer)
			var reply string
			err := p.Client.Call(name, nil, &reply, suitePatience)
			suiteRemote(t, err, "no luck today")
			require.NotErrorIs(t, err, context.Canceled, "the caller's own context did not end")
			require.Empty(t, reply)
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteNotFound(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			err := c.Call("/nowhere", "x", nil, suitePatience)
			require.ErrorIs(t, err, arpc.ErrMethodNotFound)
			require.Equal(t, arpc.CodeUnimplemented, arpc.CodeOf(err))
			suiteRemote(t, err, "method not found")
			require.NoError(t, c.Notify("/nowhere", "x", suitePatience), "nobody can know")
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteEncodeErrors(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		wrote := make(chan error, 1)
		p.Server.Handler.Handle("/unencodable", func(ctx *arpc.Context) { wrote <- ctx.Write(make(chan int)) })
		suiteRemote(t, p.Client.Call("/unencodable", nil, nil, suitePatience), "encode chan int")
		require.Error(t, suiteNext(t, wrote))

		sends := map[string]func() error{
			"call":   func() error { return p.Client.Call("/echo", make(chan int), nil, suitePatience) },
			"with":   func() error { return p.Client.CallWith(t.Context(), "/echo", make(chan int), nil) },
			"async":  func() error { return p.Client.CallAsync("/echo", make(chan int), suiteNever(t), suitePatience) },
			"notify": func() error { return p.Client.Notify("/echo", make(chan int), suitePatience) },
			"push": func() error {
				return p.Client.PushMsg(p.Client.NewMessage(arpc.CmdNotify, "/echo", make(chan int)), suitePatience)
			},
			"broadcast": func() error { return p.Server.Broadcast("/echo", make(chan int)) },
		}
		for name, send := range sends {
			err := send()
			require.ErrorContains(t, err, "encode chan int", name)
			suiteUnsent(t, err, arpc.CodeInternal)
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// suiteNever is a callback that must not be called.
func suiteNever(t testing.TB) func(*arpc.Context) {
	return func(*arpc.Context) { t.Error("the callback ran for a call that was not sent") }
}

func TestSuiteDecodeErrors(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		var number int
		err := p.Client.Call("/echo", "not a number", &number, suitePatience)
		require.ErrorContains(t, err, "decode *int")
		require.ErrorAs(t, err, new(*arpc.Error))
		require.False(t, arpc.IsRemote(err))
		require.False(t, arpc.SafeToRetry(err), "the request was handled")

		bound := make(chan error, 1)
		callback := func(ctx *arpc.Context) { bound <- ctx.Bind(&number) }
		require.NoError(t, p.Client.CallAsync("/echo", "not a number", callback, suitePatience))
		require.ErrorContains(t, suiteNext(t, bound), "decode *int")
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteCallArguments(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(suiteWithEcho))
	long := strings.Repeat("x", arpc.MaxMethodLen+1)
	sends := map[string]func() error{
		"noTimeout":       func() error { return p.Client.Call("/echo", nil, nil, 0) },
		"negativeTimeout": func() error { return p.Client.Call("/echo", nil, nil, -1) },
		"asyncNoTimeout":  func() error { return p.Client.CallAsync("/echo", nil, suiteNever(t), 0) },
		"noCallback":      func() error { return p.Client.CallAsync("/echo", nil, nil, suitePatience) },
		"negativeNotify":  func() error { return p.Client.Notify("/echo", nil, -1) },
		"noMessage":       func() error { return p.Client.PushMsg(nil, suitePatience) },
		"noMethod":        func() error { return p.Client.Call("", nil, nil, suitePatience) },
		"longMethod":      func() error { return p.Client.Call(long, nil, nil, suitePatience) },
		"longNotify":      func() error { return p.Client.Notify(long, nil, suitePatience) },
		"longAsync":       func() error { return p.Client.CallAsync(long, nil, suiteNever(t), suitePatience) },
		"longBroadcast":   func() error { return p.Server.Broadcast(long, nil) },
		"nilTarget":       func() error { return p.Client.Call("/echo", nil, (*string)(nil), suitePatience) },
		"nilBuffer":       func() error { return p.Client.Call("/echo", nil, (*bytes.Buffer)(nil), suitePatience) },
	}
	for name, send := range sends {
		t.Run(name, func(t *testing.T) { suiteUnsent(t, send(), arpc.CodeInvalidArgument) })
	}
	p.Server.Handler.Handle(long[1:], suiteEcho)
	require.NoError(t, p.Client.Call(long[1:], nil, nil, arpc.TimeForever), "127 bytes are allowed")
}

// suiteGate is a handler that tells when it has begun, and answers when let go.
type suiteGate struct {
	began, release chan struct{}
}

func newSuiteGate() *suiteGate {
	return &suiteGate{began: make(chan struct{}), release: make(chan struct{})}
}

func (g *suiteGate) handle(ctx *arpc.Context) {
	g.began <- struct{}{}
	<-g.release
	ctx.Write(ctx.Body())
}

// Ending the context of a call ends the call at once, and not the connection.
// The answer that comes later finds nobody.
func TestSuiteCallWithCanceled(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		missed := make(chan string, 1)
		p.Client.Handler.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) { missed <- m.Method() })
		c := p.Dial()
		gate := newSuiteGate()
		p.Server.Handler.Handle("/wait", gate.handle)
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- c.CallWith(ctx, "/wait", nil, nil) }()
		suiteNext(t, gate.began)
		cancel(errors.New("had enough"))
		err := suiteNext(t, result)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "had enough")
		require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(err))
		require.False(t, arpc.IsRemote(err))
		require.False(t, arpc.SafeToRetry(err), "the request was sent")
		suiteRequireEcho(t, c)
		close(gate.release)
		require.Equal(t, "/wait", suiteNext(t, missed))
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteDeadlines(t *testing.T) {
	waits := map[string]func(c *arpc.Client) error{
		"Call": func(c *arpc.Client) error { return c.Call("/wait", nil, nil, time.Millisecond) },
		"CallWith": func(c *arpc.Client) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			return c.CallWith(ctx, "/wait", nil, nil)
		},
		"CallAsync": func(c *arpc.Client) error {
			result := make(chan error)
			callback := func(ctx *arpc.Context) { result <- ctx.Bind(nil) }
			if err := c.CallAsync("/wait", nil, callback, time.Millisecond); err != nil {
				return err
			}
			return <-result
		},
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		release := make(chan struct{})
		defer close(release)
		p.Server.Handler.Handle("/wait", func(*arpc.Context) { <-release })
		for name, wait := range waits {
			err := wait(p.Client)
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err), name)
			require.False(t, arpc.IsRemote(err), name)
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// A context that has ended already sends nothing.
func TestSuiteEndedContext(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/count", func(*arpc.Context) { t.Error("the request was sent") })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range []error{
			p.Client.CallWith(ctx, "/count", nil, nil),
			p.Client.NotifyWith(ctx, "/count", nil),
		} {
			require.ErrorIs(t, err, context.Canceled)
			suiteUnsent(t, err, arpc.CodeCanceled)
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}
